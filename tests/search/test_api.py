"""Sweeps and searches from a script: the same files and the same answers as from the command line."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
import torch

import search
from analysis.write.report import csv_bytes
from mtl.errors import BadInput
from mtl.networks.checkpoint import load_checkpoint
from search import SweepResult, load, load_recipe, run_search, run_sweep
from search.cli import main

RECIPE = {
    **{"image_size": 32, "backbone_width": 8, "head_channels": 8, "epochs": 1, "batch_size": 8},
    **{"tasks": ["segmentation", "depth"], "dataset_options": {"train": 16, "val": 8, "test": 8}},
    **{"combinations": ["depth", "segmentation+depth"], "lambdas": [0, 1e-2], "seeds": 2},
    **{"compressors": ["penalty"], "targets": [], "search_space": {}},
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return run_sweep("rooms", storage=str(tmp_path_factory.mktemp("api")), here=True, **RECIPE)


def test_a_sweep_gives_what_the_command_line_reads(swept: SweepResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(swept.trials) == 8
    assert set(swept.trials["status"]) == {"done"}
    assert len(swept.history) == swept.trials["epochs_run"].sum()
    assert main(["analyze", swept.store]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:-1] == swept.summary
    assert csv_bytes(swept.settings) == (Path(swept.store) / "analysis" / "front.csv").read_bytes()
    assert len(swept.front) == swept.settings["on_cost_front"].sum() > 0


def test_the_model_to_use_is_compacted(swept: SweepResult) -> None:
    best = swept.best()
    assert best.tasks == "segmentation+depth"
    assert best.trial_id in set(swept.trials["trial_id"])
    assert best.row["best"]
    images = torch.randn(1, 3, 32, 32)
    model = load_checkpoint(swept.model_path()).model
    for name, value in swept.compact(images=images)(images).items():
        torch.testing.assert_close(value, model(images)[name], rtol=1e-4, atol=1e-5)


def test_a_notebook_shows_it(swept: SweepResult) -> None:
    page = ElementTree.fromstring(swept._repr_html_())
    assert page.find("{http://www.w3.org/2000/svg}svg") is not None
    assert page.find("table") is not None
    assert swept.plot_front().name == "cost"
    assert swept.plot_front()._repr_png_().startswith(b"\x89PNG")


def test_what_there_is_not_is_refused_by_name(swept: SweepResult, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"did you mean segmentation\+depth\?"):
        swept.best("segmentation+dept")
    with pytest.raises(BadInput, match="figure 'affinty'; "):
        swept.plot("affinty")
    with pytest.raises(BadInput, match="allowed: a trial of"):
        swept.model_path("0" * 16)
    with pytest.raises(BadInput, match="did you mean lambdas"):
        run_sweep("rooms", storage=str(tmp_path), lamdas=[0])
    with pytest.raises(BadInput, match="one of the two"):
        run_sweep("rooms", storage=str(tmp_path), here=True, address="local")
    with pytest.raises(BadInput, match="no sweep"):
        load(tmp_path)
    assert not hasattr(search, "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_made_in_the_script_runs_no_trial_twice(swept: SweepResult) -> None:
    recipe = load_recipe("rooms", fields=RECIPE)
    storage = str(Path(swept.store).parent)
    again = run_sweep(recipe, storage=storage, here=True)
    tables = [one.trials.sort_values("trial_id", ignore_index=True) for one in (again, swept)]
    pd.testing.assert_frame_equal(*tables)
    assert again.store == swept.store


def test_a_search(swept: SweepResult) -> None:
    storage = str(Path(swept.store).parent)
    fields = {**RECIPE, "combinations": ["depth"], "seeds": 1, "search_space": {"lambda": [1e-3, 1]}}
    found = run_search("rooms", trials=2, name="searched", storage=storage, here=True, **fields)
    assert len(found.trials) == 3  # two proposals and the dense model
    assert found.best("depth").trial_id

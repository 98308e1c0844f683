"""The study in small: from training to tables, and that docs/study.md says what is recorded."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from analysis.compute.merge import load_sweeps
from benchmarks.study.baselines import CoupledTraining, train_baselines
from benchmarks.study.figures import PICTURES, draw
from benchmarks.study.latencies import measure_latencies
from benchmarks.study.parts import ALL_FACES, FULL, MASKS, NYU, PAPER, QUICK, TRIPLE, parts
from benchmarks.study.record import BASELINES, LATENCIES, RECORDING, record
from benchmarks.study.rows import over, trials
from benchmarks.study.run import on_data, train
from benchmarks.study.tables import narrow_beside, tables, updated
from search.engine.runner import LocalRunner
from search.engine.trial import trial_data
from search.recipe import expand
from search.recipe_file import load_recipe
from search.sweep import open_sweep
from tests.support.paths import ROOT

WITHOUT_DATA = {NYU: None, MASKS: None}
SMALL = ("image_size=16", "backbone_width=8", "head_channels=4")
TINY = replace(
    QUICK,
    seeds=(1, 1, 1),
    targets=(0.5,),
    lambdas="0,1e-2",
    nyu=(*SMALL, "dataset_options.classes=13"),
    faces=(*SMALL, "epochs=1"),
    epochs=1,
    slow_epochs=1,
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sweeps of a tiny study on rooms and drawn faces, trained in this process."""
    folder = tmp_path_factory.mktemp("study")
    every = parts(TINY)
    kept = [part for part in every if {f"combinations={TRIPLE}", f"combinations={ALL_FACES}"} & set(part.fields)]
    assert train(kept, folder, WITHOUT_DATA, LocalRunner)
    train_baselines(next(part for part in every if part.name == PAPER), folder, WITHOUT_DATA, folder / BASELINES)
    latencies = measure_latencies(load_sweeps([folder / "nyuv2"]), TRIPLE, rounds=1)
    latencies.to_parquet(folder / LATENCIES, index=False)
    return folder


def test_a_tiny_study_has_every_table_and_figure_and_its_rows_are_enough_for_them(
    storage: Path, tmp_path: Path
) -> None:
    found = tables(storage)
    assert found.count("**") == 2 * 15
    assert "nan" not in found
    assert "dense, Adam with coupled L2 (as published)" in found
    pictures = draw(storage)
    assert pictures.keys() == PICTURES.keys()
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    record(storage, tmp_path)
    assert tables(tmp_path) == found
    assert not list(tmp_path.rglob("*.pt"))


def test_baselines_that_are_there_are_not_trained_again(storage: Path, tmp_path: Path) -> None:
    file = tmp_path / BASELINES
    before = pd.read_parquet(storage / BASELINES).assign(test_depth_mae=7.0)
    before.to_parquet(file, index=False)
    part = next(part for part in parts(TINY) if part.name == PAPER)
    train_baselines(part, storage, WITHOUT_DATA, file)
    assert pd.read_parquet(file).equals(before)


def test_the_coupled_baseline_is_another_training_of_the_same_seed(storage: Path) -> None:
    coupled = pd.read_parquet(storage / BASELINES).set_index("seed")
    rows = trials(load_sweeps([storage / "nyuv2-paper"]))
    dense = rows[rows["method"] == "dense"].set_index("seed")
    assert coupled.index.tolist() == dense.index.tolist()
    assert (coupled["test_depth_mae"] != dense["test_depth_mae"]).all()


def test_longer_models_are_measured_against_the_dense_models_that_are_given() -> None:
    sweep = SimpleNamespace(
        tasks={"a": "a_iou", "b": "b_error"},
        metrics={"a_iou": SimpleNamespace(maximize=True), "b_error": SimpleNamespace(maximize=False)},
    )
    dense = pd.DataFrame({"seed": [1, 0], "test_a_iou": [0.5, 0.2], "test_b_error": [2.0, 1.0]})
    rows = pd.DataFrame({"seed": [0, 1], "test_a_iou": [0.3, 0.5], "test_b_error": [1.5, 1.0]})
    found = over(rows, dense, sweep)["delta_m"]  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx([(0.5 - 0.5) / 2, (0 + 0.5) / 2])


def test_the_published_dense_models_decay_all_parameters_but_the_task_weights(storage: Path) -> None:
    part = next(part for part in parts(TINY) if part.name == PAPER)
    sweep = open_sweep(load_recipe(part.recipe, on_data(part, storage, WITHOUT_DATA)[0]), str(storage), part.name, None)
    training = CoupledTraining(sweep.configs[0], *trial_data(sweep.configs[0], None), torch.device("cpu"))
    network, learned = training.optimizer.param_groups
    assert {id(p) for p in network["params"]} == {id(p) for p in training.model.parameters()}
    assert (network["weight_decay"], network["lr"], learned["weight_decay"]) == (0.1, 1e-4, 0.0)
    assert not network["decoupled_weight_decay"]


def test_a_narrow_network_stands_beside_at_no_more_cost() -> None:
    rows = pd.DataFrame(
        {"method": "narrow", "target_macs": [0.5, 0.5, 0.25, 0.25], "cost": [0.5, 0.48, 0.2, 0.2]}
        | {"delta_m": [-0.1, -0.1, -0.2, -0.2]}
    )
    assert narrow_beside(rows, 0.6).endswith("at 49 % of the MACs")
    assert narrow_beside(rows, 0.4).endswith("at 20 % of the MACs")
    assert narrow_beside(rows, 0.1).endswith("at 20 % of the MACs"), "the smallest, where none is so cheap"


def test_a_page_gets_new_tables_in_the_place_of_its_old_ones() -> None:
    page = "Text.\n\n**one**\n\n| a |\n|---|\n| 1 |\n| 2 |\n\nMore.\n\n**two**\n\nEnd.\n"
    found = "**two**\n\n| b |\n|---|\n| 3 |\n\n**one**\n\n| a |\n|---|\n| 4 |"
    new = updated(page, found)
    assert new == page.replace("| 1 |\n| 2 |", "| 4 |").replace("**two**\n", "**two**\n\n| b |\n|---|\n| 3 |\n")
    assert updated(new, found) == new
    with pytest.raises(ValueError, match="no table"):
        updated("Text.", found)


def test_the_full_study_has_all_combinations_costs_and_seeds() -> None:
    counted: dict[tuple[str, str], set[tuple[float, int]]] = {}
    for part in parts(FULL):
        if part.name in ("nyuv2", "celebamask"):
            for config in expand(load_recipe(part.recipe, list(part.fields)), "made-up"):
                if config.compressor in ("path", "narrow"):
                    costs = counted.setdefault((part.name, config.combination), set())
                    costs.add((config.target_macs, config.seed))
    assert len([one for one in counted if one[0] == "nyuv2"]) == 7
    assert len([one for one in counted if one[0] == "celebamask"]) == 6
    for (name, combination), costs in counted.items():
        all_tasks = combination.count("+") == 2
        assert len({cost for cost, _ in costs}) >= (5 if all_tasks or name == "nyuv2" else 3)
        assert len({seed for _, seed in costs}) >= (5 if all_tasks else 3)


def test_docs_say_what_is_recorded() -> None:
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    for table in tables(RECORDING).split("\n\n**"):
        assert table.split("\n\n", 1)[1].strip() in page, f"docs/study.md lacks {table.splitlines()[0]}"

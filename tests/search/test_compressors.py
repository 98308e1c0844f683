"""Ways to make a model smaller, side by side in one sweep: trials like any other, each at its share of the cost."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.compute.missing import missing_table
from analysis.figures.latency import latency_panels
from analysis.read.load import load_sweep
from mtl.errors import BadInput
from search.cli import main
from search.recipe import Recipe, expand
from search.recipe_file import load_recipe
from tests.support.commands import rows, run_here
from tests.support.in_process import without_ray, words

ALL = ("penalty", "path", "selection", "magnitude", "random", "narrow")
SETS = ("epochs=3", f"compressors={','.join(ALL)}", "targets=0.5,0.2", "head_channels=8", "backbone_width=8")


def recipe(*sets: str) -> Recipe:
    return load_recipe("rooms", ["combinations=depth", "seeds=1", *sets])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("swept")
    with without_ray():
        assert main(words("sweep", storage, sets=SETS)) == 0
    return storage / "rooms"


def test_each_compressor_keeps_to_its_targets_for_the_same_epochs(swept: Path) -> None:
    table = rows(swept)
    assert (len(table), set(table["status"])) == (2 + 5 * 2, {"done"})
    path = table["settings"].str.startswith("compressor=path")
    assert (set(table["epochs_run"][~path]), set(table["epochs_run"][path])) == ({3}, {1})
    dense = table[(table["lambda"] == 0) & (table["settings"] == "")]
    (full,) = dense["model_macs"]
    for compressor in ALL[1:]:
        for target in (0.5, 0.2):
            (row,) = table[table["settings"] == f"compressor={compressor} target_macs={target:g}"].to_dict("records")
            assert 0.5 * target < row["model_macs"] / full <= target
            assert row["lambda"] == 0
            assert row["delta_m"] != 0
    # Only the dense model itself is what delta_m is measured against.
    assert dense["delta_m"].tolist() == [0]


def test_a_path_starts_from_the_dense_model_and_goes_from_target_to_target(swept: Path) -> None:
    table = pd.read_parquet(swept / "results.parquet").set_index("settings")
    dense, half, fifth = (table.loc[f"compressor=path target_macs={t}"] if t else table.loc[""] for t in ("", 0.5, 0.2))
    ids = dense.loc[dense["lambda"] == 0, "trial_id"].tolist()
    assert [half["warm_started_from"], fifth["warm_started_from"]] == [*ids, half["trial_id"]]
    assert half["started_at"] >= dense.loc[dense["lambda"] == 0, "ended_at"].item()
    assert fifth["started_at"] >= half["ended_at"]
    assert table["warm_started_from"].notna().sum() == 2


def test_a_step_of_a_path_without_the_model_before_says_so(swept: Path, tmp_path: Path) -> None:
    table = rows(swept).set_index("settings")
    half, fifth = (table.loc[f"compressor=path target_macs={t}", "trial_id"] for t in (0.5, 0.2))
    shutil.copytree(swept, tmp_path / "rooms")
    (tmp_path / "rooms" / "trials" / half / "model.pt").unlink()
    shutil.rmtree(tmp_path / "rooms" / "trials" / fifth)
    with without_ray():
        assert main(words("sweep", tmp_path, sets=SETS)) == 1
    error = rows(tmp_path / "rooms").set_index("trial_id").loc[fifth, "error"]
    assert f"trials/{half}/model.pt: is missing; this trial starts from it" in error


def test_they_are_methods_of_their_own_in_the_analysis(swept: Path) -> None:
    methods = set(load_sweep(swept).results["method"])
    assert {"group_lasso", "selection target_macs=0.2", "narrow target_macs=0.5"} <= methods
    assert main(["analyze", str(swept)]) == 0


def test_nothing_of_the_analysis_takes_them_for_dense_models(swept: Path) -> None:
    """They stand at λ = 0 too: a dense model that has not ended is missing, and its latency is its own."""
    sweep = load_sweep(swept)
    results = sweep.results.assign(latency_ms=sweep.results["model_macs"])
    dense = results["lambda"].eq(0) & results["settings"].eq("")
    (panel,) = latency_panels(replace(sweep, results=results))
    at_zero = panel.rows.loc[panel.rows["lambda"] == 0, "latency_ms_mean"]
    assert at_zero.tolist() == results.loc[dense, "latency_ms"].tolist()
    assert missing_table(sweep).empty
    without = missing_table(replace(sweep, results=results[~dense]))
    assert without["lambda"].tolist() == [0]


def test_more_targets_run_only_the_new_trials(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.rglob("result.json")}
    _, err = run_here(
        words("sweep", swept.parent, sets=(*SETS, "targets=0.5,0.2,0.3", "compressors=narrow")), 0, capsys
    )
    assert "3 done before, 1 to run" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(pd.read_parquet(swept / "results.parquet")) == len(before) + 1


def test_the_trials_of_a_recipe() -> None:
    made = expand(recipe("lambdas=0,1e-2", "compressors=selection,narrow", "targets=0.5,0.25"), "data")
    assert [(one.compressor, one.strength, one.target_macs) for one in made] == [
        ("penalty", 0, 1),
        *((name, 0, target) for name in ("selection", "narrow") for target in (0.5, 0.25)),
    ]
    assert recipe("compressors=selection,narrow", "targets=0.5,0.25").trial_count == 5
    without_dense = expand(recipe("lambdas=1e-2", "compressors=narrow", "targets=0.5"), "data")
    assert [(one.compressor, one.strength) for one in without_dense] == [("penalty", 0), ("narrow", 0)]
    assert made[0].trial_id == expand(recipe("lambdas=0"), "data")[0].trial_id


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["compressors=selection"], "targets = [] with compressors = ['selection']"),
        (["targets=0.5"], "targets = [0.5] with compressors = ['penalty']"),
        (["compressors=selection", "targets=1.5"], "targets = 1.5; allowed: less than or equal to 1"),
        (["compressors=prune", "targets=0.5"], "compressors = prune; allowed: 'penalty', 'path'"),
        (["compressors=narrow,narrow", "targets=0.5"], "compressors = ['narrow', 'narrow']; allowed: each value once"),
    ],
)
def test_what_does_not_fit_together_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(*sets)
    assert said in str(caught.value)

"""Ways to make a model smaller, side by side in one sweep: trials like any other, each at its share of the cost."""

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

ALL = ("penalty", "penalty_to_target", "selection", "magnitude", "random", "narrow")
COMPRESSORS = f"compressors={','.join(ALL)}"
SMALL = ("epochs=3", "head_channels=8", "backbone_width=8")
SETS = (*SMALL, COMPRESSORS, "targets=0.5,0.2", "group_sparsity_targets=0.7")


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
    assert (len(table), set(table["status"]), set(table["epochs_run"])) == (2 + 5 * 2 + 1, {"done"}, {3})
    dense = table[(table["lambda"] == 0) & (table["settings"] == "")]
    (full,) = dense["model_macs"]
    for compressor in ALL[1:]:
        for target in (0.5, 0.2):
            (row,) = table[table["settings"] == f"compressor={compressor} target_macs={target:g}"].to_dict("records")
            assert 0.5 * target < row["model_macs"] / full <= target
            assert row["lambda"] == 0
            assert row["delta_m"] != 0
    (row,) = table[table["settings"] == "compressor=penalty_to_target target_group_sparsity=0.7"].to_dict("records")
    assert abs(row["group_sparsity"] - 0.7) < 0.02
    # Only the dense model itself is what delta_m is measured against.
    assert dense["delta_m"].tolist() == [0]


def test_they_are_methods_of_their_own_in_the_analysis(swept: Path) -> None:
    methods = set(load_sweep(swept).results["method"])
    assert {"group_lasso", "selection target_macs=0.2", "narrow target_macs=0.5"} <= methods
    assert {"penalty_to_target target_macs=0.2", "penalty_to_target target_group_sparsity=0.7"} <= methods
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
        words("sweep", swept.parent, sets=(*SMALL, "targets=0.5,0.2,0.3", "compressors=narrow")), 0, capsys
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
    both = expand(recipe("lambdas=0", "compressors=penalty_to_target", "targets=0.5", "group_sparsity_targets=0.7"), "")
    assert [(one.target_macs, one.target_group_sparsity) for one in both] == [(1, 0), (0.5, 0), (1, 0.7)]
    only = recipe("lambdas=0", "compressors=penalty_to_target", "group_sparsity_targets=0.7")
    assert only.trial_count == len(expand(only, "")) == 2
    without_dense = expand(recipe("lambdas=1e-2", "compressors=narrow", "targets=0.5"), "data")
    assert [(one.compressor, one.strength) for one in without_dense] == [("penalty", 0), ("narrow", 0)]
    assert made[0].trial_id == expand(recipe("lambdas=0"), "data")[0].trial_id


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["compressors=selection"], "targets = [] with compressors = ['selection']"),
        (["targets=0.5"], "targets = [0.5] with compressors = ['penalty']"),
        (["compressors=penalty_to_target"], "targets = [] with compressors = ['penalty_to_target']"),
        (["group_sparsity_targets=0.5"], "group_sparsity_targets = [0.5] with compressors = ['penalty']"),
        (
            ["compressors=selection,penalty_to_target", "group_sparsity_targets=0.5"],
            "targets = [] with compressors = ['selection', 'penalty_to_target']",
        ),
        (["penalised=all", "retraining=none,fine_tune"], "penalised = all with retraining = ['none', 'fine_tune']"),
        (["penalised=heads"], "penalised = heads; allowed: 'backbone' or 'all'"),
        (["compressors=penalty_to_target", "group_sparsity_targets=0"], "allowed: greater than 0"),
        (["compressors=penalty_to_target", "targets=0.5", "penalty=l1"], "penalty = l1 with compressors"),
        (["compressors=selection", "targets=1.5"], "targets = 1.5; allowed: less than or equal to 1"),
        (
            ["compressors=prune", "targets=0.5"],
            "compressors = prune; allowed: 'penalty', 'penalty_to_target', 'selection'",
        ),
        (["compressors=narrow,narrow", "targets=0.5"], "compressors = ['narrow', 'narrow']; allowed: each value once"),
    ],
)
def test_what_does_not_fit_together_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(*sets)
    assert said in str(caught.value)

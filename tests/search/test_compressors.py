"""Ways to make a model smaller, side by side in one sweep: trials like any other, each at its share of the cost."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.compute.everything import compute
from analysis.compute.missing import missing_table
from analysis.figures.latency import latency_panels
from analysis.read.load import load_sweep
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.networks.smaller import SIZES, resized
from mtl.vocabulary.files import MODEL, trial_file
from search.cli import main
from search.recipe import Recipe, expand
from search.recipe_file import load_recipe
from search.targets import check_targets
from tests.support.commands import refused, rows, run_here
from tests.support.in_process import PENALTY_ALONE, without_ray, words

ALL = (
    *("penalty", "penalty_to_target", "path", "selection", "magnitude", "random", "narrow"),
    *("torch_pruning_norm", "torch_pruning_taylor"),
)
HALF, FIFTH = "compressor=path target_macs=0.5", "compressor=path target_macs=0.2 via=0.5"
COMPRESSORS = f"compressors={','.join(ALL)}"
SMALL = ("epochs=3", "head_channels=8", "backbone_width=8")
SETS = (*SMALL, COMPRESSORS, "targets=0.5,0.2", "group_sparsity_targets=0.7")


def recipe(*sets: str) -> Recipe:
    return load_recipe("rooms", ["combinations=depth", "seeds=1", *PENALTY_ALONE, *sets])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("swept")
    with without_ray():
        assert main(words("sweep", storage, sets=SETS)) == 0
    return storage / "rooms"


def test_each_compressor_keeps_to_its_targets_for_the_same_epochs(swept: Path) -> None:
    table = rows(swept)
    assert (len(table), set(table["status"])) == (2 + 8 * 2 + 1, {"done"})
    path = table["settings"].str.startswith("compressor=path")
    assert (set(table["epochs_run"][~path]), set(table["epochs_run"][path])) == ({3}, {1})
    dense = table[(table["lambda"] == 0) & (table["settings"] == "")]
    (full,) = dense["model_macs"]
    for compressor in ALL[1:]:
        for target in (0.5, 0.2):
            chosen = table["settings"].str.startswith(f"compressor={compressor} target_macs={target:g}")
            (row,) = table[chosen].to_dict("records")
            assert 0.5 * target < row["model_macs"] / full <= target
            assert row["lambda"] == 0
            assert row["delta_m"] != 0
    (row,) = table[table["settings"] == "compressor=penalty_to_target target_group_sparsity=0.7"].to_dict("records")
    assert abs(row["group_sparsity"] - 0.7) < 0.02
    # Only the dense model itself is what delta_m is measured against.
    assert dense["delta_m"].tolist() == [0]


def test_a_path_starts_from_the_dense_model_and_goes_from_target_to_target(swept: Path) -> None:
    table = pd.read_parquet(swept / "results.parquet").set_index("settings")
    dense, half, fifth = (table.loc[name] for name in ("", HALF, FIFTH))
    ids = dense.loc[dense["lambda"] == 0, "trial_id"].tolist()
    assert [half["warm_started_from"], fifth["warm_started_from"]] == [*ids, half["trial_id"]]
    assert half["started_at"] >= dense.loc[dense["lambda"] == 0, "ended_at"].item()
    assert fifth["started_at"] >= half["ended_at"]
    assert table["warm_started_from"].notna().sum() == 2
    assert [half["epochs_in_all"], fifth["epochs_in_all"]] == [3 + 1, 3 + 1 + 1]
    others = table[table["warm_started_from"].isna()]
    assert others["epochs_in_all"].tolist() == others["epochs_run"].tolist()
    assert any("up to 5 epochs in all, the others up to 3." in one for one in compute(swept).cautions)


def test_a_step_of_a_path_without_the_model_before_says_so(swept: Path, tmp_path: Path) -> None:
    table = rows(swept).set_index("settings")
    half, fifth = (table.loc[name, "trial_id"] for name in (HALF, FIFTH))
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


def test_unfinished_ones_are_named(swept: Path) -> None:
    sweep = load_sweep(swept)
    gone = sweep.results["settings"].isin(["compressor=narrow target_macs=0.5", "compressor=random target_macs=0.2"])
    missing = missing_table(replace(sweep, results=sweep.results[~gone]))
    assert missing["method"].tolist() == ["random target_macs=0.2", "narrow target_macs=0.5"]
    assert (missing[["lambda", "seed"]] == 0).all(axis=None)
    assert set(missing["state"]) == {"not finished"}
    failed = sweep.results.assign(status=sweep.results["status"].where(~gone, "failed"))
    named = missing_table(replace(sweep, results=failed))
    assert (sorted(named["method"]), set(named["state"])) == (sorted(missing["method"]), {"failed"})


def test_a_shallow_network_is_a_trial_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("epochs=1", "backbone_layers=1,2,1,3", "head_channels=8", "backbone_width=4", "seeds=1")
    sets = (*sizes, "compressors=shallow", "targets=0.9,0.6", "combinations=depth")
    with without_ray():
        assert main(words("sweep", tmp_path, sets=sets)) == 0
    table = rows(tmp_path / "rooms").sort_values("model_macs")
    assert table["settings"].tolist() == [
        "compressor=shallow target_macs=0.6",
        "compressor=shallow target_macs=0.9",
        "",
    ]
    shares = table["model_macs"] / table["model_macs"].max()
    assert shares.iloc[0] <= 0.6 < shares.iloc[1] <= 0.9
    model = tmp_path / "rooms" / trial_file(table["trial_id"].iloc[0], MODEL)
    run_here(["compact", str(model), "--out", str(tmp_path / "small.pt")], 0, capsys)


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
        (["compressors=prune", "targets=0.5"], "compressors = prune; allowed: 'penalty', 'penalty_to_target', 'path'"),
        (["prune_at=1"], "prune_at = 1; allowed: less than 1"),
        (["compressors=narrow,narrow", "targets=0.5"], "compressors = ['narrow', 'narrow']; allowed: each value once"),
    ],
)
def test_what_does_not_fit_together_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(*sets)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ["compressors=selection", "targets=0.5,0.001"],
            r"targets has 0\.001, which compressor selection cannot reach; ",
        ),
        (
            ["compressors=torch_pruning_norm", "targets=1e-9"],
            r"compressor torch_pruning_norm cannot reach; allowed: 0\.0",
        ),
        (["compressors=narrow", "targets=1e-4"], "cannot reach; allowed: 0.* or more, what .* costs with a width of 1"),
        (
            ["compressors=shallow", "targets=0.9,0.2", "backbone_layers=2,2,2,2"],
            r"targets has 0\.2, which compressor shallow cannot reach; allowed: 0\.\d+ or more, what "
            r"segmentation\+depth costs with one block in each stage",
        ),
        (
            ["compressors=shallow", "targets=0.5"],
            "compressors has shallow, but the network has one block in each stage",
        ),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_target_out_of_reach_is_refused_before_anything_runs(
    sets: list[str], said: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    combinations = ("tasks=segmentation,depth", "combinations=depth,segmentation+depth")
    err = refused([*words("sweep", tmp_path, sets=("epochs=1", *combinations, *sets)), *more], capsys)
    assert re.search(said, err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compressor", [*ALL[1:], "shallow"])
def test_the_least_that_is_named_is_allowed(compressor: str) -> None:
    """And a little less is not."""
    tasks = load_dataset("rooms", None, {}).tasks
    sets = ("combinations=all", f"compressors={compressor}", "backbone_layers=2,2,2,2")
    with pytest.raises(BadInput) as caught:
        check_targets(recipe(*sets, "targets=1e-6"), tasks)
    least = float(str(caught.value).split("allowed: ")[1].split()[0])
    check_targets(recipe(*sets, f"targets={least}"), tasks)
    with pytest.raises(BadInput):
        check_targets(recipe(*sets, f"targets={0.9 * least}"), tasks)
    one = expand(recipe(*sets, f"targets={least}"), "data")
    for config in one:
        if compressor in SIZES and config.compressor == compressor:
            resized(config, [tasks[name] for name in config.tasks])


def test_a_target_on_group_sparsity_alone_is_enough(tmp_path: Path) -> None:
    alone = (*SMALL, "compressors=penalty_to_target", "group_sparsity_targets=0.5", "lambdas=0")
    with without_ray():
        assert main(words("sweep", tmp_path, sets=alone)) == 0
    assert (
        rows(tmp_path / "rooms")["settings"].tolist().count("compressor=penalty_to_target target_group_sparsity=0.5")
        == 1
    )


@pytest.mark.parametrize("compressor", ["narrow", "shallow"])
def test_pretrained_weights_do_not_fit_a_smaller_network(compressor: str) -> None:
    small = recipe(f"compressors={compressor}", "targets=0.5", "weights=some.pt", "backbone_layers=2,2,2,2")
    with pytest.raises(BadInput, match=rf"^weights = some.pt with compressor {compressor}, whose networks are smaller"):
        check_targets(small, load_dataset("rooms", None, {}).tasks)

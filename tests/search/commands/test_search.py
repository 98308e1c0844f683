"""`parsimony search` on a real Ray: written, continued, killed, extended, reused and answered."""

import json
import shlex
import shutil
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from analysis.compute.everything import compute
from mtl.vocabulary.delta_m import delta_m
from mtl.vocabulary.files import HISTORY, LAYERS, PROPOSALS, RESULTS, SWEEP
from search.tuning.journal import JOURNAL
from tests.support.commands import finished, halted, parsimony, rows, run_here, said_here
from tests.support.in_process import PENALTY_ALONE

TINY = [
    *PENALTY_ALONE,
    "image_size=32", "backbone_width=4", "head_channels=8", "epochs=1", "batch_size=8", "seeds=2", "tasks=depth",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8", "cpus_per_trial=1",
    "checkpoint_seconds=0", "racing=false", "search_space.lambda=[1e-3, 1]",
]  # fmt: skip
# Which the dense model does not keep: the answer has another learning rate than the recipe.
TARGET = "group_sparsity>=0.1"
OPEN = ["search_space.lr=[1e-3, 1e-2]", "retraining=fine_tune"]


def words(storage: Path, *sets: str, command: str = "search", sampler: str = "random") -> list[str]:
    overrides = [word for text in (*TINY, f"sampler={sampler}", *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", str(storage), *overrides]


def told(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The study's trials, as Optuna's own backend reads them."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(storage=storage, study_name=folder.name).trials


def results_files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished search of three proposals with two seeds each, and what it printed."""
    storage = tmp_path_factory.mktemp("searched")
    target = ["--trials", "3", "--target", TARGET]
    out, err = finished(parsimony(*words(storage, *OPEN), *target), 0)
    assert "0 proposals made before, 0 taken from a sweep, 3 to make, 2 seeds each" in err
    return storage / "rooms", out


def test_files_of_a_search(searched: tuple[Path, str]) -> None:
    folder, out = searched
    assert out.startswith("3 proposals, 0 trials failed: ")
    table = rows(folder)
    # The dense proposal's trials are the baselines of the only task; beside them are as many with twice the epochs.
    longer = table["retraining"] == "longer"
    assert (len(table), longer.sum(), set(table["status"])) == (3 * 2 + 2, 2, {"done"})
    assert table["delta_m"].notna().all()
    assert set(zip(table["lambda"][longer], table["epochs_run"][longer], strict=True)) == {(0, 2)}
    assert table["proposal"][longer].isna().all()
    table = table[~longer].reset_index(drop=True)
    assert sorted(table["proposal"]) == [0, 0, 1, 1, 2, 2]
    retrained = table["lambda"] > 0
    assert [set(table[chosen]["retraining"]) for chosen in (retrained, ~retrained)] == [{"fine_tune"}, {"none"}]
    assert [set(table[chosen]["epochs_run"]) for chosen in (retrained, ~retrained)] == [{2}, {1}]
    proposals = pd.read_parquet(folder / PROPOSALS)
    assert list(proposals["proposal"]) == [0, 1, 2]
    assert list(proposals["state"]) == ["complete"] * 3
    assert list(proposals["seeds_run"]) == [2] * 3
    assert proposals["lambda"][0] == 0
    means = table.groupby("proposal")[["delta_m", "group_sparsity", "val_depth_mae"]].mean()
    for name in means:
        assert list(proposals[name]) == pytest.approx(list(means[name]))
    deviations = table.groupby("proposal")["val_depth_mae"].std()
    assert list(proposals["val_depth_mae_sd"]) == pytest.approx(list(deviations))
    trials = told(folder)
    assert [trial.values for trial in trials if trial.state == TrialState.COMPLETE] == [
        pytest.approx([row["delta_m"], row["group_sparsity"]]) for _, row in proposals.iterrows()
    ]
    assert TrialState.RUNNING not in [trial.state for trial in trials]
    sweep = json.loads((folder / SWEEP).read_text())
    assert sweep["trials_planned"] == 8
    assert sweep["search"]["sampler"] == "random"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        *(SWEEP, "progress.json", RESULTS, HISTORY, LAYERS, PROPOSALS, JOURNAL)
    }
    assert not list(folder.rglob("checkpoint.pt"))


def test_the_analysis_keeps_settings_and_retraining_apart_from_the_penalty(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    found = compute(folder)
    assert set(found.marked["penalty"]) == {"group_lasso"}
    ours, written = (one.set_index("trial_id").sort_index() for one in (found.sweep.results, rows(folder)))
    for column in ("penalty", "retraining", "settings"):
        assert ours[column].tolist() == written[column].tolist()
    assert set(written["settings"]) > {""}
    # Δm is over the dense models of the recipe's own learning rate, which alone the search took for baselines.
    primaries = {task: [found.sweep.metrics[primary]] for task, primary in found.sweep.tasks.items()}
    again = delta_m(ours.reset_index(), "test", primaries)
    assert again.tolist() == pytest.approx(written["test_delta_m"].tolist())


def test_search_and_analyze_name_one_model_with_the_command_that_compacts_it(
    searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = searched
    (answer,) = [line for line in out.splitlines() if line.startswith("Model to use for ")]
    assert f"the best in delta_m with {TARGET.replace('>=', ' >= ')}" in answer
    command = shlex.split(answer.rpartition(": ")[2])
    assert command[:2] == ["parsimony", "compact"]
    table = rows(folder).set_index("trial_id")
    chosen = table.loc[Path(command[2]).parent.name]
    proposals = pd.read_parquet(folder / PROPOSALS).set_index("proposal")
    assert chosen["proposal"] == proposals[proposals["group_sparsity"] >= 0.1]["delta_m"].idxmax()
    copied = shutil.copytree(folder, folder.parent / "looked-at")
    printed, _ = said_here(["analyze", str(copied)], 0, capsys)
    assert answer.replace(str(folder), str(copied)) in printed.splitlines()
    best = pd.read_csv(copied / "analysis" / "tables" / "best.csv")
    assert chosen.name in best["trial_id"].tolist()
    shutil.rmtree(copied)
    before = {path.name for path in Path(command[2]).parent.iterdir()}
    said_here(command[1:], 0, capsys)
    for name in {path.name for path in Path(command[2]).parent.iterdir()} - before:
        (Path(command[2]).parent / name).unlink()


def test_the_same_command_does_nothing_and_a_larger_number_extends(
    searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = searched
    same = [*words(folder.parent, *OPEN), "--target", TARGET, "--trials"]
    before, journal = results_files(folder), (folder / JOURNAL).read_bytes()
    again, err = said_here([*same, "3"], 0, capsys)
    assert again == out
    assert "3 proposals made before, 0 taken from a sweep, 0 to make" in err
    assert results_files(folder) == before
    assert (folder / JOURNAL).read_bytes().startswith(journal)
    longer, _ = run_here([*same, "5"], 0, capsys)
    assert longer.startswith("5 proposals, 0 trials failed: ")
    assert {path: when for path, when in results_files(folder).items() if path in before} == before
    assert sorted(rows(folder)["proposal"].dropna()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_kill_9_of_the_driver_then_the_same_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*words(tmp_path, "epochs=4"), "--trials", "4"]
    folder = tmp_path / "rooms"
    with halted("ended", 3, *command) as driver:
        driver.kill()
    before = results_files(folder)
    assert 3 <= len(before) < 8
    run_here(command, 0, capsys)
    assert {path: when for path, when in results_files(folder).items() if path in before} == before
    table = rows(folder)
    assert table["trial_id"].is_unique
    assert (len(table), set(table["status"])) == (4 * 2, {"done"})
    assert len({(row["lambda"], row["seed"]) for _, row in table.iterrows()}) == 4 * 2
    trials = told(folder)
    assert [trial.state for trial in trials[:4]] == [TrialState.COMPLETE] * 4
    assert TrialState.RUNNING not in [trial.state for trial in trials]


def test_baselines_and_results_of_a_sweep_in_the_same_storage_are_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [*words(tmp_path, "lambdas=0,1e-2", command="sweep"), "--name", "grid"]
    run_here(grid, 0, capsys)
    trials = {path.parent.name: path.read_bytes() for path in (tmp_path / "grid").rglob("result.json")}
    assert len(trials) == 4
    one = [*words(tmp_path), "--trials", "1", "--name", "new", "--warm-start", str(tmp_path / "grid")]
    out, err = run_here(one, 0, capsys)
    assert "0 proposals made before, 2 taken from a sweep, 1 to make" in err
    folder = tmp_path / "new"
    found = {path.parent.name: path.read_bytes() for path in folder.rglob("result.json")}
    dense = {name: data for name, data in trials.items() if json.loads(data)["config"]["strength"] == 0}
    assert {name: data for name, data in found.items() if name in trials} == dense, "taken over, not run"
    assert len(found) == len(dense) + 2, "one proposal"
    assert out.startswith("3 proposals, 0 trials failed: ")
    assert "front: " in out
    without, _ = said_here(one[:-2], 0, capsys)
    assert without == out, "the study remembers what it was told"

"""Sweeps driven past faults: interrupts, errors of a trial's own, early stopping; nothing is lost or done twice."""

import signal
from pathlib import Path

import pandas as pd
import pytest

from mtl.errors import TrialFailed
from mtl.training import Training
from mtl.vocabulary.files import HISTORY, LAYERS
from search.cli import main
from tests.support.commands import Place, finished, halted, rows, run_here, said_here
from tests.support.in_process import PENALTY_ALONE, without_ray

# A trial of rooms at 32 x 32 and a few images: some 20 epochs a second.
TINY = [
    *PENALTY_ALONE,
    "image_size=32", "backbone_width=4", "head_channels=8", "batch_size=8", "seeds=1", "combinations=depth",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8", "cpus_per_trial=1",
]  # fmt: skip


def words(command: str, storage: Path, *sets: str) -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", str(storage), *overrides]


# Dense, two strengths, and a path of two steps, which waits for the dense model.
LONG = [
    "lambdas=0,1e-2,1e-1", "epochs=6", "checkpoint_seconds=1e9", "compressors=penalty,path", "targets=0.5,0.3",
]  # fmt: skip
TRIALS = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("whole")
    with without_ray():
        assert main(words("sweep", storage, *LONG)) == 0
    return storage / "rooms"


@pytest.mark.parametrize(("number", "place"), [(signal.SIGINT, "ray"), (signal.SIGTERM, "here")])
def test_interrupted_once_it_saves_what_runs_and_goes_on_to_the_same_numbers(
    whole: Path, tmp_path: Path, number: signal.Signals, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rooms"
    with halted("epochs", 3, *words("sweep", tmp_path, *LONG), place=place) as driver:
        driver.send_signal(number)
        driver.send_signal(signal.SIGCONT)
        out, err = finished(driver, 1)
    assert "running trials finish their epoch and save" in err
    assert "Traceback" not in err
    assert "0 failed" in out
    # Checkpoints are written at an interrupt alone, as no time is long enough for another.
    saved = list(folder.rglob("checkpoint.pt"))
    ended = list(folder.rglob("result.json"))
    assert 1 <= len(saved) <= TRIALS - len(ended)
    assert not [path for path in ended if '"failed"' in path.read_text()]
    _, err = run_here(words("sweep", tmp_path, *LONG), 0, capsys)
    assert f"{len(ended)} done before" in err
    for table in ("results.parquet", HISTORY):
        pd.testing.assert_frame_equal(rows(folder, table), rows(whole, table), check_exact=True)


def test_interrupted_twice_it_stops_at_once_and_can_go_on(tmp_path: Path) -> None:
    sets = ["lambdas=0", "epochs=2000"]
    with halted("epochs", 1, *words("sweep", tmp_path, *sets)) as driver:
        driver.send_signal(signal.SIGINT)  # both are there before it can end in order
        driver.send_signal(signal.SIGTERM)
        driver.send_signal(signal.SIGCONT)
        _, err = finished(driver, 130)
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "parsimony: interrupted; the same command continues it"


def failing(times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the epochs from the third on fail so many times; the failures are counted in the list."""
    run_epoch, failures = Training.run_epoch, [0]

    def sometimes(self: Training) -> dict[str, float]:
        if self.epochs_run >= 2 and failures[0] < times:
            failures[0] += 1
            raise TrialFailed("a cosmic ray")
        return run_epoch(self)

    monkeypatch.setattr(Training, "run_epoch", sometimes)
    return failures


SHORT = ["lambdas=1e-2", "epochs=4", "max_retries=2"]


@pytest.mark.parametrize("checkpoint_seconds", [0, 1e9])
def test_a_failing_trial_is_tried_again_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_seconds: float
) -> None:
    assert main(words("train", tmp_path / "a", *SHORT)) == 0
    failures = failing(2, monkeypatch)
    assert main(words("train", tmp_path / "b", *SHORT, f"checkpoint_seconds={checkpoint_seconds}")) == 0
    assert failures == [2]
    for table in ("results.parquet", HISTORY):
        pd.testing.assert_frame_equal(
            rows(tmp_path / "a" / "rooms", table), rows(tmp_path / "b" / "rooms", table), check_exact=True
        )


def test_a_trial_that_keeps_failing_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = failing(99, monkeypatch)
    assert main(words("train", tmp_path, *SHORT)) == 1
    assert failures == [3]
    (row,) = rows(tmp_path / "rooms").to_dict("records")
    assert (row["status"], row["error"]) == ("failed", "TrialFailed: a cosmic ray (tried 3 times)")


def test_early_stopping_leaves_rows_and_is_undone_by_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["lambdas=0,1e-4,1e-3,1e-2,1e-1,1,10", "epochs=9"]
    asha = ["early_stopping=asha", "grace_epochs=1", "reduction_factor=3", "objectives=val_depth_mae"]
    run_here(words("sweep", tmp_path, *sets, *asha), 0, capsys)
    folder = tmp_path / "rooms"
    table = rows(folder)
    assert len(table) == 7
    stopped = table[table["status"] == "stopped"]
    assert 1 <= len(stopped) <= 5
    assert (stopped["lambda"] > 0).all()
    assert (stopped["epochs_run"] < 9).all()
    assert stopped["val_depth_mae"].notna().all()
    assert stopped["test_depth_mae"].isna().all()
    assert set(table[table["status"] == "done"]["epochs_run"]) == {9}
    _, err = said_here(words("sweep", tmp_path, *sets, *asha), 0, capsys)
    assert "7 done before, 0 to run" in err
    run_here(words("sweep", tmp_path, *sets), 0, capsys)
    assert set(rows(folder)["status"]) == {"done"}
    layers = pd.read_parquet(folder / LAYERS)
    assert set(layers["trial_id"]) == set(table["trial_id"])
    assert (layers["alive"].map(len) == layers["groups"]).all()

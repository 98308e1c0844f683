"""The line that people watch: counts, and a time left that follows the pace."""

import io
import json
from pathlib import Path

import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.files import PROGRESS
from mtl.vocabulary.units import duration
from search.progress import Progress
from search.store.clock import now
from search.store.results import Status, TrialResult
from search.store.storage import Store
from tests.support.small import config


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves."""
    seconds = [1000.0]
    monkeypatch.setattr("search.progress.time.monotonic", lambda: seconds[0])
    return seconds


def ended(config: TrialConfig, status: Status) -> TrialResult:
    return TrialResult(config, status, now(), now())


def test_time_left_is_the_work_left_at_the_pace_so_far(tmp_path: Path, clock: list[float]) -> None:
    trials = [config(seed=seed, epochs=4) for seed in range(3)]
    stream = io.StringIO()
    progress = Progress(Store(str(tmp_path), "s"), trials, done_before=2, stream=stream)
    assert progress.snapshot().seconds_left is None
    clock[0] += 100  # imports
    progress.epochs(trials[0], [{"epoch": 0}])
    assert progress.snapshot().seconds_left is None
    for epochs_run in (2, 3, 4):
        clock[0] += 10
        progress.epochs(trials[0], [{"epoch": epochs_run - 1}])
    progress.ended(ended(trials[0], "done"))
    snapshot = progress.snapshot()
    assert (snapshot.done, snapshot.running, snapshot.failed, snapshot.total) == (3, 0, 0, 5)
    assert snapshot.seconds_left == pytest.approx(80)  # 8 epochs of 10 s
    clock[0] += 10
    progress.epochs(trials[1], [{"epoch": 0}])
    assert progress.snapshot().running == 1
    progress.ended(ended(trials[1], "failed"))  # its other three epochs are no longer ahead
    snapshot = progress.snapshot()
    assert (snapshot.done, snapshot.running, snapshot.failed) == (3, 0, 1)
    assert snapshot.seconds_left == pytest.approx(40)
    progress.close()
    assert stream.getvalue().splitlines()[-1] == "3/5 done · 0 running · 1 failed · about 40 s left"
    assert json.loads((tmp_path / "s" / PROGRESS).read_text())["failed"] == 1


def test_epochs_from_before_a_trial_was_resumed_are_not_ahead(tmp_path: Path, clock: list[float]) -> None:
    trial = config(epochs=10)
    progress = Progress(Store(str(tmp_path), "s"), [trial], done_before=0, stream=io.StringIO())
    progress.epochs(trial, [{"epoch": epoch} for epoch in range(7)])
    clock[0] += 5
    progress.epochs(trial, [{"epoch": 7}])
    assert progress.snapshot().seconds_left == pytest.approx(10)


def test_seconds_as_people_say_them() -> None:
    assert [duration(s) for s in (9, 75, 3725)] == ["9 s", "1 min 15 s", "1 h 02 min"]

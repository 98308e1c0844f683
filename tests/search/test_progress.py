"""The line that people watch: counts, and a time left that follows the pace."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.checked import parse
from mtl.vocabulary.files import PROGRESS
from mtl.vocabulary.units import duration
from search.display import fitting
from search.progress import Progress, Snapshot
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


def test_a_narrow_terminal_gets_a_short_line() -> None:
    whole = Snapshot(98, 2, 0, 120, 3725, now(), "Δm +1.2 % at 25 % of the MACs")
    lines = whole.lines()
    assert lines[0] == (
        "98/120 done · 2 running · 0 failed · about 1 h 02 min left · best so far Δm +1.2 % at 25 % of the MACs"
    )
    shown = {width: fitting(lines, width) for width in range(1, 130)}
    assert all(len(line) < width for width, line in shown.items())
    assert shown[120] == lines[0]
    assert shown[80] == "98/120 · 1 h 02 min left · best Δm +1.2 % at 25 % of the MACs"
    assert shown[40] == "98/120 · 1 h 02 min left"
    assert shown[10] == "98/120"
    assert shown[5] == "98/1"
    busy = Snapshot(9876, 128, 321, 12345, 360000, now(), "Δm +12.3 % at 100 % of the MACs")
    assert fitting(busy.lines(), 80) == busy.lines()[2]
    assert fitting(busy.lines(), 60) == "9876/12345 · 321 failed · 100 h 00 min left"


def test_a_terminal_has_one_line_that_never_wraps(tmp_path: Path) -> None:
    """In a real terminal of 60 columns."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with open(terminal, "w", encoding="utf-8") as stream:
        progress = Progress(Store(str(tmp_path), "s"), [config(epochs=4)], done_before=1234, stream=stream)
        progress.best = "Δm +1.2 % at 25 % of the MACs"
        progress.started()
        progress.close()
    said = os.read(controller, 10_000).decode()
    os.close(controller)
    lines = [line.strip() for line in re.split(r"[\r\n]", said) if line.strip()]
    assert lines[-1] == "1234/1235 · best Δm +1.2 % at 25 % of the MACs"
    assert all(len(line) < 60 for line in lines)


def test_the_best_is_in_the_log_and_in_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = Progress(Store(str(tmp_path), "s"), [], done_before=3, stream=stream)
    progress.best = "Δm +1.2 %"
    progress.close()
    assert stream.getvalue() == "3/3 done · 0 running · 0 failed · best so far Δm +1.2 %\n"
    saved = (tmp_path / "s" / PROGRESS).read_bytes()
    assert parse(Snapshot, saved).line() == stream.getvalue().strip()
    old = {name: value for name, value in json.loads(saved).items() if name != "best"}
    assert parse(Snapshot, json.dumps(old).encode()).best == ""

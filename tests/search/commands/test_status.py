"""The driver's claim decides whether a sweep is running, not the age of its progress file."""

import json
import os
from pathlib import Path

import pytest

from mtl.vocabulary.files import PROGRESS, SWEEP
from search.cli import main
from search.commands.status import read_status
from search.store.lease import STALE_SECONDS, Lease
from search.store.storage import Store
from tests.support.small import sweep_file

LONG_AGO = "2020-01-01T00:00:00.000+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of a sweep of three trials that was last heard of long ago."""
    store = Store(str(tmp_path), "sweep")
    store.write(SWEEP, sweep_file(3))
    progress = {"done": 1, "running": 2, "failed": 0, "total": 3, "seconds_left": None, "updated_at": LONG_AGO}
    store.write(PROGRESS, json.dumps(progress).encode())
    return store


def second_line(store: Store) -> str:
    return read_status(str(store.folder)).splitlines()[1]


NOT_RUNNING = f"not running since {LONG_AGO}; the same command continues it"


def test_a_driver_that_lives_is_running_however_long_it_was_silent(store: Store) -> None:
    assert second_line(store) == NOT_RUNNING
    with Lease(store):
        assert second_line(store).startswith(f"running (pid {os.getpid()} on ")
        assert second_line(store).endswith("): 1/3 done · 2 running · 0 failed")
    assert second_line(store) == NOT_RUNNING


def test_a_driver_of_another_machine_is_running_while_it_renews_its_claim(store: Store) -> None:
    with Lease(store) as lease:
        claim = json.loads(store.read(lease._claim.file) or b"")
    path = Path(str(store.folder)) / f"driver-{'0' * 32}.json"
    path.write_text(json.dumps(claim | {"id": "0" * 32, "process": "abcdef-1-1"}))
    assert second_line(store).startswith("running (")
    os.utime(path, (0, path.stat().st_mtime - 3 * STALE_SECONDS))
    assert second_line(store) == NOT_RUNNING


def test_watching_shows_each_change_once_and_ends_with_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(store)
    lease.__enter__()
    waits: list[float] = []

    def instead_of_waiting(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            lease.__exit__(None, None, None)

    monkeypatch.setattr("search.commands.status.time.sleep", instead_of_waiting)
    assert main(["status", str(store.folder), "--watch"]) == 0
    shown = capsys.readouterr().out
    assert len(waits) == 3
    assert shown.count("running (") == 1
    assert shown.endswith(f"{NOT_RUNNING}\n")

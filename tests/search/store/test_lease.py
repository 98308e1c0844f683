"""One driver a sweep: real processes that compete for it, die, sleep and lose it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl.errors import BadInput
from search.store import lease, process
from search.store.errors import LeaseLost
from search.store.lease import Lease
from search.store.storage import Store
from tests.support.s3_server import S3Server
from tests.support.waiting import DEADLINE_SECONDS, wait_until

# Says `driving` once it does, then works until it is ended or has lost the lease. With times of a test's own.
DRIVER = """
import sys, time
from mtl.errors import BadInput
from search.store import lease
from search.store import process
from search.store.errors import LeaseLost
from search.store.storage import Store
storage, beat, stale, machine = sys.argv[1:]
lease.BEAT_SECONDS, lease.STALE_SECONDS, lease.POLL_SECONDS = float(beat), float(stale), 0.1
if machine:
    process._machine = lambda: machine
try:
    with lease.Lease(Store(storage, "sweep")) as mine:
        print("driving", flush=True)
        while not sys.stdin.closed:
            mine.check()
            time.sleep(0.02)
except BadInput as error:
    sys.exit(f"refused: {error}")
except LeaseLost as error:
    sys.exit(f"lost: {error}")
"""


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return Store(server.uri("bucket/prefix"), "sweep")
    return Store(str(tmp_path), "sweep")


@pytest.fixture
def drive(store: Store) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts drivers, each with standard output and error to read; none outlives the test.

    stale: after how long without a beat it takes another for dead. Where none is dead this has no end, as a beat may be
    late by any time on a busy machine.
    """
    started: list[subprocess.Popen[str]] = []

    def start(stale: float = math.inf, machine: str = "") -> subprocess.Popen[str]:
        words = [sys.executable, "-c", DRIVER, store.storage, "0.3", str(stale), machine]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for driver in started:
        driver.kill()
        driver.communicate()


def drives(driver: subprocess.Popen[str]) -> bool:
    """Once it is decided."""
    assert driver.stdout is not None
    return driver.stdout.readline() == "driving\n"


def ended(driver: subprocess.Popen[str]) -> str:
    """What a driver that ends says last."""
    return driver.communicate(timeout=DEADLINE_SECONDS)[1].splitlines()[-1]


def claims(store: Store) -> list[str]:
    return [name for name in store.files() if name.startswith("driver-")]


@pytest.fixture
def at_first_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process a lease is had or refused without a look again later."""

    def wait(seconds: float) -> None:
        raise AssertionError("what can be seen at once was waited for")

    monkeypatch.setattr(lease, "time", SimpleNamespace(**vars(time) | {"sleep": wait}))


def test_the_second_is_refused_by_name_and_the_first_goes_on(
    store: Store, drive: Callable[..., subprocess.Popen[str]], at_first_sight: None
) -> None:
    first = drive()
    assert drives(first)
    with pytest.raises(BadInput) as caught, Lease(store):
        pass
    said = str(caught.value)
    claim = json.loads(store.read(claims(store)[0]) or b"")
    assert f"is driven by pid {first.pid} on {claim['host']} since {claim['started_at']}" in said
    assert f"remove {store.shown(claims(store)[0])}" in said
    assert "\n" not in said
    assert first.poll() is None
    assert len(claims(store)) == 1


def test_after_the_end_nothing_is_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "new"), "sweep")
    for _ in range(2):
        with Lease(store):
            assert len(claims(store)) == 1
    assert list(tmp_path.iterdir()) == []


def test_after_kill_9_the_next_drives_at_once(
    store: Store, drive: Callable[..., subprocess.Popen[str]], at_first_sight: None
) -> None:
    first = drive()
    assert drives(first)
    first.kill()
    first.wait()
    assert len(claims(store)) == 1
    with Lease(store):
        assert len(claims(store)) == 1
    assert claims(store) == []


def test_a_driver_of_another_machine_is_refused_while_it_beats_and_replaced_when_it_stops(
    store: Store, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    first = drive(machine="abcdef")
    assert drives(first)
    assert ended(drive()).startswith(f"refused: sweep {store} is driven by pid {first.pid}")
    first.kill()
    first.wait()
    second = drive(stale=1)
    assert drives(second)
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=DEADLINE_SECONDS)[1]
    assert "waiting to see whether it still is" in said  # it could not see that the other is dead


def test_a_driver_that_slept_finds_out_that_it_was_replaced(
    store: Store, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    first = drive()
    assert drives(first)
    first.send_signal(signal.SIGSTOP)
    assert ended(drive()).startswith("refused: ")  # it may be slow
    wait_until(lambda: time.time() - max(store.files().values()) > 1)
    second = drive(stale=1)
    assert drives(second)
    before = claims(store)
    first.send_signal(signal.SIGCONT)
    assert ended(first).startswith(f"lost: sweep {store} was taken over while this driver did not answer")
    assert first.returncode == 1
    assert second.poll() is None
    assert claims(store) == before


def test_one_that_wrote_its_claim_again_after_it_was_replaced_still_loses(tmp_path: Path) -> None:
    """It looked, slept, and then wrote: nothing but the term tells the two apart."""
    store = Store(str(tmp_path), "sweep")
    with Lease(store) as first:
        store.delete(first._claim.file)
        with Lease(store) as second:
            second._claim = replace(second._claim, term=1)
            second._beat()
            first._put(store)
            first._beat()
            second._beat()
            second.check()
            with pytest.raises(LeaseLost, match=f"by pid {os.getpid()}"):
                first.check()


def test_one_that_slept_through_the_whole_run_of_another_has_lost_too(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep")
    with Lease(store) as first:
        store.delete(first._claim.file)
        first._beat()
        with pytest.raises(LeaseLost, match="was taken over"):
            first.check()
        assert claims(store) == []


def test_of_many_that_start_together_at_most_one_drives(
    store: Store, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    for _ in range(2):
        together = [drive(machine=machine) for machine in ("", "", "abcdef", "fedcba")]
        driving = [driver for driver in together if drives(driver)]
        assert len(driving) == 1
        for driver in together:
            if driver in driving:
                driver.kill()
                driver.wait()
            else:
                assert ended(driver).startswith("refused: ")
        for name in claims(store):
            store.delete(name)


def test_an_outage_takes_the_lease_from_nobody(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.5)
    store = Store(s3.uri("bucket/prefix"), "sweep")
    with Lease(store) as mine:
        with s3.outage():
            began = time.monotonic()
            wait_until(lambda: mine.check() or time.monotonic() - began > 2 * lease.STALE_SECONDS)
        mine._beat()
        mine.check()
        assert len(claims(store)) == 1


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    own = process.ProcessId.own()
    assert own.lives()
    assert process.ProcessId.parse(str(own)) == own
    assert replace(own, born=own.born + 1).lives() is False or own.born == 0
    assert replace(own, machine="abcdef").lives() is None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    its = process.ProcessId(own.machine, child.pid, process._born(child.pid))
    assert its.lives()
    child.kill()
    child.wait()
    assert its.lives() is False


OTHERS = {
    "an unknown field": {"id": "x", "process": "abcdef-1-1", "host": "h", "pid": 1, "term": 0, "user": "me"},
    "a missing field": {"id": "x", "driving": True},
    "another type": {"id": "x", "process": 7, "host": [], "pid": "1", "started_at": None, "driving": 1, "term": "x"},
}


@pytest.mark.parametrize("content", [*(json.dumps(one).encode() for one in OTHERS.values()), b"", b"[" * 99_999])
def test_a_claim_of_another_version_is_respected_while_it_is_renewed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.01)
    store = Store(str(tmp_path), "sweep")
    name = "driver-x.json"
    # Its beat: while it looks as if it were renewed all the time, nobody else drives.
    files, beats = Store.files, [0.0]

    def renewed(self: Store) -> dict[str, float]:
        beats[0] += 1
        found = files(self)
        return found | ({name: found[name] + beats[0]} if name in found else {})

    store.write(name, content)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "files", renewed)
        with (
            pytest.raises(BadInput, match=r"is driven by a driver whose claim driver-x\.json .* cannot read") as caught,
            Lease(store),
        ):
            pass
    assert f"remove {store.shown(name)}" in str(caught.value)
    assert "\n" not in str(caught.value)
    os.utime(tmp_path / "sweep" / name, (1, 1))
    with Lease(store):
        assert len(claims(store)) == 1


@pytest.mark.parametrize("content", [*(json.dumps(one).encode() for one in OTHERS.values()), b"", b"[" * 99_999])
def test_a_claim_of_another_version_does_not_end_the_heartbeat(content: bytes, tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep")
    with Lease(store) as mine:
        store.write("driver-x.json", content)
        before = mine._renewed
        mine._beat()
        mine.check()
        assert mine._renewed > before

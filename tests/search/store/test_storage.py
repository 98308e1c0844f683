"""The store: on a folder and on a real S3 server, through outages, full disks, wrong addresses and missing rights."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtl.errors import BadInput
from mtl.vocabulary.files import trial_file
from search.store import storage
from search.store.errors import StorageError
from search.store.process import ProcessId
from search.store.storage import Store
from tests.support.s3_server import S3Server
from tests.support.waiting import DEADLINE_SECONDS, wait_until


@pytest.fixture(params=["folder", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One contract for all storages."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return Store(server.uri("bucket/some/prefix"), "sweep")
    return Store(str(tmp_path) if request.param == "folder" else tmp_path.as_uri(), "sweep")


def test_files_come_back_as_they_went_and_go(store: Store) -> None:
    store.check()
    assert store.finished_trials() == []
    assert store.files() == {}
    assert store.read("sweep.json") is None
    for data in (b"first", b"", b"second" * 1_000_000):
        store.write("sweep.json", data)
        assert store.read("sweep.json") == data
    for trial_id in ("b", "a", "c"):
        store.write(trial_file(trial_id, "model.pt"), b"m")
    store.write(trial_file("c", "result.json"), b"{}")
    store.write(trial_file("a", "result.json"), b"{}")
    assert store.finished_trials() == ["a", "c"]
    assert list(store.files()) == ["sweep.json"]
    for _ in range(2):
        store.delete(trial_file("a", "result.json"))
    assert store.finished_trials() == ["c"]
    again = Store(store.storage, store.name)  # as a trial's process opens it
    assert again.finished_trials() == ["c"]
    assert Store.of_sweep(str(store)).finished_trials() == ["c"]


def test_more_files_than_one_page_of_a_listing(s3: S3Server) -> None:
    store = Store(s3.uri("bucket"), "sweep")
    names = [f"{number:04d}" for number in range(1100)]
    s3.fill((f"sweep/{trial_file(name, 'result.json')}" for name in names), b"{}")
    assert store.finished_trials() == names


def test_a_query_is_no_part_of_a_name(s3: S3Server) -> None:
    store = Store(s3.uri("bucket/some/prefix"), "sweep")
    store.write("sweep.json", b"{}")
    assert s3.keys("bucket") == ["some/prefix/sweep/sweep.json"]
    query = s3.uri("bucket").partition("?")[2]
    assert str(store) == f"s3://bucket/some/prefix/sweep?{query}"
    assert store.shown("results.parquet") == f"s3://bucket/some/prefix/sweep/results.parquet?{query}"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_the_environment_reaches_processes_that_have_another(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, s3.endpoint)
    store = Store("s3://bucket/prefix", "sweep")
    store.write("sweep.json", b"{}")
    assert str(store) == "s3://bucket/prefix/sweep"
    monkeypatch.delenv(variable)
    assert Store(store.storage, "sweep").read("sweep.json") == b"{}"


@contextmanager
def told_soon() -> Iterator[None]:
    """The error comes much sooner than after `PATIENCE_SECONDS`, the wait for an outage."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < storage.PATIENCE_SECONDS / 2


def refused(uri: str) -> str:
    """Why the storage is refused: in one line, and before anybody has grown impatient."""
    with told_soon(), pytest.raises(BadInput) as caught:
        Store(uri, "sweep").check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_bucket_is_bad_input_and_is_not_created(s3: S3Server) -> None:
    assert "no bucket other; allowed: one that exists" in refused(s3.uri("other/prefix"))
    with pytest.raises(StorageError, match="NO_SUCH_BUCKET"):
        Store(s3.uri("other/prefix"), "sweep").write("sweep.json", b"{}")
    assert "no bucket other" in refused(s3.uri("other/prefix"))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less waiting before a message, and between two attempts."""
    monkeypatch.setattr(storage, "CHECK_SECONDS", 0.5)
    monkeypatch.setattr(storage, "LONGEST_PAUSE_SECONDS", 0.25)


def test_an_endpoint_that_nobody_listens_at(s3: S3Server, hasty: None) -> None:
    with s3.outage():
        # In the words of libcurl, of which releases differ.
        assert re.search(r"Could(n't| not) connect", refused(s3.uri("bucket/prefix")))


def test_an_option_that_means_nothing(s3: S3Server) -> None:
    assert "endpoint after the ?; allowed there: endpoint_override, region" in refused(
        "s3://bucket/p?endpoint=http://x"
    )


def test_a_secret_is_not_shown(s3: S3Server) -> None:
    uri = s3.uri("bucket/prefix").replace("s3://", "s3://key:secret@")
    store = Store(uri, "sweep")
    store.write("sweep.json", b"{}")
    assert Store(store.storage, "sweep").read("sweep.json") == b"{}"
    assert "secret" not in str(store)
    assert "secret" not in refused(uri.replace("bucket", "other"))
    assert "secret" not in refused(uri + "&what=1")


def test_missing_rights_are_told_at_once(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.core import set_initial_no_auth_action_count

    uri = s3.uri("bucket/prefix")

    @set_initial_no_auth_action_count(0)
    def denied() -> None:
        assert "AWS Error" in refused(uri)
        with told_soon(), pytest.raises(StorageError):
            Store(uri, "sweep").write("sweep.json", b"{}")

    denied()


def test_an_outage_is_waited_for_and_told(s3: S3Server, hasty: None, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(s3.uri("bucket/prefix"), "sweep")
    store.write("sweep.json", b"before")
    read: list[bytes | None] = []

    def work() -> None:
        read.append(store.read("sweep.json"))
        store.write("sweep.json", b"after")

    with s3.outage():
        worker = threading.Thread(target=work)
        worker.start()
        said = [""]
        wait_until(lambda: said.append(capsys.readouterr().err) or "waiting for it" in "".join(said))
        err = "".join(said)
        assert worker.is_alive()
        assert "storage s3://bucket/prefix/sweep?" in err
        assert "cannot be read since" in err
    worker.join(DEADLINE_SECONDS)
    assert read == [b"before"]
    assert store.read("sweep.json") == b"after"
    assert "answers again" in capsys.readouterr().err


def test_an_outage_without_end_is_an_error(s3: S3Server) -> None:
    store = Store(s3.uri("bucket/prefix"), "sweep", patience=0.51)
    with s3.outage():
        for action in (
            lambda: store.read("a"),
            lambda: store.write("a", b""),
            lambda: store.delete("a"),
            store.finished_trials,
            store.files,
        ):
            with pytest.raises(StorageError, match=r"cannot be (read|written) \(tried for 1 s: AWS Error"):
                action()
        assert not store.try_write("a", b"")
    assert store.try_write("a", b"")


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow past a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_and_is_waited_for(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep", patience=0.51)
    store.write("a/result.json", b"first")
    big = b"x" * 10_000
    with full_disk():
        with pytest.raises(StorageError, match=r"cannot be written \(tried for 1 s: "):
            store.write("a/result.json", big)
        assert store.read("a/result.json") == b"first"
        assert [path.name for path in (tmp_path / "sweep" / "a").iterdir()] == ["result.json"]
        worker = threading.Thread(target=store.waiting(DEADLINE_SECONDS).write, args=("a/result.json", big))
        worker.start()
        worker.join(0.5)
        assert worker.is_alive()
    worker.join(DEADLINE_SECONDS)
    assert store.read("a/result.json") == big


def test_a_folder_that_is_a_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "sweep").write_text("mine")
    with told_soon(), pytest.raises(StorageError, match="cannot be written"):
        Store(str(tmp_path), "sweep").write("trials/a/result.json", b"")


WRITER = """
import sys
from search.store.storage import Store
store = Store(sys.argv[1], "sweep")
for number in range(int(sys.argv[3])):
    store.write("a/result.json", sys.argv[2].encode() * 300_000)
"""


def writer(folder: Path, letter: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), letter, str(times)])


def test_two_processes_that_write_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep")
    writers = [writer(tmp_path, letter, 15) for letter in "ab"]
    while any(process.poll() is None for process in writers):
        data = store.read("a/result.json")
        assert data is None or (len(data) == 300_000 and len(set(data)) == 1)
    assert [process.returncode for process in writers] == [0, 0]
    assert [path.name for path in (tmp_path / "sweep" / "a").iterdir()] == ["result.json"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep")
    folder = tmp_path / "sweep" / "trials" / "a"
    process = writer(tmp_path, "a", 1_000_000)
    wait_until(lambda: list(tmp_path.rglob("*.tmp")))
    # Between a write and its rename it may be killed anywhere: stopped first, to see that it is.
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        left = list(tmp_path.rglob("*.tmp"))
        if left:
            break
        os.kill(process.pid, signal.SIGCONT)
    store.remove_temporaries()
    assert left == list(tmp_path.rglob("*.tmp"))  # its writer lives
    process.kill()
    process.wait()
    folder.mkdir(parents=True)
    random = "0" * 32
    other = ProcessId("abcdef", 1, 1)
    mine = folder / "notes.tmp"
    young, old = (folder / f"{name}.{other}.{random}.tmp" for name in ("young", "old"))
    for path in (mine, young, old):
        path.write_text("")
    hours = time.time() - 2 * storage.TEMPORARY_SECONDS
    os.utime(mine, (hours, hours))
    os.utime(old, (hours, hours))
    store.remove_temporaries()
    assert set(tmp_path.rglob("*.tmp")) == {mine, young}


def test_the_check_leaves_nothing_behind(tmp_path: Path, s3: S3Server) -> None:
    Store(str(tmp_path / "new" / "folder"), "sweep").check()
    assert list(tmp_path.iterdir()) == []
    Store(s3.uri("bucket/prefix"), "sweep").check()
    assert s3.keys("bucket") == []


def test_no_sweep_at_a_bucket(s3: S3Server) -> None:
    for uri in (s3.uri("bucket"), "s3://bucket", "s3://"):
        with pytest.raises(BadInput, match="STORAGE/NAME"):
            Store.of_sweep(uri)


def test_each_listing_waits_out_an_outage(s3: S3Server, hasty: None) -> None:
    store = Store(s3.uri("bucket"), "sweep", patience=60)
    store.write("trials/a/model.pt", b"")
    store.write("sweep.json", b"")
    listings: list[tuple[Callable[[], object], object]] = [
        (lambda: store.names("trials/a"), ["model.pt"]),
        (lambda: list(store.files()), ["sweep.json"]),
        (store.finished_trials, []),
    ]
    for listing, found in listings:
        with ThreadPoolExecutor() as pool:
            with s3.outage():
                listed = pool.submit(listing)
                with pytest.raises(TimeoutError):
                    listed.result(timeout=0.5)
            assert listed.result(timeout=DEADLINE_SECONDS) == found


def test_what_is_no_file_is_named_at_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "sweep")
    (tmp_path / "sweep" / "sweep.json").mkdir(parents=True)
    (tmp_path / "sweep" / "loop").symlink_to("loop")
    (tmp_path / "sweep" / "file").write_bytes(b"")
    for name, why in (
        ("sweep.json", "Is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("file/x", "Not a directory"),
    ):
        with pytest.raises(BadInput, match=rf"^{store.shown(name)}: cannot be read \({why}\); allowed: a file"):
            store.read(name)
    with pytest.raises(BadInput, match=rf"^{store.shown('sweep.json')}: is a folder; allowed: a file"):
        store.check()
    other = Store(str(tmp_path / "sweep"), "file")
    with pytest.raises(BadInput, match=rf"^{other}: is a file; allowed: a folder"):
        other.check()
    for name in ("0123456789abcdef", "fedcba9876543210/result.json/x"):
        place = tmp_path / "mixed" / "trials" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
        with pytest.raises(BadInput, match=r"trials/.*: is a f(ile|older); allowed: a "):
            Store(str(tmp_path), "mixed").finished_trials()
        place.unlink()


def test_a_temporary_file_of_a_process_that_cannot_be_is_left_alone(tmp_path: Path) -> None:
    name = f"x.{ProcessId.own().machine}-{10**30}-1.{'0' * 32}.tmp"
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / name).write_bytes(b"")
    Store(str(tmp_path), "sweep").remove_temporaries()
    assert (tmp_path / "sweep" / name).exists()

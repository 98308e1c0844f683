"""Which Ray a sweep runs on: never another sweep's own, and no address is waited for that no cluster answers at."""

import contextlib
import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from mtl.errors import BadInput
from search.cli import main
from search.engine import ray_cluster as ray_connection
from search.engine.ray_cluster import start_ray
from tests.support.commands import rows, run_here
from tests.support.in_process import PENALTY_ALONE

# A dataset of the user's own. The process of the first trial that opens it dies.
DEADLY = """
import os, signal, sys
from pathlib import Path
from mtl.datasets.rooms.dataset import Rooms


class Deadly(Rooms):
    def __init__(self, root: Path, **sizes: int) -> None:
        super().__init__(**sizes)
        self.root = root

    def fingerprint(self) -> str:
        if os.path.basename(sys.argv[0]) == "default_worker.py":
            try:
                (self.root / "died").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGSEGV)
        return super().fingerprint()
"""
TINY = [
    *PENALTY_ALONE,
    "dataset=deadly:Deadly", "image_size=32", "backbone_width=8", "head_channels=8", "batch_size=8", "seeds=1",
    "combinations=depth", "lambdas=0,1e-2", "epochs=1", "max_retries=0", "cpus_per_trial=1",
    "dataset_options.train=8", "dataset_options.val=4", "dataset_options.test=4",
]  # fmt: skip
OTHER = """
import sys
from search.engine.ray_cluster import start_ray, stop_ray

start_ray("local", 1, 0, None)
print("runs", flush=True)
sys.stdin.read()
stop_ray()
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cluster that `ray start` has started is found, and none is named."""
    folder = tempfile.mkdtemp(dir="/tmp")  # short, as Ray puts sockets there
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def other_sweep(alone: None) -> Iterator[None]:
    """A Ray that another run on this machine has started for itself."""
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"runs\n"
        yield


def test_a_trial_that_dies_beside_another_run(
    other_sweep: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The user's own dataset reaches the trials. A death is one line, and the same command runs its trial again."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "data").mkdir()
    words = [word for text in TINY for word in ("--set", text)]
    command = ["sweep", "rooms", "--storage", str(tmp_path), "--data", str(tmp_path / "data"), *words]
    assert main(command) == 1
    folder = tmp_path / "rooms"
    table = rows(folder)
    assert sorted(table["status"]) == ["done", "failed"]
    (failed,) = table[table["status"] == "failed"].to_dict("records")
    more = f"trials/{failed['trial_id']}/error.txt"
    assert failed["error"] == f"its process ended with signal 11 (segmentation fault) (more in {more})"
    assert "SIGSEGV received" in (folder / more).read_text()
    out, err = capfd.readouterr()
    assert out.splitlines() == [f"1 trials done, 1 failed, 0 missing: {folder / 'results.parquet'}"]
    usual = ("sweep ", "data: ", "its fronts and report: ")
    told = [line for line in err.splitlines() if not line.startswith(usual) and " done · " not in line]
    assert len(told) == 1
    assert told[0].startswith(f"failed: {failed['trial_id']} ")
    assert told[0].endswith(failed["error"])
    _, err = run_here(command, 0, capsys=capfd)
    assert "1 done before, 1 to run" in err
    assert set(rows(folder)["status"]) == {"done"}
    assert not list(tmp_path.rglob("error.txt"))


@contextlib.contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def closing() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_each() -> None:
            with contextlib.suppress(OSError):  # the listener's end
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=close_each)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def web() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("listener", [silent, closing, web])
def test_what_is_no_ray_is_not_waited_for(listener: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "ANSWER_SECONDS", 1)
    assert callable(listener)
    with listener() as port, pytest.raises(BadInput) as caught:
        start_ray(f"127.0.0.1:{port}", 1, 0, None)
    assert str(caught.value).startswith(f"--address 127.0.0.1:{port}: no Ray cluster answers there (")
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    "address", ["foo", "::", "host:notaport", "host:0", "host:65536", ":6379", "a b:1", "h\0:1", "\udcff:1", "h:1\n"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        start_ray(address, 1, 0, None)
    shown = address if address.isprintable() else repr(address)
    allowed = "HOST:PORT of a cluster's head, auto or local"
    assert str(caught.value) == f"--address {shown}: no Ray cluster can be there; allowed: {allowed}"


def test_a_client_s_address_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^--address ray://head:10001: allowed: HOST:PORT of the head, on a machine"):
        start_ray("ray://head:10001", 1, 0, None)


def test_the_environment_s_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(BadInput, match=r"^RAY_ADDRESS nowhere: no Ray cluster can be there"):
        start_ray(None, 1, 0, None)


def test_auto_starts_none(alone: None) -> None:
    with pytest.raises(BadInput, match=r"^--address auto: no Ray cluster runs on this machine"):
        start_ray("auto", 1, 0, None)


def test_too_many_cores_are_refused_before_ray_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", None)
    with pytest.raises(BadInput, match=r"^cpus_per_trial = 1000000; allowed: at most the \d+ CPUs of this machine$"):
        start_ray("local", 10**6, 0, None)

"""A real S3 server on loopback that can be stopped and started again. A new one is empty, as moto keeps all in memory."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from pyarrow.fs import FileSelector, S3FileSystem

REGION = "us-east-1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class S3Server:
    """`with S3Server(log) as server`; `pause` and `resume` are an outage that keeps what was stored."""

    def __init__(self, log: Path) -> None:
        self._port, self._log = free_port(), log
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.query = f"endpoint_override={self.endpoint}&region={REGION}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "S3Server":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        deadline, pause = time.monotonic() + 60, threading.Event()
        while True:
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).close()
                return self
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                pause.wait(0.05)

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def files(self) -> S3FileSystem:
        return S3FileSystem(endpoint_override=self.endpoint, region=REGION, allow_bucket_creation=True)

    def create_bucket(self, name: str) -> None:
        self.files().create_dir(name)

    def uri(self, path: str) -> str:
        """The storage of this path, BUCKET/PREFIX, wherever it is opened."""
        return f"s3://{path}?{self.query}"

    def keys(self, path: str) -> list[str]:
        """The files at this path and below, by what follows it."""
        found = self.files().get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{path}/") for info in found if info.is_file)

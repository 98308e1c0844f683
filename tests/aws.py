"""A stand-in for AWS: moto's server, in a process of its own."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

START_SECONDS = 60.0


@contextmanager
def moto_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Its URL while it runs; what was stored in it is gone afterwards."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    url = f"http://{host}:{port}"
    environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await(url, server)
            yield url
        finally:
            server.kill()


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, "moto's server ended as it started"
            assert time.monotonic() < deadline, "moto's server does not answer"
            pause.wait(0.1)

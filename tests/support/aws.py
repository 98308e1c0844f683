"""A stand-in for AWS: moto's server, in a process of its own."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.waiting import DEADLINE_SECONDS, wait_until


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
            wait_until(lambda: _answers(url, server))
            yield url
        finally:
            server.kill()


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "moto's server ended as it started"
    try:
        urllib.request.urlopen(f"{url}/moto-api/data.json", timeout=DEADLINE_SECONDS).close()
    except OSError:
        return False
    return True

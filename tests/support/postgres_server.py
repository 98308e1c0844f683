"""A real PostgreSQL server on loopback, in a folder of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import DEADLINE_SECONDS, wait_until

USER, PASSWORD = "searcher", "s3cret-word"
USERS = ("postgres", "nobody")


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres, which Debian keeps out of PATH; None where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def running_postgres(programs: Path) -> Iterator[str]:
    """The URL of a database on a server that runs as long as this is iterated over."""
    # The server refuses to run as root, and another user cannot look into pytest's own folders.
    user = next(name for name in USERS if _exists(name)) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="parsimony-postgres-"))
    password, data = folder / "password", folder / "data"
    password.write_text(PASSWORD)
    if user is not None:
        for path in (folder, password):
            shutil.chown(path, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    initdb = [programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync"]
    subprocess.run([*initdb, "--locale=C", "-E", "UTF8"], check=True, capture_output=True, user=user, cwd=folder)
    options = [f"-p{port}", f"-k{folder}", "-clisten_addresses=127.0.0.1", "-cfsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, user=user, cwd=folder
        )
    try:
        # Its own lock file says when it takes connections.
        lock = data / "postmaster.pid"
        wait_until(lambda: server.poll() is not None or (lock.exists() and "ready" in lock.read_text()))
        assert server.poll() is None, (folder / "log").read_text()
        yield f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(DEADLINE_SECONDS)
        shutil.rmtree(folder)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True

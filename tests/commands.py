"""Commands in processes of their own, as a user runs them, and what they leave."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from search.cli import main
from search.storage import RESULTS

CLOCK = ["train_seconds", "started_at", "ended_at", "seconds"]


def parsimony(*words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, the way a user runs it."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from search.cli import main; sys.exit(main())", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """Its standard output and error, once it has ended with this exit status."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, f"exit status {process.returncode}\n{out}\n{err}"
    return out, err


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Return as soon as the condition holds; fail when it has not by the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        pause.wait(0.02)


def rows(folder: Path, name: str = RESULTS) -> pd.DataFrame:
    """A table without what a clock says, in an order of its own."""
    table = pd.read_parquet(folder / name)
    keys = ["trial_id"] + (["epoch"] if "epoch" in table else [])
    return table.drop(columns=[c for c in CLOCK if c in table]).sort_values(keys).reset_index(drop=True)


def trial_processes(driver: int) -> list[int]:
    """The processes of Ray's trial actors below this driver."""
    parents: dict[int, int] = {}
    actors: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                # Ray names its processes after the actor's class; Tune wraps ours in one called ResourceTrainable.
                if re.match(rb"ray::(ResourceTrainable|TrialActor)", (entry / "cmdline").read_bytes()):
                    actors.append(int(entry.name))

    def below(pid: int) -> bool:
        while pid > 1:
            if pid == driver:
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in actors if below(pid)]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command line is refused, in this process and before Ray is started."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("parsimony: ")
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()
    return captured.err

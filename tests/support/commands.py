"""Commands in processes of their own, as a user runs them, and what they leave."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from mtl.vocabulary.files import RESULTS
from search.cli import main
from tests.support.in_process import without_ray
from tests.support.waiting import DEADLINE_SECONDS, wait_until

CLOCK = ["train_seconds", "started_at", "ended_at", "seconds"]

RUN = "import sys; from search.cli import main; sys.exit(main())"
# Stops itself, as Ctrl-Z does, once its progress has heard so often of an epoch, or of a trial's end.
HALT = """
import os, signal, sys
from search.cli import main
from tests.support.in_process import without_ray
from search.progress import Progress
event, left = sys.argv.pop(1), int(sys.argv.pop(1))
told = getattr(Progress, event)
def tell(*args, **more):
    global left
    told(*args, **more)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
setattr(Progress, event, tell)
if sys.argv.pop(1) == "here":
    with without_ray():
        sys.exit(main())
sys.exit(main())
"""
Place = Literal["ray", "here"]


def parsimony(*words: str, program: tuple[str, ...] = (RUN,)) -> subprocess.Popen[str]:
    """The command in a process of its own, as a user runs it; without --address it starts a Ray of its own."""
    command = [sys.executable, "-c", *program, *_alone(words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _alone(words: Sequence[str]) -> list[str]:
    """The command line with `--address local`: a Ray cluster that runs on this machine belongs to somebody else."""
    own = words[0] in ("sweep", "search") and "--address" not in words
    return [*words, "--address", "local"] if own else list(words)


def said_here(words: Sequence[str], code: int, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the command prints in this process, which is much faster; for commands that run no trial."""
    capsys.readouterr()
    assert main(_alone(words)) == code
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()
    return tuple(capsys.readouterr())


def run_here(words: Sequence[str], code: int, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the command prints in this process, with its trials here too: the same numbers as on Ray, but no start."""
    with without_ray():
        return said_here(words, code, capsys)


@contextlib.contextmanager
def halted(
    event: Literal["epochs", "ended"], count: int, *words: str, place: Place = "ray"
) -> Iterator[subprocess.Popen[str]]:
    """The same, stopped once it has heard of so many epochs or ends of trials, until it gets SIGCONT.

    Trials wait for the driver after each epoch, so each ends at most one epoch meanwhile, however slow the test is.
    """
    process = parsimony(*words, program=(HALT, event, str(count), place))
    try:
        seen = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
        wait_until(lambda: os.waitid(os.P_PID, process.pid, seen))
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """Its standard output and error, once it has ended with this exit status."""
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == code, f"exit status {process.returncode}\n{out}\n{err}"
    return out, err


def rows(folder: Path, name: str = RESULTS) -> pd.DataFrame:
    """A table without its times, sorted."""
    table = pd.read_parquet(folder / name)
    keys = ["trial_id"] + (["epoch"] if "epoch" in table else [])
    return table.drop(columns=[c for c in CLOCK if c in table]).sort_values(keys).reset_index(drop=True)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a command is refused, in this process and before Ray starts."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("parsimony: ")
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()
    return captured.err

"""What a dry run says of memory: about how much a trial takes, and how many fit where."""

from pathlib import Path

import pytest

from mtl.networks import memory_need
from search import forecast
from search.cli import main

ROOMS = ["dataset_options.train=4", "dataset_options.val=2", "dataset_options.test=2", "batch_size=2", "image_size=32"]


def said(capsys: pytest.CaptureFixture[str], *sets: str, address: str = "local") -> str:
    words = [word for one in (*ROOMS, *sets) for word in ("--set", one)]
    assert main(["sweep", "rooms", "--dry-run", "--address", address, *words]) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in (printed.out + printed.err).splitlines() if "each trial takes" in line]
    return line


def test_a_dry_run_says_how_many_trials_fit(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need = memory_need.MemoryNeed(fixed=1e9, an_image=5e8, device="cpu")
    monkeypatch.setattr(memory_need, "memory_need", lambda *_: need)
    assert need.bytes(2) == 3 * 10**9
    monkeypatch.setattr(forecast, "machine_memory", lambda: 16 * 10**9)
    assert "takes 1 of the CPU's cores and about 3.00 GB of memory; 5 fit the 16.0 GB of this machine" in said(capsys)
    assert " of memory; " not in said(capsys, address="192.0.2.1:6379")
    on_gpus = said(capsys, "gpus_per_trial=0.25", address="192.0.2.1:6379")
    assert "takes 0.25 GPU and about 3.00 GB of GPU memory; 8 fit a GPU of 24 GB; 26 fit a GPU of 80 GB" in on_gpus
    monkeypatch.setattr(memory_need, "memory_need", lambda *_: None)
    assert "and at least " in said(capsys)


def test_the_estimate_itself_is_printed(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert " MB of memory; " in said(capsys)

"""The one command for a GPU runs on a CPU in small, and keeps what it has found when a part fails."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks import gpu
from tests.support.paths import ROOT


def test_every_part_runs_in_small() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--small", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    for part in gpu.PARTS:
        assert isinstance(found[part], dict), f"{part}: {found[part]}\n{ended.stderr}"
    assert found["determinism"] == {"float32, the same bits": True, "bfloat16, the same bits": True}
    assert found["precision"]["bfloat16"] < 0.2
    assert all(row["milliseconds"] > 0 for row in found["step"].values())
    assert all(row["milliseconds_a_step"] > 0 for row in found["feeding"]["share"].values())
    assert all(row["estimate [MB]"] > 0 for row in found["memory"].values())


def test_a_part_that_fails_or_has_no_time_left_does_not_take_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> dict[str, Any]:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(gpu, "PARTS", {"first": fails, "second": lambda *_: {"is": 1}})
    found = gpu.measure(torch.device("cpu"), ["first", "second"])
    assert found["first"] == "RuntimeError: no such kernel"
    assert found["second"] == {"is": 1}
    monkeypatch.setattr(gpu, "BUDGET_SECONDS", -1)
    assert gpu.measure(torch.device("cpu"), ["second"])["second"] == "left out, as the time was up"

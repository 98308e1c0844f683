"""Out of memory is one line in the trial's row, with a batch that would fit, and no second try where none can help."""

from pathlib import Path

import pytest
import torch

from mtl import out_of_memory as module
from mtl.datasets.rooms.dataset import Rooms
from mtl.networks.memory_need import memory_need
from mtl.out_of_memory import is_out_of_memory, out_of_memory
from mtl.training import Training
from mtl.vocabulary.units import byte_size
from search.engine.context import RunContext
from search.engine.trial import run_trial
from tests.support.small import TASKS, config

DATA = {"train": 4, "val": 2, "test": 2}
NO_MEMORY = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"


def test_what_is_out_of_memory() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(NO_MEMORY)):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)


def test_the_line_names_a_batch_that_fits() -> None:
    trial = config(image_size=(64, 64), batch_size=32, precision="bfloat16")
    need = memory_need(trial, TASKS, 100, "cuda", "bfloat16")
    assert need is not None
    total = need.bytes(11)
    error = out_of_memory(trial, TASKS, 100, "cuda", total, 1.0)
    assert str(error) == (
        f"out of memory on a GPU of {byte_size(total)} with batch_size = 32; about 11 would fit: --set batch_size=11"
    )
    assert error.hopeless
    shared = out_of_memory(trial, TASKS, 100, "cuda", 2 * total, 0.5)
    assert f"about 11 would fit in this trial's {byte_size(total)}: --set batch_size=11" in str(shared)
    assert "no batch would fit" in str(out_of_memory(trial, TASKS, 100, "cuda", 10**8, 1.0))


def test_a_trial_that_would_fit_alone_may_be_tried_again() -> None:
    error = out_of_memory(config(), TASKS, 24, "cpu", 10**12, 1.0)
    assert not error.hopeless
    assert "other trials or programs have taken the rest" in str(error)
    assert not out_of_memory(config(), [], 24, "cpu", None, 1.0).hopeless


def test_a_network_of_which_nothing_is_known_is_told_of_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "config_need", lambda *_: None)
    assert "allowed: a smaller one" in str(out_of_memory(config(), TASKS, 24, "cpu", 10**9, 1.0))


@pytest.mark.parametrize(("memory", "tries"), [(4 * 10**8, 1), (10**13, 3)])
def test_a_trial_s_row_has_the_line(memory: int, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.engine.trial.machine_memory", lambda: memory)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    calls = []

    def fails(training: Training) -> dict[str, float]:
        calls.append(training)
        raise RuntimeError(NO_MEMORY)

    monkeypatch.setattr(Training, "run_epoch", fails)
    trial = config(data_version=Rooms(4, 2, 2).fingerprint(), dataset_options=DATA, tasks=("depth",), batch_size=4)
    result = run_trial(trial, RunContext(str(tmp_path), "s", None, threads=1, gpus=0, checkpoint_seconds=9, retries=2))
    assert result.status == "failed"
    assert len(calls) == tries
    assert result.error.startswith(f"out of memory on a machine of {byte_size(memory)} with batch_size = 4; ")
    assert "\n" not in result.error

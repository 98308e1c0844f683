"""What a machine is said to be, and the machines that sweep.json keeps."""

import json
import os
import stat
from pathlib import Path

import pytest

from mtl.vocabulary.files import SWEEP
from mtl.vocabulary.sweep_file import Machine
from search.cli import main
from search.engine import machine
from search.store.clock import now
from search.store.files import read_sweep_file
from search.store.results import TrialResult, read_results, torch_version
from search.store.storage import Store
from search.sweep_file import record_machines
from tests.support.in_process import without_ray, words
from tests.support.small import config, sweep_file

HERE = machine.this_machine()
LARGER = Machine(cpu="AMD EPYC 9654", cores=96, memory_gb=768, gpus=("NVIDIA H100",) * 2, gpu_memory_gb=(86, 86))


def nvidia_smi(folder: Path, says: str, status: int = 0) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_this_machine() -> None:
    assert HERE.cores == len(os.sched_getaffinity(0)) > 0
    assert HERE.torch == torch_version()
    assert HERE.cpu
    assert HERE.system
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 0 < HERE.memory_gb <= round(1024 * total / 1e9)  # a container may have less


def test_all_gpus_of_the_machine_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    nvidia_smi(tmp_path, "NVIDIA H100 80GB HBM3, 81559\nNVIDIA H100 80GB HBM3, 81559")
    assert machine.gpus() == [("NVIDIA H100 80GB HBM3", 81559 * 2**20)] * 2
    for says, status in (("NVIDIA-SMI has failed", 9), ("Unknown GPU, [N/A]", 0)):
        nvidia_smi(tmp_path, says, status)
        assert machine.gpus() == []  # as torch has none here


def test_sweep_json_has_each_kind_of_machine_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "s")
    store.write(SWEEP, sweep_file(2))
    before = store.read(SWEEP)
    record_machines(store, [None])
    assert store.read(SWEEP) == before
    record_machines(store, [HERE, None, HERE])
    once = store.read(SWEEP)
    record_machines(store, [HERE])
    assert store.read(SWEEP) == once
    record_machines(store, [LARGER, HERE])
    found = read_sweep_file(store)
    assert found is not None
    assert found.hardware == (HERE, LARGER)
    assert json.loads(store.read(SWEEP) or b"") == json.loads(before or b"") | {
        "hardware": [json.loads(one.model_dump_json(exclude_unset=True)) for one in (HERE, LARGER)]
    }


def test_a_sweep_that_goes_on_elsewhere_keeps_both_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with without_ray():
        assert main(words("sweep", tmp_path, sets=("lambdas=0",))) == 0
        monkeypatch.setattr("search.engine.trial.this_machine", lambda: LARGER)
        assert main(words("sweep", tmp_path)) == 0
    store = Store(str(tmp_path), "rooms")
    found = read_sweep_file(store)
    assert found is not None
    assert found.hardware == (HERE, LARGER)
    assert {one.machine for one in read_results(store).values()} == {HERE, LARGER}


def test_a_result_keeps_its_machine_and_old_ones_have_none() -> None:
    result = TrialResult(config(), "failed", now(), now())
    assert TrialResult.from_json(result.to_json()).machine is None
    assert b"machine" not in result.to_json()

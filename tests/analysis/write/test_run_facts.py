"""What was run: when, for how long, and on which machines."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.compute.merge import load_sweeps
from analysis.write.run_facts import run_facts
from tests.support.fake_sweep import write_sweep

SMALL = {"cpu": "Intel Xeon", "cores": 2, "memory_gb": 25, "system": "Debian 12", "python": "3.11.7", "torch": "2.11.0"}
LARGE = {
    **{"cpu": "AMD EPYC 9654", "cores": 96, "memory_gb": 768, "gpus": ["A100", "A100", "T4"]},
    **{"gpu_memory_gb": [86, 86, 16], "python": "3.12.3", "torch": "2.11.0"},
}
IN_WORDS = (
    "Intel Xeon, 2 cores, 25 GB of memory, no GPU, Debian 12, Python 3.11.7, torch 2.11.0",
    "AMD EPYC 9654, 96 cores, 768 GB of memory, 2 × A100 (86 GB), 1 × T4 (16 GB), Python 3.12.3, torch 2.11.0",
)


def swept(folder: Path, *, gpus: float = 0, seconds: float = 3, lambdas: tuple[float, ...] = (0,), **info: Any) -> Path:
    sizes: dict[str, Any] = {"combinations": ["depth"], "lambdas": list(lambdas), "seeds": [0, 1]}
    write_sweep(folder, **sizes)
    results = pd.read_parquet(folder / "results.parquet").assign(train_seconds=seconds)
    recipe = {"tasks": ["depth"], "gpus_per_trial": gpus}
    return write_sweep(folder, **sizes, results=results, info=info | {"recipe": recipe, "name": folder.name})


def the_run(*folders: Path) -> dict[str, Any]:
    return run_facts(load_sweeps(list(folders)))["The run"]


def test_each_machine_stands_there_once(tmp_path: Path) -> None:
    first = swept(tmp_path / "a", hardware=[SMALL, LARGE])
    second = swept(tmp_path / "b", hardware=[LARGE], lambdas=(1e-3,))
    assert the_run(first)["hardware"] == "; ".join(IN_WORDS)
    assert the_run(first, second)["hardware"] == "; ".join(IN_WORDS)
    assert the_run(second)["hardware"] == IN_WORDS[1]
    assert the_run(swept(tmp_path / "c", hardware=[{}]))["hardware"] == "not recorded"
    assert the_run(swept(tmp_path / "d"))["hardware"] == "not recorded"


@pytest.mark.parametrize(("gpus", "seconds", "said"), [(2, 3600, "4.0 GPU hours"), (0.5, 30, "30 s")])
def test_gpu_hours_are_those_of_each_trial(tmp_path: Path, gpus: float, seconds: float, said: str) -> None:
    of_gpus = swept(tmp_path / "gpus", gpus=gpus, seconds=seconds)
    of_cpus = swept(tmp_path / "cpus", seconds=36000, lambdas=(1e-3,))
    assert the_run(of_gpus)["of GPUs"] == said
    assert the_run(of_gpus, of_cpus)["of GPUs"] == said
    assert "of GPUs" not in the_run(of_cpus)
    assert the_run(of_cpus)["training in all"] == "20 h 00 min, the sum over 2 trials"

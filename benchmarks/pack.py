"""What training several trials as one batched network gains: `python -m benchmarks.pack [--device cuda] [--json]`.

Training steps x trials a second of K trials that differ in seed, in one process, for the networks of `nyuv2-small` and
`rooms` with all three tasks: as one pack, one after the other, and in K processes at once (two on a CPU). Whole steps:
batches, losses, optimizer and penalty too; `share` is that of the batched pass in the time of a pack. `operations` are
what a step of one trial gives a GPU to do (benchmarks.operations). Images are noise. On a GPU as sweeps run there:
bfloat16 and the dataset in its memory.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.operations import WARM_UP, count_operations, first_steps
from mtl.config import TrialConfig
from mtl.packed import Pack
from mtl.passes import run_alone
from mtl.tasks import Task
from mtl.training import Arrays, Training, set_deterministic
from search.recipe import expand
from search.recipe_file import load_recipe

NETWORKS = ("nyuv2-small", "rooms")
TRIALS = (1, 2, 4, 8)
IMAGES = 256  # of the noise
TASKS = [
    Task("segmentation", "segmentation", tuple(f"class {i}" for i in range(13))),
    Task("depth", "depth"),
    Task("normals", "normals"),
]
spawn = multiprocessing.get_context("spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=10, help="of each trial in each repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.device, options.steps, options.repetitions, options.trials)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['machine']}, {found['device']}: training steps x trials a second")
    for row in found["rows"]:
        shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in row.items()}
        print("  ".join(f"{name} {value}" for name, value in shown.items()))


def measure(device: str, steps: int = 10, repetitions: int = 5, trials: Sequence[int] = TRIALS) -> dict[str, Any]:
    """All rows, of each network and number of trials, as `python -m benchmarks.pack --json` prints them."""
    torch.set_num_threads(1)
    set_deterministic()
    rows = [measure_one(name, count, device, steps, repetitions) for name in NETWORKS for count in trials]
    alone = {name: operations_a_step(name, 1) for name in NETWORKS}
    for row in rows:
        first = next(one for one in rows if one["network"] == row["network"])
        row["gain"] = row["packed"] / first["alone"]  # over the first number of trials, one after the other
        row["operations"] = operations_a_step(row["network"], row["trials"])
        row["times_fewer"] = alone[row["network"]] / row["operations"]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    named = torch.cuda.get_device_name() if device == "cuda" else "one thread"
    return {"machine": machine, "device": named, "steps": steps, "repetitions": repetitions, "rows": rows}


def measure_one(
    name: str, count: int, device: str, steps: int, repetitions: int, *, beside: bool = True
) -> dict[str, Any]:
    """Steps x trials a second of so many trials: `packed`, `alone` and, if `beside`, in as many `processes`; medians.

    Packed and alone are measured in turns. `fused` says whether the network ran as one.
    """
    print(f"{name} x {count} …", file=sys.stderr, flush=True)
    own, together = trainings(name, count, device), trainings(name, count, device)
    pack = _Timed(device)

    def packed(number: int) -> None:
        pack.run([first_steps(training, number) for training in together])

    def alone(number: int) -> None:
        for training in own:
            run_alone(first_steps(training, number))

    for run in (packed, alone):
        run(WARM_UP)
    pack.seconds, pack.fused = 0.0, 0
    times: dict[str, list[float]] = {"packed": [], "alone": []}
    for _ in range(repetitions):
        times["packed"].append(seconds(lambda: packed(steps), device))
        times["alone"].append(seconds(lambda: alone(steps), device))
    row: dict[str, Any] = {"network": name, "trials": count, "fused": pack.fused > 0}
    row |= {way: count * steps / statistics.median(taken) for way, taken in times.items()}
    row["share"] = pack.seconds / sum(times["packed"])
    row["times_alone"] = statistics.median(a / b for a, b in zip(times["alone"], times["packed"], strict=True))
    processes = count if device == "cuda" else min(count, 2)
    if beside and processes > 1:
        del own, together, pack
        if device == "cuda":
            torch.cuda.empty_cache()
        row |= {"processes": processes, "in_processes": in_processes(name, processes, device, steps * repetitions)}
    return row


def trainings(name: str, count: int, device: str, more: Sequence[str] = ()) -> list[Training]:
    """So many trials of a recipe's network with all tasks, which differ in their seeds; their data are noise.

    more: fields of the recipe, as --set takes them.
    """
    sets = [
        f"seeds={count}",
        "lr_schedule=constant",
        "combinations=segmentation+depth+normals",
        "compressors=penalty",
        "targets=",
    ]
    sets += [*(["gpus_per_trial=1", "resident=true"] if device == "cuda" else []), *more]
    recipe = load_recipe(name, [*sets, "search_space=", "path_epochs=0"] if name == "rooms" else sets)
    configs = [config for config in expand(recipe, "noise") if config.strength > 0]
    chosen = [next(one for one in configs if one.seed == seed) for seed in range(count)]
    arrays = noise(chosen[0])
    return [Training(config, TASKS, arrays, torch.device(device)) for config in chosen]


def noise(config: TrialConfig) -> Arrays:
    """Three splits of the same images of the trial's size, with targets of its tasks."""
    rng, shape = np.random.default_rng(0), (IMAGES, *config.image_size)
    normals = rng.normal(size=(*shape, 3)).astype(np.float32)
    arrays = {
        "image": rng.integers(0, 256, (*shape, 3), np.uint8),
        "segmentation": rng.integers(0, 13, shape, np.uint8),
        "depth": rng.uniform(1, 5, shape).astype(np.float32),
        "normals": normals / np.linalg.norm(normals, axis=-1, keepdims=True),
    }
    return {"train": arrays, "val": arrays, "test": arrays}


def operations_a_step(name: str, count: int) -> float:
    """What a step of one trial gives a GPU to do, alone or in a pack of so many: counted on the CPU.

    The sizes of images and batches do not change it.
    """
    return count_operations(trainings(name, count, "cpu", ["image_size=32", "batch_size=2", "gpus_per_trial=1"]))


def seconds(run: Callable[[], object], device: str) -> float:
    """Wall seconds, to the end of what the device was given."""
    _wait(device)
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def in_processes(name: str, count: int, device: str, steps: int) -> float:
    """Steps x trials a second of so many processes, each with one trial, which all begin at once."""
    barrier, queue = spawn.Barrier(count), spawn.Queue()
    running = [spawn.Process(target=_process, args=(name, device, steps, barrier, queue)) for _ in range(count)]
    for process in running:
        process.start()
    times = [queue.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    return sum(steps / taken for taken in times)


def _process(name: str, device: str, steps: int, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    set_deterministic()
    (training,) = trainings(name, 1, device)
    run_alone(first_steps(training, WARM_UP))
    _wait(device)
    barrier.wait(600)
    queue.put(seconds(lambda: run_alone(first_steps(training, steps)), device))


class _Timed(Pack):
    """Knows how long its passes took."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.seconds, self._device = 0.0, device

    def _serve(self, group: Any) -> Any:
        _wait(self._device)
        started = time.perf_counter()
        try:
            return super()._serve(group)
        finally:
            _wait(self._device)
            self.seconds += time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

"""All that is to be known of a GPU, in one command: `python -m benchmarks.gpu [--json] [--only PART] [--device cpu]`.

    optimizer    a proximal step over torch's fused AdamW, as launched and in a CUDA graph; wanted: 1.2 (Euclidean), 1.5
    step         milliseconds of a whole training step in float32 and bfloat16, eager and by each backend of
                 torch.compile, for `nyuv2-small` and for a ResNet-50 at 256 x 256
    feeding      the share of a step's time that is the network's; wanted: 0.95; and samples a second that arrive,
                 beside a torch DataLoader
    pack         training steps x trials a second of K trials in one process; wanted: 2.5 times one trial at K = 8;
                 and the operations that a step of one trial gives the GPU
    memory       the estimate of what a trial takes over what it took; the check before a sweep rests on it
    determinism  whether two trainings come to the same bits, in float32 and bfloat16
    precision    how far bfloat16 is from float32 after an epoch, beside another seed

Needs torch and this project, no dataset, and at most 8 minutes: parts that would begin after 7 are left out, and said
to be. `--small` runs all of it on tiny networks: whether it works, and no figures.
"""

import argparse
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import feeding, pack
from benchmarks import optimizer as optimizers
from mtl.config import TrialConfig
from mtl.networks.memory_need import memory_need
from mtl.passes import run_alone
from mtl.training import Training, set_deterministic
from search.recipe import expand
from search.recipe_file import load_recipe

BUDGET_SECONDS = 420
NETWORKS = {"nyuv2-small": (), "resnet50 at 256 x 256": feeding.RESNET50}
TINY = ("image_size=32", "backbone_width=8", "head_channels=8", "batch_size=4")
STEPS = 20  # that are timed at once
COMPILERS = ("off", "cudagraphs", "inductor")
Found = dict[str, Any]


def trial(name: str, device: torch.device, small: bool, **fields: Any) -> TrialConfig:
    """A penalised trial of all three tasks with one of the `NETWORKS`, as it runs on this device."""
    sets = [*NETWORKS[name], *(TINY if small else ()), f"gpus_per_trial={int(device.type == 'cuda')}"]
    configs = expand(load_recipe("nyuv2-small", sets), "made-up")
    chosen = next(one for one in configs if len(one.tasks) == 3 and one.strength > 0)
    return chosen.model_copy(update={"lr_schedule": "constant", **fields})


def training(config: TrialConfig, device: torch.device, steps: int) -> Training:
    """On noise, enough for so many steps an epoch."""
    split, few = feeding.frames(steps * config.batch_size, config.image_size), feeding.frames(2, config.image_size)
    return Training(config, list(feeding.TASKS), {"train": split, "val": few, "test": few}, device)


def seconds_an_epoch(one: Training, repetitions: int) -> float:
    """The median over epochs, after one that warms up, compiles, and captures graphs."""
    run_alone(one._train_epoch(0))
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        run_alone(one._train_epoch(0))  # ends by bringing the losses to the CPU
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure_optimizer(device: torch.device, small: bool) -> Found:
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    if small:
        few = partial(nn.Sequential, nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3))
        contestants = optimizers.contestants_on(device, torch.channels_last, few)
        return {"milliseconds": optimizers.medians_in_turn(contestants, device, rounds=1)}
    found: Found = {name: optimizers.measure(device, layout, rounds=15) for name, layout in layouts.items()}
    if device.type == "cuda":
        for name, layout in layouts.items():
            found[f"{name}, in a CUDA graph"] = optimizers.measure_captured(device, layout, rounds=30)
    return found


def measure_steps(device: torch.device, small: bool) -> Found:
    """Milliseconds a step, the seconds of the first epoch, and times as fast as the eager step in float32."""
    found: Found = {}
    compilers = COMPILERS if device.type == "cuda" and not small else ("off",)
    steps = 2 if small else STEPS
    for name in NETWORKS:
        base = 0.0
        for compiler in compilers:
            for precision in ("float32", "bfloat16"):
                started = time.perf_counter()
                one = training(trial(name, device, small, precision=precision, compile=compiler), device, steps)
                seconds = seconds_an_epoch(one, 1 if small else 3) / steps
                base = base or seconds
                found[f"{name}, {precision}, compile = {compiler}"] = {
                    "milliseconds": round(1e3 * seconds, 2),
                    "times as fast": round(base / seconds, 2),
                    "in all, seconds": round(time.perf_counter() - started, 1),
                }
                del one
                _free(device)
    return found


def measure_feeding(device: torch.device, small: bool) -> Found:
    found: Found = {"share": feeding.measure_shares(device, small)}
    count, side = (32, 32) if small else (64, 256)
    found["rate"] = feeding.measure_rates(feeding.frames(count, (side, side)), device, workers=2)
    return found


def measure_pack(device: torch.device, small: bool) -> Found:
    if small:
        row = pack.measure_one("rooms", 2, device.type, steps=1, repetitions=1, beside=False)
        return {"rows": [row | {"operations": pack.operations_a_step("rooms", 2)}]}
    return pack.measure(device.type, steps=10, repetitions=3, trials=(1, 4, 8))


def measure_memory(device: torch.device, small: bool) -> Found:
    """The estimate's bytes of tensors, and the most that an epoch's took."""
    found: Found = {}
    for name in NETWORKS:
        config = trial(name, device, small)
        need = memory_need(config, feeding.TASKS, 10**6, device.type, config.precision)
        estimate = need.tensors(config.batch_size) if need else None
        row: Found = {"estimate [MB]": estimate and round(estimate / 1e6, 1)}
        if device.type == "cuda":
            _free(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            seconds_an_epoch(training(config, device, 3), 1)
            row["measured [MB]"] = round((torch.cuda.max_memory_allocated(device) - before) / 1e6, 1)
            row["reserved [MB]"] = round(torch.cuda.max_memory_reserved(device) / 1e6, 1)
        found[name] = row
    return found


def measure_determinism(device: torch.device, small: bool) -> Found:
    found: Found = {}
    for precision in ("float32", "bfloat16"):
        config = trial("nyuv2-small", device, small, precision=precision)
        weights = []
        for _ in range(2):
            one = training(config, device, 2 if small else STEPS)
            run_alone(one._train_epoch(0))
            weights.append({name: value.cpu() for name, value in one.model.state_dict().items()})
        found[f"{precision}, the same bits"] = all(
            torch.equal(weights[0][name], weights[1][name]) for name in weights[0]
        )
    return found


def measure_precision(device: torch.device, small: bool) -> Found:
    """The largest relative difference of the tasks' mean training losses in the second epoch, from float32's."""

    def losses(**fields: Any) -> dict[str, float]:
        one = training(trial("nyuv2-small", device, small, **fields), device, 2 if small else STEPS)
        run_alone(one._train_epoch(0))
        return run_alone(one._train_epoch(1))

    whole = losses(precision="float32", seed=0)
    others = {"bfloat16": losses(precision="bfloat16", seed=0), "another seed": losses(precision="float32", seed=1)}
    return {name: round(max(abs(one[task] / whole[task] - 1) for task in whole), 5) for name, one in others.items()}


PARTS: dict[str, Callable[[torch.device, bool], Found]] = {
    "optimizer": measure_optimizer,
    "determinism": measure_determinism,
    "memory": measure_memory,
    "pack": measure_pack,
    "feeding": measure_feeding,
    "precision": measure_precision,
    "step": measure_steps,  # last, as compiling takes the longest
}


def measure(device: torch.device, parts: list[str], small: bool = False) -> Found:
    """Each part, or the error that ended it, or that there was no time left: what was found is never lost."""
    set_deterministic()
    if small:
        torch.set_num_threads(1)  # a network of a few kilobytes gains nothing from more, and they wait for each other
    started = time.perf_counter()
    found: Found = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }
    for name in parts:
        if time.perf_counter() - started > BUDGET_SECONDS:
            found[name] = "left out, as the time was up"
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            found[name] = PARTS[name](device, small)
        except Exception as error:  # whatever it is, the other parts are worth having
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        _free(device)
    return found | {"seconds": round(time.perf_counter() - started)}


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="repeatable")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny networks: whether it runs")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; allowed: --device cpu")
    found = measure(torch.device(options.device), options.only or list(PARTS), options.small)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        _show(name, value)


def _show(name: str, value: Any, depth: int = 0) -> None:
    """A line for each number, below the names of what it is of."""
    if isinstance(value, dict):
        print(f"{'  ' * depth}{name}")
        for inner, one in value.items():
            _show(str(inner), one, depth + 1)
    elif isinstance(value, list):
        print(f"{'  ' * depth}{name}")
        for one in value:
            print(f"{'  ' * (depth + 1)}{one}")
    else:
        print(f"{'  ' * depth}{name:<44} {value}")


if __name__ == "__main__":
    main()

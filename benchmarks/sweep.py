"""What the sweep's engine costs: `python -m benchmarks.sweep [--json]`.

utilisation  trials of about 5 s of training on 2 slots: seconds spent in training and testing, over (wall x slots)
             from the first trial's start to the last one's end; the same trials as plain Ray Tune function
             trainables beside them, counted alike
empty        trials that do nothing but leave their row: wall time a trial, beside a plain class trainable whose
             actors are reused, whose trials leave nothing; the driver's memory; the first and the last thousand
resume       a sweep of which all but ten trials are done: seconds from the command to the first trial's start
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from benchmarks.empty_trials import Run
from mtl.config import TrialConfig
from mtl.training import Training, set_deterministic
from mtl.vocabulary.files import trial_file
from search.engine.runner import RayRunner
from search.engine.trial import trial_data
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.store.results import TrialResult, read_results
from search.sweep import Sweep, open_sweep

SLOTS = 2
# Chosen so that a trial takes about five seconds on one core of the machine that the README's figures are from.
FIVE_SECONDS = ["combinations=segmentation+depth+normals", "lambdas=0,1e-3", "epochs=6", "checkpoint_seconds=5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trials", default="24,60", help="numbers of trials to measure the utilisation with")
    parser.add_argument("--empty-trials", type=int, default=10_000)
    parser.add_argument("--only", choices=["utilisation", "empty", "resume"])
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ray {ray.__version__}",
        "slots": SLOTS,
    }
    counts = [int(count) for count in options.trials.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        if options.only in (None, "utilisation"):
            for count in counts:
                result[f"utilisation_{count}"] = measure_utilisation(count, Path(scratch) / str(count))
        if options.only in (None, "empty"):
            result["empty"] = measure_empty(options.empty_trials, Path(scratch) / "empty")
        if options.only in (None, "resume"):
            result["resume"] = measure_resume(options.empty_trials, Path(scratch) / "resume")
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for part, figures in result.items():
            for name, value in (figures if isinstance(figures, dict) else {"": figures}).items():
                print(f"{part:18}{name:44}{value}")


def five_second_sweep(count: int, storage: Path) -> Sweep:
    recipe = load_recipe("rooms", [*FIVE_SECONDS, f"seeds={count // 2}"])
    return open_sweep(recipe, str(storage), "sweep", None)


def measure_utilisation(count: int, scratch: Path) -> dict[str, Any]:
    say(f"{count} trials, this engine …")
    sweep = five_second_sweep(count, scratch)
    results = run_sweep(sweep, RayRunner("local"))
    ours = Share.of([(seconds(r.started_at), seconds(r.ended_at), r.train_seconds) for r in results])
    say(f"{count} trials, plain function trainables …")
    plain = Share.of(run_functions(sweep.configs))
    return {
        "training_seconds_a_trial": round(ours.useful / count, 2),
        "share": round(ours.share, 3),
        "share_of_plain_function_trainables": round(plain.share, 3),
        "times_plain": round(ours.share / plain.share, 2),
    }


class Share:
    """Of the slots' time between the first start and the last end, what was useful. Trials: (start, end, useful)."""

    def __init__(self, useful: float, wall: float) -> None:
        self.useful, self.share = useful, useful / (wall * SLOTS)

    @classmethod
    def of(cls, trials: list[tuple[float, float, float]]) -> "Share":
        starts, ends, useful = zip(*trials, strict=True)
        return cls(sum(useful), max(ends) - min(starts))


def run_functions(configs: list[TrialConfig]) -> list[tuple[float, float, float]]:
    """The same trials as Ray's guide writes them: a function that reports each epoch, a process for each trial."""

    def train(space: dict[str, Any]) -> None:
        started = time.time()
        torch.set_num_threads(1)
        set_deterministic()
        began = time.perf_counter()
        config = TrialConfig.model_validate(space["trial"])
        training = Training(config, *trial_data(config, None), torch.device("cpu"))
        while not training.done:
            tune.report(training.run_epoch())
        metrics = training.test()
        useful = time.perf_counter() - began
        tune.report({**metrics, "times": (started, time.time(), useful)})

    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=SLOTS)
    with tempfile.TemporaryDirectory() as scratch:
        grid = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"trial": tune.grid_search([config.model_dump(mode="json") for config in configs])},
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
    ray.shutdown()
    return [result.metrics["times"] for result in grid]


def measure_empty(count: int, scratch: Path) -> dict[str, Any]:
    """Ours and Ray's, each in a process of its own: neither's memory weighs on the other."""
    figures = {}
    for kind in ("plain", "ours"):
        say(f"{count} empty trials, {kind} …")
        command = [sys.executable, "-m", "benchmarks.empty_trials", kind, str(count), str(scratch / kind)]
        figures[kind] = Run(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    ours, plain = figures["ours"], figures["plain"]
    tenth = count // 10
    return {
        "trials": count,
        "milliseconds_a_trial": round(1000 * ours.seconds / count, 2),
        "milliseconds_a_trial_of_plain_tune": round(1000 * plain.seconds / count, 2),
        "times_plain": round(ours.seconds / plain.seconds, 2),
        "last_tenth_over_first": round(ours.pace(-tenth) / ours.pace(tenth), 2),
        "last_tenth_over_first_of_plain_tune": round(plain.pace(-tenth) / plain.pace(tenth), 2),
        "driver_megabytes": round(ours.driver_bytes / 1e6),
        "driver_megabytes_of_plain_tune": round(plain.driver_bytes / 1e6),
    }


def measure_resume(count: int, scratch: Path) -> dict[str, Any]:
    """All but ten trials have a result of eight epochs; the clock runs from the command to the first new trial."""
    say(f"a sweep of {count} trials of which ten are left …")
    overrides = ["combinations=depth", f"seeds={count // 5}", "epochs=8"]
    sweep = open_sweep(load_recipe("rooms", overrides), str(scratch), "sweep", None)
    row = {f"val_{name}": 0.5 for name in sweep.metrics} | {"train_depth_loss": 0.5, "seconds": 1.0}
    history = tuple({"epoch": float(epoch), **row} for epoch in range(8))
    metrics = {f"{split}_{name}": 0.5 for split in ("val", "test") for name in sweep.metrics}
    moment = datetime.now(UTC).isoformat()
    for config in sweep.configs[:-10]:
        result = TrialResult(config, "done", moment, moment, 8.0, metrics, history)
        sweep.store.write(trial_file(config.trial_id, "result.json"), result.to_json())
    command = [sys.executable, "-c", "import sys; from search.cli import main; sys.exit(main())", "sweep", "rooms"]
    words = [word for override in overrides for word in ("--set", override)]
    started = time.time()
    subprocess.run(
        [*command, "--storage", str(scratch), "--name", "sweep", "--address", "local", *words],
        check=True,
        capture_output=True,
    )
    whole = time.time() - started
    results = read_results(sweep.store)
    starts = [seconds(results[config.trial_id].started_at) for config in sweep.configs[-10:]]
    return {
        "trials": count,
        "left": 10,
        "seconds_to_the_first_trial": round(min(starts) - started, 1),
        "seconds_in_all": round(whole, 1),
    }


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

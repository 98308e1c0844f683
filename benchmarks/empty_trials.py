"""Trials that do nothing but leave their row, for benchmarks.sweep: what the engine itself costs.

A process of its own, `python -m benchmarks.empty_trials KIND COUNT FOLDER`, which imports what a driver imports and
prints what `Run` holds as JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray import tune

from mtl.config import TrialConfig
from search.engine import runner
from search.engine.context import RunContext
from search.engine.runner import TrialActor
from search.recipe import load_recipe
from search.store.results import TrialResult
from search.sweep import Sweep, open_sweep, run_sweep


class EmptyActor(TrialActor):
    """Steps a trial without training: its row is all that it leaves."""

    def make_run(self, config: TrialConfig, context: RunContext) -> Any:
        from benchmarks.empty_run import EmptyRun

        return EmptyRun(config, context)


class PlainActor(tune.Trainable):
    """What Ray's guide makes of an empty trial, its process reused."""

    def setup(self, config: dict[str, Any]) -> None:
        pass

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        return {"done": True, "group_sparsity": 0.0, "parameter_sparsity": 0.0}


class Pace(tune.Callback):
    """When each trial ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ends.append(time.perf_counter())


def empty_sweep(count: int, storage: Path) -> Sweep:
    """As many trials as asked for, of one combination and five lambdas."""
    recipe = load_recipe("rooms", ["combinations=depth", f"seeds={count // 5}"])
    return open_sweep(recipe, str(storage), "sweep", None)


@dataclass(frozen=True)
class Run:
    """Moments at which trials ended, wall seconds from the first of them to the end, and the driver's peak memory."""

    ends: Sequence[float]
    seconds: float
    driver_bytes: int

    def pace(self, count: int) -> float:
        """Seconds a trial among the first `count`, or the last where it is negative."""
        ends = self.ends[:count] if count > 0 else self.ends[count:]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def run_empty_trials(kind: str, count: int, scratch: Path) -> Run:
    """Wall seconds from the first trial's end on: what comes before is the start of Ray and of processes."""
    pace = Pace()
    if kind == "ours":
        original = runner.run_trials

        def run_trials(*arguments: Any, on_result: Callable[[TrialResult], None], **options: Any) -> None:
            def noted(result: TrialResult) -> None:
                on_result(result)
                pace.ends.append(time.perf_counter())

            original(*arguments, on_result=noted, actor=EmptyActor, **options)

        with mock.patch.object(runner, "run_trials", run_trials):
            run_sweep(empty_sweep(count, scratch), "local")
    else:
        for variable in [name for name in os.environ if name.startswith("TUNE_")]:
            del os.environ[variable]  # which importing our runner has set: plain Tune writes the files it writes
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        tune.Tuner(
            tune.with_resources(PlainActor, {"cpu": 1}),
            # Numbers and not whole settings: Tune copies all of a grid for each trial, which at 10,000 takes for ever.
            param_space={"trial": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
            run_config=tune.RunConfig(
                storage_path=str(scratch),
                verbose=0,
                callbacks=[pace],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        ray.shutdown()
    wall = time.perf_counter() - pace.ends[0]
    return Run(pace.ends, wall, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    print(json.dumps(asdict(run_empty_trials(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))))

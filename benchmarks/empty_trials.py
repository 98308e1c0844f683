"""Trials that do nothing but leave their row, for benchmarks.sweep: what the engine itself costs.

A process of its own, `python -m benchmarks.empty_trials KIND COUNT FOLDER`, which imports what a driver imports and
prints what `Run` holds as JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from mtl.config import TrialConfig
from search.engine.context import RunContext
from search.engine.ray_tune import TrialActor, run_on_tune
from search.engine.runner import RayRunner, RunTrials
from search.listener import Listener, Listeners
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.store.results import TrialResult
from search.sweep import Sweep, open_sweep


class EmptyActor(TrialActor):
    """Steps a trial without training: its row is all that it leaves."""

    def make_run(self, config: TrialConfig, context: RunContext) -> Any:
        from benchmarks.empty_run import EmptyRun

        return EmptyRun(config, context)


@dataclass(frozen=True)
class PacedRunner(RayRunner):
    """Runs empty trials, and notes when each ended."""

    ends: list[float]

    @contextmanager
    def started(self, context: RunContext) -> Iterator[RunTrials]:
        with super().started(context):
            yield lambda source, listener: run_on_tune(
                context, source, Listeners([listener, _Ends(self.ends)]), EmptyActor
            )


class _Ends(Listener):
    def __init__(self, ends: list[float]) -> None:
        self._ends = ends

    def ended(self, result: TrialResult) -> None:
        self._ends.append(time.perf_counter())


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
        run_sweep(empty_sweep(count, scratch), PacedRunner("local", pace.ends))
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

"""Early stopping under real Ray Tune, with trials whose metric is known beforehand."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.engine.context import RunContext
from search.engine.ray_cluster import start_ray, stop_ray
from search.engine.ray_tune import TrialActor, ray, run_on_tune
from search.engine.source import ListedTrials
from search.listener import Listener
from search.store.clock import now
from search.store.results import TrialResult, write_result
from tests.support.small import config

EPOCHS = 5
# The strengths with the epochs that their trials should get, worked out by hand for rungs at 1, 2 and 4 epochs and a
# factor of 2; the trials run one after another. 1 is first at each rung; 8 is the worse of two; 2 is second of three at
# epoch 1 and the worse of two at 2; 3 resumes past both rungs, is recorded there, and is the worse of two at 4; 0.5 is
# the best; 2.5 is fourth of six.
EPOCHS_WANTED = {0.0: 5, 1.0: 5, 8.0: 1, 2.0: 2, 3.0: 4, 0.5: 5, 2.5: 1}
RESUMED = 3.0


class ToyRun:
    """A trial whose depth error is its strength. One trial resumes after three epochs."""

    def __init__(self, trial: TrialConfig, context: RunContext) -> None:
        self._config, self._context, self._rows = trial, context, list[dict[str, float]]()
        self.started_at, self.result = now(), None

    def step(self) -> None:
        self._run_epoch()
        while self._config.strength == RESUMED and len(self._rows) < 3:
            self._run_epoch()
        if len(self._rows) == EPOCHS:
            result = TrialResult(self._config, "done", self.started_at, now(), history=tuple(self._rows))
            self.result = write_result(self._context.store(), result)

    def _run_epoch(self) -> None:
        row = {"epoch": len(self._rows), "val_depth_mae": self._config.strength, "group_sparsity": 0, "seconds": 0.5}
        self._rows.append(row)

    def unreported_rows(self) -> list[dict[str, float]]:
        resumed = self._config.strength == RESUMED and len(self._rows) == 3
        return self._rows if resumed else self._rows[-1:]


class ToyActor(TrialActor):
    def make_run(self, trial: TrialConfig, context: RunContext) -> Any:
        with Path(str(context.data)).open("a") as log:
            log.write(f"{os.getpid()}\n")
        return ToyRun(trial, context)


class Collector(Listener):
    """The rows and the ends of trials, as the driver sees them."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
        self.results: list[TrialResult] = []

    def epochs(self, trial: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        self.rows[trial.trial_id] += rows

    def ended(self, result: TrialResult) -> None:
        self.results.append(result)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    start_ray("local", 1, 0, None)  # never a Ray that runs on this machine: it is another's, and may end at any time
    yield
    stop_ray()


def test_bad_trials_are_stopped_and_their_actors_reused(ray_here: None, tmp_path: Path) -> None:
    mae = Objective("val_depth_mae", "minimize")
    halving = SuccessiveHalving([mae], {"depth": mae}, grace_epochs=1, reduction_factor=2)
    configs = {s: config(tasks=("depth",), strength=s, epochs=EPOCHS) for s in EPOCHS_WANTED}
    log = tmp_path / "log"
    # All cores for one actor, so that the reports come in the trials' order.
    cores = int(ray.cluster_resources()["CPU"])
    context = RunContext(str(tmp_path), "toy", str(log), cores, 0, 0, base=configs[0.0])
    collector = Collector()
    run_on_tune(context, ListedTrials(configs.values(), halving), collector, ToyActor)

    rows = {s: collector.rows[c.trial_id] for s, c in configs.items()}
    assert {s: len(r) for s, r in rows.items()} == EPOCHS_WANTED
    assert all([row["epoch"] for row in r] == list(range(len(r))) for r in rows.values())
    assert [result.config for result in collector.results] == list(configs.values())
    for result in collector.results:
        epochs = EPOCHS_WANTED[result.config.strength]
        assert (result.status, len(result.history)) == ("done" if epochs == EPOCHS else "stopped", epochs)
    assert len(set(log.read_text().split())) == 1, "one process ran them all"

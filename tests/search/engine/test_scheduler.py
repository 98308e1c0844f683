"""Early stopping under real Ray Tune, with a trial whose metric is known beforehand."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.engine.interrupts import Interrupts
from search.engine.ray_cluster import start_ray, stop_ray
from search.engine.ray_tune import ray, tune
from search.engine.scheduler import SweepScheduler
from tests.support.small import config

EPOCHS = 5
# Each with the epochs it should get, worked out by hand for rungs at 1, 2 and 4 epochs and a factor of 2; the trials
# come one after another. 1 is first at each rung; 8 is the worse of two; 2 is second of three at epoch 1 and the worse
# of two at 2; 3 is resumed past both, recorded there, and the worse of two at 4; 0.5 is best; 2.5 is fourth of six.
EPOCHS_WANTED = {0.0: 5, 1.0: 5, 8.0: 1, 2.0: 2, 3.0: 4, 0.5: 5, 2.5: 1}
RESUMED = 3.0


class ToyTrial(tune.Trainable):
    """A depth error that is the strength; notes what becomes of its actor. One is resumed after three epochs."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config, self._epochs = TrialConfig.model_validate_json(new_config["trial"]), 0
        self._log = Path(new_config["log"])
        return True

    def step(self) -> dict[str, Any]:
        rows = [self._row()]
        while self._config.strength == RESUMED and self._epochs < 3:
            rows.append(self._row())
        with self._log.open("a") as log:
            log.write(f"{os.getpid()}\n")
        return {"epoch_rows": rows, "done": self._epochs == EPOCHS}

    def _row(self) -> dict[str, float]:
        self._epochs += 1
        return {"epoch": self._epochs - 1, "val_depth_mae": self._config.strength, "group_sparsity": 0, "seconds": 0.5}


class Collector(tune.Callback):
    """The rows and ends of trials, as a driver's callback sees them."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        self.ended: list[str] = []

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self.rows[TrialConfig.model_validate_json(trial.config["trial"]).trial_id] += result["epoch_rows"]

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ended.append(TrialConfig.model_validate_json(trial.config["trial"]).trial_id)


@pytest.fixture(scope="module")
def ray_here() -> Any:
    start_ray("local", 1, 0, None)  # one that runs on this machine is another's, and may end at any time
    yield
    stop_ray()


def test_bad_trials_are_stopped_and_their_actors_reused(ray_here: None, tmp_path: Path) -> None:
    mae = Objective("val_depth_mae", "minimize")
    halving = SuccessiveHalving([mae], {"depth": mae}, grace_epochs=1, reduction_factor=2)
    scheduler = SweepScheduler(halving, Interrupts())
    collector = Collector()
    configs = {s: config(tasks=("depth",), strength=s, epochs=EPOCHS) for s in EPOCHS_WANTED}
    log = tmp_path / "log"
    # All cores for one actor, so that the reports come in the trials' order.
    resources = {"cpu": int(ray.cluster_resources()["CPU"])}
    tune.Tuner(
        tune.with_resources(ToyTrial, resources),
        param_space={
            "trial": tune.grid_search([c.model_dump_json() for c in configs.values()]),
            "log": str(log),
        },
        tune_config=tune.TuneConfig(reuse_actors=True, scheduler=scheduler),
        run_config=tune.RunConfig(
            name="toy",
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=[collector],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()

    rows = {s: collector.rows[c.trial_id] for s, c in configs.items()}
    assert {s: len(r) for s, r in rows.items()} == EPOCHS_WANTED
    assert all([row["epoch"] for row in r] == list(range(len(r))) for r in rows.values())
    assert scheduler.stopped == {c.trial_id for s, c in configs.items() if EPOCHS_WANTED[s] < EPOCHS}
    assert collector.ended == [c.trial_id for c in configs.values()]
    assert len(set(log.read_text().split())) == 1, "one process ran them all"

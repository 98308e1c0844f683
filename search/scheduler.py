"""Early stopping of trials under Ray Tune."""

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mtl.config import TrialConfig
from search.successive_halving import SuccessiveHalving


class HalvingScheduler(FIFOScheduler):
    """Starts trials in their order and stops those that fall behind, as `SuccessiveHalving` decides.

    trial.config["trial"] must be the TrialConfig as a dict, and a result must have under "epoch_rows" the list of the
    history's rows that the trial has not reported before: one after an epoch, none where it ran none, and after the
    first step of a trial that was resumed all there are. (A list, as Tune flattens dicts for schedulers.)

    After STOP, Tune calls `on_trial_complete` of the scheduler and of the callbacks as for a trial that has come to its
    end, and keeps the actor for the next trial; the actor itself is told nothing. `stopped` has the ids of the trials
    that were stopped, to tell the two apart.
    """

    def __init__(self, halving: SuccessiveHalving) -> None:
        super().__init__()
        self._halving = halving
        self.stopped: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        config = TrialConfig.model_validate(trial.config["trial"])
        *earlier, row = result["epoch_rows"] or [None]
        for earlier_row in earlier:
            self._halving.record(config, earlier_row)
        if row is None or self._halving.report(config, row):
            return TrialScheduler.CONTINUE
        self.stopped.add(config.trial_id)
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Record the last result, which Tune shows here alone where the trial has ended by itself."""
        config = TrialConfig.model_validate(trial.config["trial"])
        for row in result.get("epoch_rows", ()):
            self._halving.record(config, row)

"""Which trials go on, under Ray Tune: all, those that early stopping leaves, or none once the sweep is interrupted."""

from collections import deque
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from mtl.config import TrialConfig
from search.early_stopping.policy import StoppingPolicy, stays
from search.engine.interrupts import Interrupts


class SweepScheduler(FIFOScheduler):
    """Starts trials in their order and stops those that fall behind, as a policy such as `SuccessiveHalving` has it.
    Once interrupted it withdraws the trials that wait and pauses each that runs at its next result; Tune has a paused
    trial save itself.

    trial.config["trial"] must be what `unpack` makes the TrialConfig of, and a result must have under "epoch_rows" the
    list of the history's rows that the trial has not reported before: one after an epoch, none where it ran none, and
    after the first step of a trial that was resumed all there are. (A list, as Tune flattens dicts for schedulers.)

    After STOP, Tune calls `on_trial_complete` of the scheduler and of the callbacks as for a trial that has come to its
    end, and keeps the actor for the next trial; the actor itself is told nothing. `stopped` and `withdrawn` have the
    ids, Tune's for the latter, of the trials that ended so, to tell them apart.
    """

    def __init__(
        self,
        policy: StoppingPolicy | None,
        interrupts: Interrupts,
        unpack: Callable[[str], TrialConfig] = TrialConfig.model_validate_json,
    ) -> None:
        super().__init__()
        self._policy, self._interrupts, self._unpack = policy, interrupts, unpack
        self._waiting: deque[Any] = deque()
        self.stopped: set[str] = set()
        self.withdrawn: set[str] = set()
        self.stopper = _StopWhenPaused()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the Tuner pickles itself for a resume of its own, which is never asked for."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Called for each trial in its order, and again for one that is to be started anew."""
        self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Called at each of Tune's steps. The parent looks through all trials: slow where they are thousands."""
        if self._interrupts.asked:
            self._withdraw(tune_controller)
            return None
        while self._waiting and self._waiting[0].status != "PENDING":
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not self._tell(trial, result):
            self.stopped.add(self._unpack(trial.config["trial"]).trial_id)
            return TrialScheduler.STOP
        return TrialScheduler.PAUSE if self._interrupts.asked else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tune shows the last result here alone where the trial has ended by itself."""
        self._tell(trial, result, ended=True)

    def _tell(self, trial: Any, result: dict[str, Any], *, ended: bool = False) -> bool:
        rows = result.get("epoch_rows", ())
        return self._policy is None or stays(self._policy, self._unpack(trial.config["trial"]), rows, ended=ended)

    def _withdraw(self, tune_controller: Any) -> None:
        """Take back the trials that wait, which Tune would start in the place of those that pause."""
        trials = tune_controller.get_trials()
        for trial in [trial for trial in trials if trial.status == "PENDING"]:
            self.withdrawn.add(trial.trial_id)
            tune_controller.stop_trial(trial)
        self.stopper.now = all(trial.status in ("PAUSED", "TERMINATED", "ERROR") for trial in trials)


class _StopWhenPaused(tune.Stopper):
    """Ends the run once nothing of it runs any more."""

    def __init__(self) -> None:
        self.now = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.now

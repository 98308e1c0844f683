"""What Ray Tune asks us while it runs trials: which trial comes next, and whether a running trial goes on."""

import json
from collections import deque
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mtl.config import TrialConfig
from search.early_stopping.policy import StoppingPolicy, stays
from search.engine.interrupts import Interrupts
from search.engine.pack import Packs


class Unsaved:
    """Pickles as nothing: the Tuner pickles its parts for a resume of its own, which we never ask for."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Packing:
    """A config as a short JSON text, which names only the fields that differ from `base`, and back.

    Tune keeps half a dozen copies of each config in its records of thousands of trials.
    """

    def __init__(self, base: TrialConfig | None) -> None:
        self._base = base.model_dump(mode="json") if base else {}

    def pack(self, config: TrialConfig) -> str:
        fields = config.model_dump(mode="json")
        return json.dumps(
            {name: value for name, value in fields.items() if name not in self._base or value != self._base[name]}
        )

    def unpack(self, packed: str) -> TrialConfig:
        return TrialConfig.model_validate(self._base | json.loads(packed))


class SourceSearcher(Unsaved, Searcher):
    """Gives Tune the trials of a source. The runner, which knows the results, tells the source how trials end.

    A list of trials goes through here too: Tune's own grid copies the whole grid for each of its trials. What Tune
    calls a trial is a pack of ours, mostly of one; its config has one entry, "trials", a list of packed TrialConfigs.
    """

    def __init__(self, packs: Packs, packing: Packing, interrupts: Interrupts) -> None:
        super().__init__()
        self._packs, self._packing, self._interrupts = packs, packing, interrupts

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """Tune has nothing to tell: the source has its own objectives and space."""
        return True

    def suggest(self, trial_id: str) -> Any:
        configs = [] if self._interrupts.asked else self._packs.next()
        if configs:
            return {"trials": [self._packing.pack(config) for config in configs]}
        return Searcher.FINISHED if self._interrupts.asked or self._packs.exhausted else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Saves nothing: a source continues from the results in our own store."""


class SweepScheduler(Unsaved, FIFOScheduler):
    """Starts trials in their order, and stops those that a policy such as `SuccessiveHalving` does not let go on.
    After an interrupt it withdraws the waiting trials and pauses each running trial at its next result; Tune makes a
    paused trial save itself.

    A result has under "trials" a dict for each trial of the pack, in order. Its "epoch_rows" are the rows of the
    history that the trial has not reported before: one after an epoch, none if it ran no epoch, and all rows after the
    first step of a resumed trial. (They are lists because Tune flattens dicts for schedulers.) A pack is stopped when
    none of its trials is to go on.

    After STOP, Tune calls `on_trial_complete` of the scheduler and of the callbacks as for a trial that has finished,
    and keeps the actor for the next trial; the actor is not told. To tell these trials apart, `stopped` holds the trial
    ids of those that the policy stopped, and `withdrawn` Tune's ids of those that were withdrawn.
    """

    def __init__(self, policy: StoppingPolicy | None, interrupts: Interrupts, packing: Packing) -> None:
        super().__init__()
        self._policy, self._interrupts, self._packing = policy, interrupts, packing
        self._waiting: deque[Any] = deque()
        self.stopped: set[str] = set()
        self.withdrawn: set[str] = set()
        self.stopper = _StopWhenPaused()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune calls it for each trial in its order, and again for a trial that it restarts."""
        self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Tune calls it at each of its steps. The parent's method looks through all trials, which may be thousands."""
        if self._interrupts.asked:
            self._withdraw(tune_controller)
            return None
        while self._waiting and self._waiting[0].status != "PENDING":
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        going_on = self._tell(trial, result)
        if going_on and not any(going_on.values()):
            self.stopped |= set(going_on)
            return TrialScheduler.STOP
        return TrialScheduler.PAUSE if self._interrupts.asked else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """If a trial finishes by itself, Tune shows its last result only here."""
        self._tell(trial, result, ended=True)

    def _tell(self, trial: Any, result: dict[str, Any], *, ended: bool = False) -> dict[str, bool]:
        """Which trials of the pack go on, by their ids; those that have ended are not among them."""
        stay = {}
        for packed, one in zip(trial.config["trials"], result.get("trials", ()), strict=False):
            config, over = self._packing.unpack(packed), ended or one["ended"]
            if self._policy is None and over:
                continue
            goes_on = self._policy is None or stays(self._policy, config, one["epoch_rows"], ended=over)
            if not over:
                stay[config.trial_id] = goes_on
        return stay

    def _withdraw(self, tune_controller: Any) -> None:
        """Take back the waiting trials, which Tune would start in place of the pausing ones."""
        trials = tune_controller.get_trials()
        for trial in [trial for trial in trials if trial.status == "PENDING"]:
            self.withdrawn.add(trial.trial_id)
            tune_controller.stop_trial(trial)
        self.stopper.now = all(trial.status in ("PAUSED", "TERMINATED", "ERROR") for trial in trials)


class _StopWhenPaused(tune.Stopper):
    """Ends the run once none of its trials runs any more."""

    now = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.now

"""Where the trials of a run come from: a list, or a search that proposes trials while others run."""

from collections.abc import Iterable
from typing import Protocol

from mtl.config import TrialConfig
from search.early_stopping.policy import StoppingPolicy
from search.listener import Listener
from search.store.results import TrialResult

# A cluster's autoscaler starts machines for the trials that wait for room.
AHEAD = 200


class TrialSource(Protocol):
    """Trials in the order in which they start.

    Attributes:
        policy: stops trials that fall behind; None if every trial runs to its end.
        ahead: how many trials are taken before there is room for them.
    """

    @property
    def policy(self) -> StoppingPolicy | None: ...

    @property
    def ahead(self) -> int: ...

    def next(self) -> TrialConfig | None:
        """The next trial to start; None if there is none at the moment."""

    @property
    def exhausted(self) -> bool:
        """Whether no more trials will come."""


class ListedTrials(Listener):
    """The trials of a list, in its order; one that starts from another's model waits until the other has ended."""

    ahead = AHEAD

    def __init__(self, configs: Iterable[TrialConfig], policy: StoppingPolicy | None = None) -> None:
        self._left = list(configs)
        self._not_ended = {config.trial_id for config in self._left}
        self.policy = policy

    def next(self) -> TrialConfig | None:
        ready = (i for i, one in enumerate(self._left) if one.warm_started_from not in self._not_ended)
        place = next(ready, None)
        return None if place is None else self._left.pop(place)

    def ended(self, result: TrialResult) -> None:
        self._not_ended.discard(result.config.trial_id)

    @property
    def exhausted(self) -> bool:
        return not self._left

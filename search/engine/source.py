"""Where the trials of a run come from: a list, or a search that proposes trials while others run."""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from mtl.config import TrialConfig
from search.early_stopping.policy import StoppingPolicy

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


class ListedTrials:
    """The trials of a list, in its order."""

    ahead = AHEAD

    def __init__(self, configs: Iterable[TrialConfig], policy: StoppingPolicy | None = None) -> None:
        self._left = deque(configs)
        self.policy = policy

    def next(self) -> TrialConfig | None:
        return self._left.popleft() if self._left else None

    @property
    def exhausted(self) -> bool:
        return not self._left

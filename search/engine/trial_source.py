"""Where the trials of a run come from, one at a time: a list, or whatever decides as others end."""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from mtl.config import TrialConfig


class TrialSource(Protocol):
    """Trials in the order in which they are to start."""

    def next(self) -> TrialConfig | None:
        """The next trial to start; None where there is none now."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""


class ListedTrials:
    """Those of a list, in its order."""

    def __init__(self, configs: Iterable[TrialConfig]) -> None:
        self._left = deque(configs)

    def next(self) -> TrialConfig | None:
        return self._left.popleft() if self._left else None

    @property
    def exhausted(self) -> bool:
        return not self._left

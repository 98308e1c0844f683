"""Several trials in one process, an epoch of each at a time: a pack; and which trials make one."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mtl.config import TrialConfig
from search.engine.source import TrialSource
from search.store.messages import say

if TYPE_CHECKING:
    from search.engine.trial import TrialRun

# The trials of a pack may differ in these: their networks, data and passes are alike.
OWN_FIELDS = {"seed", "strength", "lr", "weight_decay", "penalty", "metric", "stage_factors", "warm_started_from"}


class Packs:
    """A source's trials in packs of up to `size`, for trials that can train together.

    The first of a pack is the source's next. Others are taken from those that follow; those that are left over begin
    packs of their own, in their order. The source is never asked for more trials ahead than `source.ahead`, or a pack.
    """

    def __init__(self, source: TrialSource, size: int) -> None:
        self._source, self._size = source, size
        self._held: deque[TrialConfig] = deque()

    def next(self) -> list[TrialConfig]:
        """The trials of the next pack; none if there are none at the moment."""
        first = self._held.popleft() if self._held else self._source.next()
        if first is None:
            return []
        pack, wanted = [first], kind_of(first)
        passed: deque[TrialConfig] = deque()
        while len(pack) < self._size and (self._held or len(passed) < max(self._source.ahead, self._size)):
            one = self._held.popleft() if self._held else self._source.next()
            if one is None:
                break
            (pack if kind_of(one) == wanted else passed).append(one)
        self._held.extendleft(reversed(passed))
        return pack

    @property
    def exhausted(self) -> bool:
        """Whether no more packs will come."""
        return not self._held and self._source.exhausted


def kind_of(config: TrialConfig) -> str:
    """Equal for trials that can train together."""
    return json.dumps(config.model_dump(mode="json", exclude=OWN_FIELDS), sort_keys=True)


class PackRun:
    """The trials of a pack, each of which keeps its own files, retries and result.

    runs: one for each trial, in order. apart: they run one after the other, so that it is known which of them has ended
    the process if it ends.

        while pack.left:
            pack.step()
    """

    def __init__(self, runs: "Sequence[TrialRun]", apart: bool = False) -> None:
        self.runs, self._apart = list(runs), apart
        self._dropped: set[int] = set()
        self._step: Callable[[Sequence[TrialRun]], None] | None = None

    @property
    def left(self) -> "list[TrialRun]":
        """Those that have not ended."""
        return [run for place, run in enumerate(self.runs) if run.result is None and place not in self._dropped]

    def drop(self, run: "TrialRun") -> None:
        """Run this one no further."""
        self._dropped.add(self.runs.index(run))

    def step(self) -> None:
        """Train one epoch of each trial that is left, or end it. Raises StorageError, as `TrialRun.step` does."""
        left = self.left
        if self._apart:
            left = left[:1]
        if len(self.runs) == 1 or self._apart:
            for run in left:
                run.step()
            return
        if self._step is None:
            self._step = self._together()
        self._step(left)

    def save_checkpoint(self) -> None:
        for run in self.left:
            run.save_checkpoint()

    def _together(self) -> "Callable[[Sequence[TrialRun]], None]":
        # Imported here: the driver, which forms packs, needs no networks.
        from mtl.packed import Pack

        pack = Pack(say)
        for run in self.runs:
            run.clock, run.together = pack.clock, len(self.runs)

        def step(left: "Sequence[TrialRun]") -> None:
            pack.run([run.passes() for run in left])

        return step

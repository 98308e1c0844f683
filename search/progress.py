"""How far a sweep is: the line that people watch, and progress.json for `parsimony status`."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, TextIO

from pydantic import Field

from mtl.config import TrialConfig
from mtl.vocabulary.checked import MOST, STRICT, Count
from mtl.vocabulary.files import PROGRESS
from mtl.vocabulary.units import duration
from search.display import make_display
from search.listener import Listener
from search.store.clock import Moment, now
from search.store.results import TrialResult
from search.store.storage import Store

STORE_SECONDS = 5.0


@dataclass(frozen=True)
class Snapshot:
    """Counts of trials. `seconds_left` is None as long as it cannot be estimated. `updated_at`: UTC, ISO 8601.
    `best`: the best model so far in a few words, empty while none is known."""

    __pydantic_config__: ClassVar = STRICT

    done: Count
    running: Count
    failed: Count
    total: Count
    seconds_left: Annotated[float, Field(ge=0, le=MOST)] | None
    updated_at: Moment
    best: str = ""

    def line(self) -> str:
        """All of it in one line."""
        return self.lines()[0]

    def lines(self) -> list[str]:
        """The same in ever fewer characters, for narrow terminals."""
        counts = f"{self.done}/{self.total} done · {self.running} running · {self.failed} failed"
        left = f"{duration(self.seconds_left)} left" if self.seconds_left else ""
        short = f"{self.done}/{self.total}" + f" · {self.failed} failed" * bool(self.failed)
        kinds = [
            (counts, left and f"about {left}", self.best and f"best so far {self.best}"),
            (short, left, self.best and f"best {self.best}"),
            (counts, left and f"about {left}", ""),
            (short, left, ""),
            (short, "", ""),
        ]
        return [" · ".join(filter(None, parts)) for parts in kinds]


def work_of(config: TrialConfig, epochs: int) -> int:
    """A rough cost of these epochs: each passes through the backbone once, and through a head for each task."""
    return epochs * (1 + len(config.tasks))


class Progress(Listener):
    """Counts trials and epochs. The time left assumes that the remaining work runs at this run's pace so far.

    Attributes:
        best: the best model so far in a few words, set by whoever knows it.
    """

    def __init__(
        self, store: Store, to_run: Sequence[TrialConfig], done_before: int, stream: TextIO | None = None
    ) -> None:
        self._store, self._display = store, make_display(stream)
        self._full_work = {config.trial_id: work_of(config, config.total_epochs) for config in to_run}
        self._work_left = dict(self._full_work)
        self._work_done = 0
        self._started: set[str] = set()
        self._began: float | None = None
        self._shown = self._stored = -float("inf")
        self.total = done_before + len(self._work_left)
        self._unknown = 0
        self.done, self.failed = done_before, 0
        self.best = ""

    def add_unknown(self, count: int) -> None:
        """There will be so many more trials; `expect` names each of them later."""
        self.total += count
        self._unknown += count

    def expect(self, config: TrialConfig) -> None:
        """Name a trial that will run. It counts in the total if it was not announced by `add_unknown`."""
        if config.trial_id not in self._full_work:
            self._full_work[config.trial_id] = self._work_left[config.trial_id] = work_of(config, config.total_epochs)
            self.total += self._unknown == 0
            self._unknown = max(0, self._unknown - 1)

    def started(self) -> None:
        self.show()

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        """One epoch has ended; all rows but the last are of epochs before a resume."""
        epochs_run = int(rows[-1]["epoch"]) + 1
        self._started.add(config.trial_id)
        self._work_left[config.trial_id] = work_of(config, max(0, config.total_epochs - epochs_run))
        if self._began is None:
            # The pace is measured from here: the time before was spent on imports and on reading data.
            self._began = time.monotonic()
        else:
            self._work_done += work_of(config, 1)
        self.show()

    def ended(self, result: TrialResult) -> None:
        failed = result.status == "failed"
        self.failed += failed
        self.done += not failed
        self._started.discard(result.config.trial_id)
        self._work_left.pop(result.config.trial_id, None)
        self.show()

    def close(self) -> None:
        self.show(final=True)

    def snapshot(self) -> Snapshot:
        left = None
        if self._began is not None and self._work_done:
            work_left = sum(self._work_left.values()) + self._unknown * max(self._full_work.values())
            left = (time.monotonic() - self._began) / self._work_done * work_left
        return Snapshot(self.done, len(self._started), self.failed, self.total, left, now(), self.best)

    def show(self, final: bool = False) -> None:
        """Update the line and the file, each at its own pace; both if `final`."""
        now = time.monotonic()
        if final or now - self._shown >= self._display.seconds:
            self._shown = now
            snapshot = self.snapshot()
            self._display.show(snapshot.done, snapshot.total, snapshot.lines())
        if final:
            self._display.close()
        if final or now - self._stored >= STORE_SECONDS:
            self._stored = now
            self._store.try_write(PROGRESS, json.dumps(asdict(self.snapshot())).encode())

"""What a sweep has done so far: a live line for the terminal, and progress.json for `parsimony status`."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, TextIO

from pydantic import Field
from tqdm import tqdm

from mtl.config import TrialConfig
from mtl.vocabulary.checked import MOST, STRICT, Count
from mtl.vocabulary.files import PROGRESS
from search.listener import Listener
from search.store.clock import Moment, now
from search.store.results import TrialResult
from search.store.storage import Store

# A terminal's one line is written over often; a log gets a new line now and then.
TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0
STORE_SECONDS = 5.0


@dataclass(frozen=True)
class Snapshot:
    """Counts of trials; `seconds_left` is None until there is something to judge by. `updated_at`: UTC, ISO 8601."""

    __pydantic_config__: ClassVar = STRICT

    done: Count
    running: Count
    failed: Count
    total: Count
    seconds_left: Annotated[float, Field(ge=0, le=MOST)] | None
    updated_at: Moment

    def line(self) -> str:
        left = "" if not self.seconds_left else f" · about {format_seconds(self.seconds_left)} left"
        return f"{self.done}/{self.total} done · {self.running} running · {self.failed} failed{left}"


class Progress(Listener):
    """Counts trials and epochs as they come in. The time left is the work left at this run's pace so far."""

    def __init__(
        self,
        store: Store,
        to_run: Sequence[TrialConfig],
        done_before: int,
        stream: TextIO | None = None,
    ) -> None:
        self._store, self._stream = store, stream or sys.stderr
        self._epochs = {config.trial_id: config.total_epochs for config in to_run}
        self._epochs_left = dict(self._epochs)
        # An epoch passes the backbone once and a head for each task: a rough cost, but better than none.
        self._cost = {config.trial_id: 1 + len(config.tasks) for config in to_run}
        self._started: set[str] = set()
        self._cost_run = 0
        self._began: float | None = None
        self._shown = self._stored = -float("inf")
        self._line = tqdm(bar_format="{desc}", file=self._stream, disable=not self._stream.isatty())
        self.total = done_before + len(self._epochs_left)
        self._to_come = 0
        self.done, self.failed = done_before, 0

    def to_come(self, count: int) -> None:
        """There will be so many more trials; `expect` tells of each as it is known."""
        self.total += count
        self._to_come += count

    def expect(self, config: TrialConfig) -> None:
        """A trial that was to come is known."""
        if config.trial_id not in self._epochs:
            self._epochs[config.trial_id] = self._epochs_left[config.trial_id] = config.total_epochs
            self._cost[config.trial_id] = 1 + len(config.tasks)
            self.total += self._to_come == 0
            self._to_come = max(0, self._to_come - 1)

    def started(self) -> None:
        self.show()

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        """One epoch has ended; further rows are of epochs before a resume."""
        trial_id, epochs_run = config.trial_id, int(rows[-1]["epoch"]) + 1
        self._started.add(trial_id)
        self._epochs_left[trial_id] = max(0, self._epochs[trial_id] - epochs_run)
        if self._began is None:
            # The pace is counted from here on: what came before was imports and the reading of data.
            self._began = time.monotonic()
        else:
            self._cost_run += self._cost[trial_id]
        self.show()

    def ended(self, result: TrialResult) -> None:
        """A trial has ended, perhaps with epochs to spare."""
        trial_id, failed = result.config.trial_id, result.status == "failed"
        self.failed += failed
        self.done += not failed
        self._started.discard(trial_id)
        self._epochs_left.pop(trial_id, None)
        self.show()

    def close(self) -> None:
        self.show(final=True)

    def snapshot(self) -> Snapshot:
        cost_left = sum(epochs * self._cost[trial_id] for trial_id, epochs in self._epochs_left.items())
        cost_left += self._to_come * max((self._epochs[i] * self._cost[i] for i in self._epochs), default=0)
        return Snapshot(
            done=self.done,
            running=len(self._started),
            failed=self.failed,
            total=self.total,
            seconds_left=self._pace() * cost_left if self._cost_run else None,
            updated_at=now(),
        )

    def _pace(self) -> float:
        """Seconds a unit of cost, over all trials that run side by side."""
        return (time.monotonic() - (self._began or time.monotonic())) / self._cost_run

    def show(self, final: bool = False) -> None:
        """Write the line and the file where their time has come, or in any case at the end."""
        now = time.monotonic()
        terminal = self._stream.isatty()
        if final or now - self._shown >= (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            self._shown = now
            if terminal:
                self._line.set_description_str(self.snapshot().line())
            else:
                print(self.snapshot().line(), file=self._stream, flush=True)
        if final:
            self._line.close()
        if final or now - self._stored >= STORE_SECONDS:
            self._stored = now
            self._store.try_write(PROGRESS, json.dumps(asdict(self.snapshot())).encode())


def format_seconds(seconds: float) -> str:
    """3725 -> 1 h 02 min; 75 -> 1 min 15 s; 9 -> 9 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

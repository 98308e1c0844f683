"""Ctrl-C and similar signals: the first asks for an orderly end, the second ends the program at once."""

import signal
from types import FrameType
from typing import Any, Self

from search.store.messages import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C sends the first; `kill` and job schedulers send the second


class Interrupts:
    """Notes interrupts inside `with`: the first sets `asked`, the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("\ninterrupted: running trials finish their epoch and save; interrupt again to stop at once")

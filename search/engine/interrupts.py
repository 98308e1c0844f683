"""Ctrl-C and its like: the first asks for an orderly end, the second for one at once."""

import signal
import sys
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a terminal's Ctrl-C; what schedulers and `kill` send


class Interrupts:
    """Counts interrupts from `with` to its end; the second raises KeyboardInterrupt wherever the program is."""

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
        print(
            "\ninterrupted: running trials end their epoch and save; once more to stop now", file=sys.stderr, flush=True
        )

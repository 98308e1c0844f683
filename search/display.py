"""Where the progress of a run is shown: a terminal's line, a log, or a notebook's bar."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from search.store.messages import in_notebook

# A terminal's line is overwritten often; a log gets a new line now and then.
TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0
USUAL_WIDTH = 80


class Display(Protocol):
    """seconds: between two updates."""

    seconds: float

    def show(self, done: int, total: int, lines: Sequence[str]) -> None:
        """`lines` say the same, the fullest first; one is shown."""

    def close(self) -> None: ...


def make_display(stream: TextIO | None = None) -> Display:
    """For the stream, or where this process shows messages."""
    if stream is None and in_notebook():
        # Without it tqdm's bar warns in many lines, and shows nothing.
        if importlib.util.find_spec("ipywidgets"):
            return NotebookBar()
        return LogLines(sys.stdout)
    stream = stream or sys.stderr
    return TerminalLine(stream) if stream.isatty() else LogLines(stream)


class TerminalLine:
    """A line that is overwritten; never wider than the terminal, where each update would leave a line behind."""

    seconds = TERMINAL_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = tqdm(bar_format="{desc}", file=stream)

    def show(self, done: int, total: int, lines: Sequence[str]) -> None:
        self._line.set_description_str(fitting(lines, self._width()))

    def close(self) -> None:
        self._line.close()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or USUAL_WIDTH
        except (OSError, ValueError):
            return USUAL_WIDTH


def fitting(lines: Sequence[str], width: int) -> str:
    """The first line that is narrower than the terminal; the last one cut where none is."""
    return next((line for line in lines if len(line) < width), lines[-1][: max(0, width - 1)])


class LogLines:
    """A new line each time."""

    seconds = LOG_SECONDS

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, done: int, total: int, lines: Sequence[str]) -> None:
        print(lines[0], file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class NotebookBar:
    """tqdm's bar of ipywidgets, with the line beside it."""

    seconds = TERMINAL_SECONDS

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, done: int, total: int, lines: Sequence[str]) -> None:
        if self._bar is None:
            from tqdm.notebook import tqdm as notebook_tqdm

            self._bar = notebook_tqdm(total=total, bar_format="{bar}{desc}", mininterval=0)
        elif total != self._bar.total:
            self._bar.reset(total)
        self._bar.n = done
        self._bar.set_description_str(lines[0])

    def close(self) -> None:
        """Green where all is done, red where something is missing."""
        if self._bar is not None:
            self._bar.close()

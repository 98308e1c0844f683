"""Waits until a condition holds, and no longer."""

import threading
import time
from collections.abc import Callable

# Tens of times the longest wait on an idle machine, because the machine may be busy.
DEADLINE_SECONDS = 900.0


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; fail when it has not by the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        pause.wait(0.02)

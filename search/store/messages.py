"""Messages go to standard error; only results go to standard output."""

import sys


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

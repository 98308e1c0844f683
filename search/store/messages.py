"""Messages go to standard error; only results go to standard output.

A notebook has no pipes and shows what goes to standard error as an error, so there messages go to standard output.
"""

import sys


def in_notebook() -> bool:
    """Whether this runs in the process of a Jupyter notebook, or of one of its kind."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def say(line: str) -> None:
    print(line, file=sys.stdout if in_notebook() else sys.stderr, flush=True)

"""`parsimony status`: the state of a sweep, running or not, from its files alone."""

import argparse
import sys
import time

from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged, parse
from mtl.vocabulary.files import PROGRESS, SWEEP
from search.progress import Snapshot
from search.store.files import REBUILT, read_sweep_file, storage_error_as_bad_input
from search.store.lease import living_driver
from search.store.results import count_results
from search.store.storage import CHECK_SECONDS, Store

WATCH_SECONDS = 5.0
CLEAR = "\x1b[H\x1b[J"  # a terminal: the cursor to the top left, and all below it away


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput."""
    if not options.watch:
        print(read_status(options.dir))
        return 0
    terminal = sys.stdout.isatty()
    shown = ""
    while True:
        text, running = _read(options.dir)
        if terminal:
            print(f"{CLEAR}{text}", flush=True)
        elif text != shown:  # a log has each line that says something new
            print(text, flush=True)
        shown = text
        if not running:
            return 0
        time.sleep(WATCH_SECONDS)


def read_status(folder: str) -> str:
    """The trials that are done, running, failed and missing, in lines. Raises BadInput if there is no sweep."""
    return _read(folder)[0]


@storage_error_as_bad_input()
def _read(folder: str) -> tuple[str, bool]:
    """The same, and whether a driver runs the sweep."""
    running = False
    store = Store.of_sweep(folder).waiting(CHECK_SECONDS)
    sweep = read_sweep_file(store)
    if sweep is None:
        raise BadInput(f"{folder}: no sweep (it has no {SWEEP}); allowed: the folder STORAGE/NAME of a sweep")
    counts, planned = count_results(store), sweep.trials_planned
    ended = counts.done + len(counts.failed)
    lines = [
        f"{folder}: {counts.done} done, {len(counts.failed)} failed, {max(0, planned - ended)} not ended, of {planned}"
    ]
    damaged = list(counts.damaged)
    if ended < planned:
        snapshot = None
        if (saved := store.read(PROGRESS)) is not None:
            try:
                snapshot = parse(Snapshot, saved)
            except Damaged as error:
                damaged.append(f"{store.shown(PROGRESS)}: {error}; {REBUILT}")
        # The progress file's age does not tell: under load a living driver may not have written it for minutes.
        driver = living_driver(store)
        if driver is not None:
            running = True
            lines.append(f"running ({driver}): {snapshot.line() if snapshot else 'no trial has reported yet'}")
        elif snapshot is not None:
            lines.append(f"not running since {snapshot.updated_at}; the same command continues it")
    lines += [f"failed: {result.config}: {result.error}" for result in counts.failed]
    lines += [f"damaged: {line}" for line in damaged]
    return "\n".join(lines), running

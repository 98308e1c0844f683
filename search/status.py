"""The state of a sweep, running or not, from its files alone."""

from mtl.errors import BadInput
from search.errors import StorageError
from search.lease import living_driver
from search.progress import Snapshot
from search.results import count_results
from search.storage import CHECK_SECONDS, PROGRESS, SWEEP, Store
from search.stored import ANEW, Damaged, parse, read_sweep_file


def read_status(folder: str) -> str:
    """What is done, running, failed and missing, in lines. Raises BadInput where there is no sweep."""
    store = Store.of_sweep(folder).waiting(CHECK_SECONDS)
    try:
        return _status(store, folder)
    except StorageError as error:
        raise BadInput(str(error)) from error


def _status(store: Store, folder: str) -> str:
    sweep = read_sweep_file(store)
    if sweep is None:
        raise BadInput(f"{folder}: no sweep (it has no {SWEEP}); allowed: the folder STORAGE/NAME of a sweep")
    counts, planned = count_results(store), sweep.trials_planned
    ended = counts.done + len(counts.failed)
    lines = [
        f"{folder}: {counts.done} done, {len(counts.failed)} failed, {max(0, planned - ended)} not ended, of {planned}"
    ]
    damaged = list(counts.damaged)
    snapshot = None
    if ended < planned and (saved := store.read(PROGRESS)) is not None:
        try:
            snapshot = parse(Snapshot, saved)
        except Damaged as error:
            damaged.append(f"{store.shown(PROGRESS)}: {error}; {ANEW}")
    if ended < planned:
        # Not by the progress's age: under load a driver that lives may not have written it for minutes.
        driver = living_driver(store)
        if driver is not None:
            lines.append(f"running ({driver}): {snapshot.line() if snapshot else 'no trial has been heard of yet'}")
        elif snapshot is not None:
            lines.append(f"not running since {snapshot.updated_at}; the same command goes on with it")
    lines += [f"failed: {result.config}: {result.error}" for result in counts.failed]
    lines += [f"damaged: {line}" for line in damaged]
    return "\n".join(lines)

"""The state of a sweep, running or not, from its files alone."""

import json
from datetime import UTC, datetime

from mtl.errors import BadInput
from search.errors import StorageError
from search.progress import STORE_SECONDS, Snapshot
from search.results import count_results
from search.storage import CHECK_SECONDS, PROGRESS, SWEEP, Store

# A driver that lives writes its progress every few seconds; some slack for a slow store.
SILENCE_SECONDS = 12 * STORE_SECONDS


def read_status(folder: str) -> str:
    """What is done, running, failed and missing, in lines. Raises BadInput where there is no sweep."""
    store = Store.of_sweep(folder).waiting(CHECK_SECONDS)
    try:
        return _status(store, folder)
    except StorageError as error:
        raise BadInput(str(error)) from error


def _status(store: Store, folder: str) -> str:
    description = store.read(SWEEP)
    if description is None:
        raise BadInput(f"{folder}: no sweep (it has no {SWEEP}); allowed: the folder STORAGE/NAME of a sweep")
    planned = json.loads(description)["trials_planned"]
    done, failed = count_results(store)
    lines = [
        f"{folder}: {done} done, {len(failed)} failed, {max(0, planned - done - len(failed))} not ended, of {planned}"
    ]
    saved = store.read(PROGRESS)
    if saved is not None and done + len(failed) < planned:
        snapshot = Snapshot(**json.loads(saved))
        age = (datetime.now(UTC) - datetime.fromisoformat(snapshot.updated_at)).total_seconds()
        if age <= SILENCE_SECONDS:
            lines.append(f"running: {snapshot.line()}")
        else:
            lines.append(f"not running since {snapshot.updated_at}; the same command goes on with it")
    lines += [f"failed: {result.config}: {result.error}" for result in failed]
    return "\n".join(lines)

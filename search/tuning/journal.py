"""Optuna's journal in a sweep's store: a line for each change, in the format of Optuna's own journal files."""

import json
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from mtl.errors import BadInput
from mtl.vocabulary.files import JOURNAL
from search.store.storage import Store

LONGEST_REASON = 200


def not_a_journal(place: str, error: Exception) -> BadInput:
    """The error for a file that Optuna cannot have written."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST_REASON]
    return BadInput(f"study {place}: is not Optuna's journal ({reason}); allowed: one, or none")


def _log(line: bytes) -> dict[str, Any]:
    log = json.loads(line)
    if not isinstance(log, dict) or not isinstance(log.get("op_code"), int):
        raise ValueError("a line is no change of a study")
    return log


class StoreJournal(BaseJournalBackend):
    """A journal with a single writer. The sweep's lease makes sure of that, so there is no lock that a killed driver
    could leave or a network folder could break. `optuna-dashboard` and JournalFileBackend can read the file.

    In a folder each change is appended, and is on the disk before the next change. An object store cannot append, so
    there the whole file is written at `flush`, which the searcher calls before it continues.

    If a killed writer has left the last line unfinished, Optuna's own JournalFileBackend refuses the journal. Here that
    line is removed: nothing that it describes has happened yet.
    """

    def __init__(self, store: Store) -> None:
        """Reads the file, if there is one. Raises StorageError, and BadInput if it is no journal."""
        self._store = store
        data = store.read(JOURNAL) or b""
        whole = data[: data.rfind(b"\n") + 1]
        self._lines = whole.splitlines()
        try:
            self._logs = [_log(line) for line in self._lines]
        except (ValueError, RecursionError) as error:
            raise not_a_journal(store.shown(JOURNAL), error) from error
        self._dirty = False
        self._torn = whole != data

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Raises StorageError."""
        # The logs are kept as JSON gives them back, so that a study is the same before and after a restart.
        lines = [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        if self._store.folder is not None:
            if self._torn:
                self._store.write(JOURNAL, b"".join(line + b"\n" for line in self._lines))
                self._torn = False
            self._store.append(JOURNAL, b"".join(line + b"\n" for line in lines))
        else:
            self._lines += lines
            self._dirty = True
        self._logs += [json.loads(line) for line in lines]

    def flush(self) -> None:
        """Write what is new. Raises StorageError."""
        if self._dirty:
            self._store.write(JOURNAL, b"".join(line + b"\n" for line in self._lines))
            self._dirty = False

"""What is read of a sweep's files: their bytes are checked against a schema here, and nowhere else.

A file may be cut, of another version or from elsewhere. What no other file tells (sweep.json, a trial's result) is
refused by its name; what is made anew from other files (the tables, progress.json) is passed over with a line.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged, not_parquet, open_parquet, parse
from mtl.vocabulary.files import RESULTS, SWEEP
from mtl.vocabulary.sweep_file import SweepFile
from search.store.errors import StorageError
from search.store.storage import Store

MOST_ROWS = 10**7
PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
ANEW = "the next run makes it anew"


def parse_table(data: bytes, columns: Sequence[str]) -> dict[str, list[Any]]:
    """These columns of a Parquet file, texts or numbers; empty where the file lacks one. Raises Damaged."""
    file = open_parquet(data)
    try:
        names = file.schema_arrow.names
        if not set(columns) <= set(names):
            return {}
        if file.metadata.num_rows > MOST_ROWS:
            raise Damaged(f"has {file.metadata.num_rows} rows, not at most {MOST_ROWS}")
        for name in columns:
            kind = file.schema_arrow.field(names.index(name)).type
            if names.count(name) > 1 or not any(is_kind(kind) for is_kind in PLAIN):
                raise Damaged(f"column {name} is of type {kind}, not of texts or numbers")
        return file.read(columns=list(columns), use_threads=False).to_pydict()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise not_parquet(error) from error


def read_sweep_file(store: Store) -> SweepFile | None:
    """sweep.json; None where there is none. Raises BadInput where it is not as a sweep writes it."""
    data = store.read(SWEEP)
    try:
        return None if data is None else parse(SweepFile, data)
    except Damaged as error:
        raise BadInput(
            f"{store.shown(SWEEP)}: {error}; allowed: the file as a sweep wrote it; or remove it where the recipe is "
            "still the same, or give another --name"
        ) from error


def read_columns(store: Store, *columns: str) -> tuple[dict[str, list[Any]], str]:
    """These columns of results.parquet, and what is wrong with it where it is damaged.

    Columns are missing where there is no such file, it is damaged, or lacks one of them.
    """
    data = store.read(RESULTS)
    if data is None:
        return {}, ""
    try:
        return parse_table(data, columns), ""
    except Damaged as error:
        return {}, f"{store.shown(RESULTS)}: {error}; {ANEW}"


@contextlib.contextmanager
def nothing_run_yet() -> Iterator[None]:
    """In which a storage that fails is bad input: nothing has been done that could go on."""
    try:
        yield
    except StorageError as error:
        raise BadInput(str(error)) from error

"""The files of a sweep as values: their bytes are checked against a schema here, and nowhere else.

A file may be cut, of another version or from elsewhere. A damaged sweep.json or result.json, which nothing can replace,
is refused with its name. A damaged table or progress.json, which the next run rebuilds, is skipped with a message.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged, not_parquet, open_parquet, parse
from mtl.vocabulary.files import RESULTS, SWEEP
from mtl.vocabulary.sweep_file import SweepFile
from search.store.errors import StorageError
from search.store.storage import Store

MOST_ROWS = 10**7
PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
REBUILT = "the next run makes it again"


def parquet_bytes(table: pd.DataFrame | pa.Table) -> bytes:
    """The content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False), buffer)
    return buffer.getvalue()


def parse_table(data: bytes, columns: Sequence[str]) -> dict[str, list[Any]]:
    """These columns of a Parquet file, texts or numbers; none if the file lacks one of them. Raises Damaged."""
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
    """sweep.json, or None. Raises BadInput if a sweep cannot have written it."""
    data = store.read(SWEEP)
    try:
        return None if data is None else parse(SweepFile, data)
    except Damaged as error:
        raise BadInput(
            f"{store.shown(SWEEP)}: {error}; allowed: the file as a sweep wrote it; or remove it if the recipe is "
            "still the same, or give another --name"
        ) from error


def read_columns(store: Store, *columns: str) -> tuple[dict[str, list[Any]], str]:
    """These columns of results.parquet, and what is wrong with the file if it is damaged.

    There are no columns if there is no such file, if it is damaged, or if it lacks one of them.
    """
    data = store.read(RESULTS)
    if data is None:
        return {}, ""
    try:
        return parse_table(data, columns), ""
    except Damaged as error:
        return {}, f"{store.shown(RESULTS)}: {error}; {REBUILT}"


@contextlib.contextmanager
def storage_error_as_bad_input() -> Iterator[None]:
    """Inside, a StorageError becomes BadInput: no trial has run yet, so there is nothing to continue."""
    try:
        yield
    except StorageError as error:
        raise BadInput(str(error)) from error

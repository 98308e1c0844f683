"""What is read of a sweep's files: their bytes are checked against a schema here, and nowhere else."""

from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.files import read_bytes
from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged, not_parquet, open_parquet, parse, shortened
from mtl.vocabulary.sweep_file import SweepFile

ANEW = "run the same sweep or search again, which writes it anew"
MOST_CELLS = 5 * 10**8


def read_info(path: Path) -> tuple[SweepFile, dict[str, Any]]:
    """sweep.json checked, and as plain data. Raises BadInput."""
    try:
        found = parse(SweepFile, read_bytes(path))
    except Damaged as error:
        raise BadInput(f"{path}: {error}") from None
    return found, found.model_dump(mode="json", exclude_unset=True)


def _text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)


def _whole(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind)


def _flags(kind: pa.DataType) -> bool:
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_boolean(kind.value_type)


TEXT, NUMBER, WHOLE, FLAGS = _text, _number, _whole, _flags
WANTED: Mapping[Callable[[pa.DataType], bool], str] = {
    TEXT: "a text",
    NUMBER: "a number",
    WHOLE: "a whole number",
    FLAGS: "a list of true and false",
}
Kinds = Mapping[str, Callable[[pa.DataType], bool]]


def read_table(path: Path, kinds: Kinds, further: Kinds | None = None, filled: tuple[str, ...] = ()) -> pd.DataFrame:
    """A Parquet file with columns of these kinds; `further` ones may be missing, `filled` ones lack no value.

    Other columns are as they are. Raises BadInput, which names the file and the column.
    """
    try:
        file = open_parquet(read_bytes(path))
        schema, rows = file.schema_arrow, file.metadata.num_rows
        if rows * len(schema.names) > MOST_CELLS:
            raise BadInput(f"{path} has {rows} rows of {len(schema.names)} columns: more than can be analysed")
        _check_columns(path, schema, kinds, further or {})
        table = file.read(use_threads=False)
        table.validate(full=True)
        for column in filled:
            if table[column].null_count:
                raise BadInput(f"{path}: column {column} lacks a value; {ANEW}")
        # What pandas wrote of itself into the file is not needed, and need not be right.
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, use_threads=False)
    except Damaged as error:
        raise BadInput(f"{path} {error}; {ANEW}") from None
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise BadInput(f"{path} {not_parquet(error)}; {ANEW}") from None
    return frame.drop(columns=[name for name in frame.columns if name.startswith("__index_level_")])


def need_columns(present: Container[object], columns: Iterable[str], path: Path) -> None:
    """Raise BadInput that names what is missing."""
    missing = [column for column in columns if column not in present]
    if missing:
        raise BadInput(f"{path} has no column {', '.join(missing)}")


def _check_columns(path: Path, schema: pa.Schema, kinds: Kinds, further: Kinds) -> None:
    need_columns(schema.names, kinds, path)
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise BadInput(f"{path} has the column {shortened(name)} twice; {ANEW}")
        is_kind = {**further, **kinds}.get(name)
        if is_kind is not None and not is_kind(schema.field(name).type):
            raise BadInput(f"{path}: column {name} holds something that is not {WANTED[is_kind]}; {ANEW}")

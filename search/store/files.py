"""What is read of a sweep's files: their bytes are checked against a schema here, and nowhere else.

A file may be cut, of another version or from elsewhere. What no other file tells (sweep.json, a trial's result) is
refused by its name; what is made anew from other files (the tables, progress.json) is passed over with a line.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mtl.errors import BadInput
from search.store.errors import StorageError
from search.store.storage import RESULTS, SWEEP, Store

T = TypeVar("T")

SCHEMA = 1
# For the classes that files are read as: "1" is no number, and 1 no text.
STRICT = ConfigDict(strict=True, frozen=True)
MOST = 10**9
Count = Annotated[int, Field(ge=0, le=MOST)]
# Whole numbers stay whole, as tables have columns of them.
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
LONGEST_VALUE = 60
MOST_ROWS = 10**7
PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
ANEW = "the next run makes it anew"


class Damaged(ValueError):
    """In one line what is wrong with a file's content; whoever knows the file says which it is."""


class SweepFile(BaseModel):
    """sweep.json, as far as it is read again; more in it is another reader's."""

    model_config = STRICT

    version: Literal[1] = Field(alias="schema")
    recipe: dict[str, Any]
    trials_planned: Count
    trials: tuple[str, ...] = ()
    data_version: str = ""
    weights_version: str = ""
    setup: str = ""
    method_version: Count = 1  # files of the first method do not name it
    constant_predictor: dict[str, float] = {}
    constant_predictor_val: dict[str, float] = {}
    objectives: tuple[dict[str, str], ...] = ()
    search: dict[str, Any] | None = None


def parse(kind: type[T], data: bytes) -> T:
    """What JSON says as a value of this class. Raises Damaged."""
    schema: Any = kind
    try:
        value: T = _adapter(schema).validate_json(data)
        return value
    except ValidationError as error:
        raise Damaged(_fault(error)) from error


def check(kind: Any, value: Any) -> Any:
    """A value that was not JSON, as one of this kind. Raises Damaged."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise Damaged(_fault(error)) from error


def parse_table(data: bytes, columns: Sequence[str]) -> dict[str, list[Any]]:
    """These columns of a Parquet file, texts or numbers; empty where the file lacks one. Raises Damaged."""
    try:
        # In this thread alone: one of Arrow's that lets go of a Python object while the interpreter ends aborts the
        # process.
        file = pq.ParquetFile(pa.BufferReader(data))
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
        raise Damaged(f"is no whole Parquet file ({_short(error)})") from error


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


def warn(line: str) -> None:
    """Tell the person who watches."""
    print(line, file=sys.stderr, flush=True)


def shortened(value: object) -> str:
    """A value of a file in a line of ours."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    text = value if isinstance(value, str) and value and value.isprintable() else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _fault(error: ValidationError) -> str:
    """The first, in one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"is no whole JSON file ({first['ctx']['error']})"
    where = ".".join(
        repr(part) if isinstance(part, str) and not part.isprintable() else str(part) for part in first["loc"]
    )
    allowed = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where or 'the content'} is {shortened(first['input'])}, not {allowed}"


def _short(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]

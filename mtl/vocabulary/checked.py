"""Reads bytes that may be damaged: JSON that is checked against a class, and Parquet files."""

import functools
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

T = TypeVar("T")

# For classes that are read from files: the text "1" is not a number, and the number 1 is not a text.
STRICT = ConfigDict(strict=True, frozen=True)
MOST = 10**9
Count = Annotated[int, Field(ge=0, le=MOST)]
LONGEST_VALUE = 60


class Damaged(ValueError):
    """Says in one line what is wrong with a file's content. The caller knows which file it is."""


def parse(kind: type[T], data: bytes) -> T:
    """The JSON text as a value of this class. Raises Damaged."""
    schema: Any = kind
    try:
        value: T = _adapter(schema).validate_json(data)
        return value
    except ValidationError as error:
        raise Damaged(_fault(error)) from error


def check(kind: Any, value: Any) -> Any:
    """A value that does not come from JSON, as one of this type. Raises Damaged."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise Damaged(_fault(error)) from error


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Raises Damaged. Read the file with `use_threads=False`: if a thread of Arrow drops a Python object while the
    interpreter exits, the process aborts with "terminate called without an active exception"."""
    try:
        return pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise not_parquet(error) from error


def not_parquet(error: BaseException) -> Damaged:
    """Arrow's message about a file, in one line."""
    lines = str(error).splitlines() or [type(error).__name__]
    return Damaged(f"is not a whole Parquet file ({lines[0][:200]})")


def shortened(value: object) -> str:
    """A value of a file, short enough for a message."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    text = value if isinstance(value, str) and value and value.isprintable() else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _fault(error: ValidationError) -> str:
    """The first fault, in one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"is not a whole JSON file ({first['ctx']['error']})"
    where = ".".join(str(part) if str(part).isprintable() else repr(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error" and not where:
        return str(first["ctx"]["error"])
    allowed = "an object" if first["type"] == "model_type" else first["msg"]
    allowed = allowed.removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{where or 'the content'} is {shortened(first['input'])}, not {allowed}"

"""What is read of a sweep's files: their bytes are checked against a schema here, and nowhere else."""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from analysis.files import read_bytes
from mtl.errors import BadInput

SCHEMA = 1
ANEW = "run the same sweep or search again, which writes it anew"
MOST_CELLS = 5 * 10**8
MOST_PLANNED = 10**6
LONGEST_VALUE = 60

# What a name can be that stands in figures and tables: one line, without control characters.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Direction = Literal["maximize", "minimize"]


class _Part(BaseModel):
    """What else a file holds is another reader's."""

    model_config = ConfigDict(strict=True, frozen=True)


class TaskInfo(_Part):
    primary: Name


class MetricInfo(_Part):
    direction: Direction
    label: str | None = None
    unit: str | None = None


class ObjectiveInfo(_Part):
    column: Name
    direction: Direction


class RecipeInfo(_Part):
    """The fields that tell which trials are planned. Where one is missing, that is not known."""

    tasks: list[Name] | None = None
    combinations: Name | list[Name] | None = None
    lambdas: list[Number] | None = None
    seeds: Annotated[int, Field(ge=0, le=MOST_PLANNED)] | list[Annotated[int, Field(ge=0)]] | None = None
    penalty: Name | None = None
    retraining: list[Name] | None = None

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        sizes = [_length(self.combinations), _length(self.lambdas), _length(self.retraining)]
        sizes.append(self.seeds if isinstance(self.seeds, int) else _length(self.seeds))
        if self.combinations == "all":
            sizes[0] = 2 ** min(len(self.tasks or ()), 64)
        if math.prod(max(size, 1) for size in sizes) > MOST_PLANNED:
            raise ValueError(f"the recipe is of more than {MOST_PLANNED} trials; allowed: so many at most")
        return self


class SweepInfo(_Part):
    """sweep.json, as far as the analysis reads it."""

    version: Literal[1] = Field(alias="schema")
    name: Name
    recipe: RecipeInfo
    trials_planned: Annotated[int, Field(ge=0, le=10**9)]
    objectives: list[ObjectiveInfo]
    tasks: dict[Name, TaskInfo]
    metrics: dict[Name, MetricInfo]
    constant_predictor: dict[str, float] | None = None
    constant_predictor_val: dict[str, float] | None = None
    setup: str | None = None
    validates_on_train: bool = False
    trials: list[str] | None = None
    versions: dict[str, Any] | None = None
    git_commit: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for task in self.order:
            if task not in self.tasks:
                raise ValueError(f"the recipe has task {task}; known are {', '.join(self.tasks)}")
            if (primary := self.tasks[task].primary) not in self.metrics:
                known = ", ".join(self.metrics)
                raise ValueError(f"task {task} has the primary metric {primary}; known are {known}")
        if not self.objectives:
            raise ValueError("objectives is empty; a front needs at least one")
        return self

    @property
    def order(self) -> list[str]:
        """The tasks as the recipe has them: a JSON file may have been sorted by key."""
        return self.recipe.tasks or list(self.tasks)


def read_info(path: Path) -> tuple[SweepInfo, dict[str, Any]]:
    """sweep.json checked, and as it is. Raises BadInput."""
    content = read_bytes(path)
    try:
        data = from_json(content)
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON: {error}") from None
    found = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if not isinstance(data, dict) or found != SCHEMA:
        raise BadInput(f"{path}: schema is {_shortened(found)}; this version reads schema {SCHEMA}")
    try:
        return SweepInfo.model_validate(data), data
    except ValidationError as error:
        raise BadInput(f"{path}: {_fault(error)}") from None


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
    content = read_bytes(path)
    try:
        # In this thread alone: one of Arrow's that lets go of a Python object while the interpreter ends aborts the
        # process, with "terminate called without an active exception".
        file = pq.ParquetFile(pa.BufferReader(content))
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
    except (pa.ArrowException, OSError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} is not a whole Parquet file: {reason}; {ANEW}") from None
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
            raise BadInput(f"{path} has the column {_shortened(name)} twice; {ANEW}")
        is_kind = {**further, **kinds}.get(name)
        if is_kind is not None and not is_kind(schema.field(name).type):
            raise BadInput(f"{path}: column {name} holds something that is not {WANTED[is_kind]}; {ANEW}")


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 1


def _shortened(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _fault(error: ValidationError) -> str:
    """The first, in one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) if str(part).isprintable() else repr(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    allowed = "an object" if first["type"] == "model_type" else first["msg"].removeprefix("Input should be ")
    return f"{where} is {_shortened(first['input'])}; it must be {allowed}"

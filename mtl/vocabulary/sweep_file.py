"""sweep.json: what was run. `search` writes it, and `search` and `analysis` read it as this class."""

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtl.vocabulary.checked import STRICT, Count
from mtl.vocabulary.objective import Direction

SCHEMA: Literal[1] = 1
MOST_PLANNED = 10**6

# Names appear in figures and tables, so they are one line without control characters.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
# A text that the system gives, which may be empty.
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,200}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class TaskInfo(BaseModel):
    model_config = STRICT

    primary: Name
    kind: str = ""
    classes: tuple[str, ...] = ()


class MetricInfo(BaseModel):
    """A metric's direction and labels. `unit` is empty for a fraction."""

    model_config = STRICT

    direction: Direction
    label: str | None = None
    unit: str | None = None


class ObjectiveInfo(BaseModel):
    """See `mtl.vocabulary.objective.Objective`."""

    model_config = STRICT

    column: Name
    direction: Direction


class RecipeInfo(BaseModel):
    """The whole recipe as run. The fields named here tell which trials are planned."""

    model_config = STRICT | ConfigDict(extra="allow")

    tasks: list[Name] | None = None
    combinations: Name | list[Name] | None = None
    lambdas: list[Number] | None = None
    seeds: Annotated[int, Field(ge=0, le=MOST_PLANNED)] | list[Annotated[int, Field(ge=0)]] | None = None
    penalty: Name | None = None
    retraining: list[Name] | None = None
    compressors: list[Name] | None = None
    targets: list[Number] | None = None

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        variants = _length(self.lambdas) * max(_length(self.retraining), 1)
        variants += _length(self.compressors) * _length(self.targets)
        sizes = [_length(self.combinations), variants]
        sizes.append(self.seeds if isinstance(self.seeds, int) else _length(self.seeds))
        if self.combinations == "all":
            sizes[0] = 2 ** min(len(self.tasks or ()), 64)
        if math.prod(max(size, 1) for size in sizes) > MOST_PLANNED:
            raise ValueError(f"a recipe of at most {MOST_PLANNED} trials")
        return self


class SearchInfo(BaseModel):
    """The settings of a search, if a search made the sweep."""

    model_config = STRICT | ConfigDict(extra="allow")

    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


class Machine(BaseModel):
    """What a trial ran on. Machines that are alike are one, whatever they are called.

    Attributes:
        cpu: the processor's model.
        cores: how many a process may use there, hyper-threads included.
        memory_gb: that a process may use there, in 10^9 bytes, rounded; 0 where the system does not say.
        gpus, gpu_memory_gb: the models of its GPUs, one entry for each, whether trials used them or not, and the
            memory of each.
    """

    model_config = STRICT | ConfigDict(extra="allow")

    cpu: Line = ""
    cores: Count = 0
    memory_gb: Count = 0
    gpus: tuple[Line, ...] = ()
    gpu_memory_gb: tuple[Count, ...] = ()
    system: Line = ""
    python: Line = ""
    torch: Line = ""


class SweepFile(BaseModel):
    """The content of sweep.json. The first versions did not write the fields that have a default.

    Attributes:
        data_version, weights_version: fingerprints of the dataset and of the pretrained weights.
        network_version: of the code of a network of the user's own; empty for other networks.
        setup: equal for trials that differ only in tasks, λ, seed, penalty and retraining.
        method_version: see `mtl.config.METHOD_VERSION`.
        validates_on_train: whether validation images are also trained on.
        constant_predictor, constant_predictor_val: metrics, by name, of the best prediction that ignores the image.
        hardware: the machines that its trials ran on, each kind once, in the order in which they were first seen.
        trials: the ids of all planned trials that are known.
        search: None for an ordinary sweep.
    """

    model_config = STRICT | ConfigDict(extra="allow", serialize_by_alias=True)

    version: Literal[1] = Field(SCHEMA, alias="schema")
    name: Name
    recipe: RecipeInfo
    data_version: str = ""
    weights_version: str = ""
    network_version: str = ""
    setup: str = ""
    validates_on_train: bool = False
    method_version: Count = 1
    versions: dict[str, Any] = {}
    git_commit: str | None = None
    hardware: tuple[Machine, ...] = ()
    trials_planned: Count
    trials: tuple[str, ...] = ()
    objectives: tuple[ObjectiveInfo, ...]
    tasks: dict[Name, TaskInfo]
    metrics: dict[Name, MetricInfo]
    constant_predictor: dict[str, float] = {}
    constant_predictor_val: dict[str, float] = {}
    search: SearchInfo | None = None

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
        """The tasks in the recipe's order; `tasks` may have another order if somebody sorted the file's keys."""
        return self.recipe.tasks or list(self.tasks)

    def to_json(self) -> bytes:
        """The content of the file."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True), indent=1, ensure_ascii=False).encode()


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 1

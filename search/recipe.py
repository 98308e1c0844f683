"""Recipes: what a sweep varies, typed and checked, and the list of trials that follows from one."""

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mtl.config import LONGER, MOST_EPOCHS, Finite, Integer, Retraining, Seed, Strength, TrialConfig, TrialSettings
from mtl.errors import BadInput
from mtl.paths import check_text, user_path

# Upper bounds, with reasons as those in mtl.config.
MOST_TRIALS = 100_000  # of a sweep: the driver keeps each one's settings in memory
MOST_CPUS = 1024  # of one machine
MOST_RETRIES = 1000
LONGEST_SECONDS = 1e9  # 30 years
MOST_VALUES = 1000  # of a parameter of a search
MOST_TASKS = 255
MOST_RECIPE_BYTES = 2**20
MOST_SHOWN = 300  # characters of a value in a message
# What may differ between two runs of one sweep: the trials asked for, and how they are run, but not what a trial is.
RUN_FIELDS = frozenset({"combinations", "lambdas", "seeds", "retraining"})
# A trial that is stopped early has run the same epochs as one that is not, only fewer of them.
STOPPING_FIELDS = frozenset({"early_stopping", "grace_epochs", "reduction_factor", "objectives"})
# A search makes trials of its own, and remembers with them of what space they are.
SEARCH_FIELDS = frozenset({"search_space", "sampler", "constraints", "racing"})
# What a search can vary besides lambda, the penalty and the tasks, which have columns of their own.
SEARCHED_FIELDS = (
    *("lr", "weight_decay", "label_smoothing", "metric", "stage_factors", "task_weighting", "lr_schedule"),
    *("batch_size", "backbone", "backbone_width", "head_channels"),
)
# Fields that are tables, and what an entry may be.
OF_TABLES = {
    "dataset_options": "text, true, false, or a finite number of at most 18 digits",
    "search_space": f"a list of at most {MOST_VALUES:,} texts or finite numbers of at most 18 digits",
}
RESOURCE_FIELDS = frozenset({"cpus_per_trial", "gpus_per_trial", "max_retries", "checkpoint_seconds"})
# Who watches a sweep changes nothing of its trials.
LOGGER_FIELDS = frozenset({"tensorboard", "mlflow", "wandb"})


class Recipe(TrialSettings):
    """Every combination x lambda x seed of these, each with the settings that all trials share."""

    title: str = Field("", description="one line on what the recipe is for")
    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_TASKS)] = Field(
        description="in the order in which results name them"
    )
    combinations: Literal["all", "single"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "all", description="all (every subset of the tasks), single (each alone), or a list such as segmentation+depth"
    )
    lambdas: Annotated[tuple[Strength, ...], Field(min_length=1)] = Field(
        description="strengths of the penalty; 0 is the dense model, which delta_m needs"
    )
    seeds: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | Annotated[tuple[Seed, ...], Field(min_length=1)] = Field(
        description="a count, or a list of seeds"
    )
    retraining: Annotated[tuple[Retraining, ...], Field(min_length=1)] = Field(
        ("none",),
        description="of the model without its removed channels, for the same epochs again and without a penalty; "
        "fine_tune: from its weights, scratch: from new ones, none: not at all; of several each is a trial of its own, "
        "and a search chooses among them. A dense model (lambda 0) is not retrained; beside it one is trained for "
        "as many epochs as a retrained one has in all",
    )
    early_stopping: Literal["none", "asha", "mo_asha"] = Field(
        "none",
        description="of trials that fall behind others with the same tasks; asha: in the first objective, mo_asha: in "
        "all; dense trials always run to the end; none also finishes what was stopped before",
    )
    grace_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = Field(
        None,
        description="epochs before a trial may be stopped, enough for the penalty to begin to remove groups; left out: "
        "a third of the epochs",
    )
    reduction_factor: int = Field(
        3,
        ge=2,
        le=MOST_EPOCHS,
        description="of the trials that reach a rung (grace_epochs times a power of this) one in so many goes on",
    )
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("delta_m", "group_sparsity"),
        description="what early stopping compares: delta_m, group_sparsity, parameter_sparsity or a metric as val_NAME",
    )
    search_space: dict[str, Annotated[tuple[Integer | Finite | str, ...], Field(max_length=MOST_VALUES)]] = Field(
        {},
        description="what `parsimony search` varies, by name: the ends of a range or a list of values; lambda (left "
        "out: from the least to the greatest of lambdas), lr, penalty, combination, lambda_stage1 to lambda_stage4 "
        "(its factors) and more",
    )
    sampler: str = Field(
        "auto",
        description="of a search: front (gaps along lambda where the front has most to gain), tpe, gp, nsga2, nsga3, "
        "random, grid, or my_module:MySampler for one of Optuna's kind; auto: front for lambda alone, else tpe",
    )
    constraints: Annotated[tuple[str, ...], Field(max_length=MOST_VALUES)] = Field(
        (), description="that a search keeps to: COLUMN>=NUMBER or COLUMN<=NUMBER, such as segmentation_miou>=0.3"
    )
    racing: bool = Field(
        True,
        description="true: a search drops a proposal's remaining seeds once another is better in every objective "
        "beyond doubt",
    )

    cpus_per_trial: int = Field(1, ge=1, le=MOST_CPUS, description="cores of a trial, which are also its threads")
    gpus_per_trial: float = Field(
        0,
        ge=0,
        le=MOST_CPUS,
        allow_inf_nan=False,
        description="GPUs of a trial; a fraction below 1 lets trials share one",
    )
    max_retries: int = Field(
        1,
        ge=0,
        le=MOST_RETRIES,
        description="times that a trial goes on from its checkpoint after an error or the death of its process; "
        "one that is lost with its machine does not count",
    )
    checkpoint_seconds: float = Field(
        30,
        ge=0,
        le=LONGEST_SECONDS,
        allow_inf_nan=False,
        description="shortest time between two checkpoints of a trial",
    )

    tensorboard: bool = Field(
        False, description="true writes event files of every trial to STORAGE/NAME/tensorboard (tensorboard --logdir)"
    )
    mlflow: str = Field(
        "",
        description="where MLflow gets a run of every trial: a folder (mlflow.db in it), sqlite:///FILE, "
        "http://HOST:PORT or env (the URI in MLFLOW_TRACKING_URI); empty: nowhere",
    )
    wandb: str = Field(
        "",
        description="the project of Weights & Biases that gets a run of every trial; WANDB_MODE=offline keeps them on "
        "this machine; empty: none",
    )

    @field_validator(
        *("tasks", "lambdas", "augmentation", "backbone_layers", "head_rates", "objectives", "retraining"),
        "constraints",
        mode="before",
    )
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str | int | float) else value

    @field_validator("search_space", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: [item] if isinstance(item, str | int | float) else item for name, item in value.items()}

    @field_validator("combinations", mode="before")
    @classmethod
    def _combination_names(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("all", "single"):
            return [value]
        if isinstance(value, list | tuple):
            return ["+".join(map(str, c)) if isinstance(c, list | tuple) else c for c in value]
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("tasks", "lambdas", "seeds", "objectives", "retraining"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise ValueError(f"{name} = {list(values)}; allowed: each value once")
        if isinstance(self.combinations, tuple):
            seen: set[frozenset[str]] = set()
            for combination in self.combinations:
                members = combination.split("+")
                if not set(members) <= set(self.tasks) or len(set(members)) < len(members):
                    raise ValueError(
                        f"combinations has {combination!r}; allowed: all, single, or {list(self.tasks)} joined by +"
                    )
                if frozenset(members) in seen:
                    raise ValueError(f"combinations has {combination!r} twice; allowed: each combination once")
                seen.add(frozenset(members))
        if self.gpus_per_trial > 1 and not self.gpus_per_trial.is_integer():
            raise ValueError(
                f"gpus_per_trial = {self.gpus_per_trial:g}; allowed: a fraction below 1, or a whole number"
            )
        if self.patience and "one_cycle" in (self.lr_schedule, *self.search_space.get("lr_schedule", ())):
            raise ValueError(
                f"patience = {self.patience} with lr_schedule one_cycle; allowed: patience = 0, as it would cut the "
                "schedule before its end, or lr_schedule = constant"
            )
        # Counted and not listed: of 40 tasks there are a million million combinations.
        if (count := self.trial_count) > MOST_TRIALS:
            shown = f"{count:,}" if count < 10**12 else f"{float(count):.1e}"
            raise ValueError(
                f"combinations x lambdas x seeds make {shown} trials; allowed: at most {MOST_TRIALS:,} in a sweep"
            )
        return self

    @property
    def trial_count(self) -> int:
        """How many trials `expand` makes."""
        every = {"all": 2 ** len(self.tasks) - 1, "single": len(self.tasks)}
        combinations = every[self.combinations] if isinstance(self.combinations, str) else len(self.combinations)
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        return combinations * seeds * sum(len(self.retrainings(strength)) for strength in self.lambdas)

    def retrainings(self, strength: float) -> tuple[Retraining | Literal["longer"], ...]:
        """Those of the trials of this strength.

        Of a dense model nothing is removed, and delta_m needs it as it is. What retrained models gain is compared with
        one that has had as many epochs.
        """
        if strength:
            return self.retraining
        return ("none", LONGER) if self.retraining != ("none",) and any(self.lambdas) else ("none",)

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def trial_precision(self) -> Literal["float32", "bfloat16"]:
        """That of the recipe's trials, which is known before it is known where they run."""
        return trial_precision(self.precision, self.gpus_per_trial)

    @property
    def first_rung(self) -> int:
        """Epochs after which trials are first compared."""
        return self.grace_epochs or max(1, self.epochs // 3)

    @property
    def task_combinations(self) -> tuple[tuple[str, ...], ...]:
        """Each with its tasks in the recipe's order."""
        if self.combinations == "all":
            return _subsets(self.tasks)
        if self.combinations == "single":
            return tuple((task,) for task in self.tasks)
        chosen = [c.split("+") for c in self.combinations]
        return tuple(tuple(task for task in self.tasks if task in c) for c in chosen)


def trial_precision(precision: str, gpus_per_trial: float) -> Literal["float32", "bfloat16"]:
    """What `precision` comes to: trials with a share of a GPU run on CUDA, all others on the CPU."""
    return "bfloat16" if precision == "auto" and gpus_per_trial > 0 else "float32"


def trial_settings(recipe: Recipe) -> dict[str, Any]:
    """The fields of a TrialConfig that the recipe's trials share."""
    return recipe.model_dump(include=set(TrialSettings.model_fields)) | {"precision": recipe.trial_precision}


def expand(recipe: Recipe, data_version: str, weights_version: str = "") -> list[TrialConfig]:
    """Every trial of a recipe; those with the most tasks, the longest, first, so that none ends a sweep alone."""
    settings = trial_settings(recipe)
    combinations = sorted(recipe.task_combinations, key=len, reverse=True)
    settings |= {"data_version": data_version, "weights_version": weights_version}
    return [
        TrialConfig(**settings, tasks=tasks, strength=strength, seed=seed, retraining=retraining)
        for tasks, seed, strength in itertools.product(combinations, recipe.seed_list, recipe.lambdas)
        for retraining in recipe.retrainings(strength)
    ]


def differing_fields(recipe: Recipe, config: TrialConfig) -> str:
    """What a trial of a search has otherwise than the recipe, such as "lr=0.003 metric=euclidean"; mostly nothing."""
    fields = ((name, getattr(config, name)) for name in SEARCHED_FIELDS)
    return " ".join(f"{name}={_short(value)}" for name, value in fields if value != getattr(recipe, name))


def _short(value: object) -> str:
    return (
        ",".join(map(_short, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def recipe_names() -> list[str]:
    """The recipes shipped."""
    folder = resources.files("search") / "recipes"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, or a file of the user's own by its path, with KEY=VALUE overrides.

    Raises BadInput, one line, for an unknown recipe or field and for a value that is not allowed.
    """
    if name in recipe_names():
        text = (resources.files("search") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        text = _read_file(name)
    try:
        fields = _parse_toml(f"recipe {name}:", text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"recipe {name}: not a TOML file ({error})") from error
    for override in overrides:
        _set_field(fields, *parse_assignment("--set", override, "epochs=3"))
    for field in fields:
        if field not in Recipe.model_fields:
            close = difflib.get_close_matches(field, Recipe.model_fields, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise BadInput(f"recipe {name}: unknown field {field!r}; {hint}allowed: {', '.join(Recipe.model_fields)}")
    return _validated(name, fields)


def _read_file(name: str) -> str:
    """The text of a recipe file of the user's own."""
    path = user_path("recipe", name)
    if not path.is_file():
        raise BadInput(
            f"recipe {name!r}: no such recipe; allowed: {', '.join(recipe_names())}, or a recipe file's path"
        )
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_RECIPE_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {name}: cannot be read ({error})") from error
    if len(content) > MOST_RECIPE_BYTES:
        raise BadInput(f"recipe {name}: has more than {MOST_RECIPE_BYTES:,} bytes; allowed: a recipe")
    return text


def _parse_toml(what: str, text: str) -> dict[str, Any]:
    """As `tomllib.loads`, whose TOMLDecodeError it passes on; raises BadInput for what else it stumbles over.

    what: where the text is from, with which the error begins.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise BadInput(
            f"{what} lists or tables in one another, too deep to be read; allowed: a list of values"
        ) from error
    except ValueError as error:  # of int(), which refuses thousands of digits
        raise BadInput(f"{what} holds a number of thousands of digits; allowed: numbers") from error


def recipe_name(recipe: str) -> str:
    """The name under which a sweep of this recipe is kept unless the user gives one."""
    return recipe if recipe in recipe_names() else Path(recipe).stem


def format_recipe(recipe: Recipe) -> str:
    """The whole recipe as TOML that `load_recipe` reads back, each field with its meaning."""
    lines = []
    for name, value in recipe.model_dump(mode="json").items():
        lines.append(f"# {Recipe.model_fields[name].description}")
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML writes it: as JSON does, but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def differing_settings(old: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Fields in which an earlier run's recipe, as `sweep.json` has it, makes other trials than this one would."""
    new = recipe.model_dump(mode="json")
    # Pretrained weights are compared by their content, which may lie elsewhere.
    same = RUN_FIELDS | STOPPING_FIELDS | SEARCH_FIELDS | RESOURCE_FIELDS | LOGGER_FIELDS | {"title", "weights"}
    # A field that the earlier run did not have yet was what it is by default.
    fields = {name: field.get_default() for name, field in Recipe.model_fields.items() if not field.is_required()}
    defaults = json.loads(json.dumps(fields))
    found = [name for name in new if name not in same and old.get(name, defaults.get(name)) != new[name]]
    # A GPU is a resource, but for the precision that it may bring.
    gpus, precision = (old.get(name, defaults[name]) for name in ("gpus_per_trial", "precision"))
    before = trial_precision(precision, gpus) if isinstance(gpus, int | float) else None
    return found if before == recipe.trial_precision or "precision" in found else [*found, "gpus_per_trial"]


def _subsets(tasks: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Every non-empty subset, the small ones first, in the tasks' order."""
    sizes = range(1, len(tasks) + 1)
    return tuple(itertools.chain.from_iterable(itertools.combinations(tasks, size) for size in sizes))


def _validated(name: str, fields: Mapping[str, Any]) -> Recipe:
    for field, value in fields.items():
        for text in _texts(value):
            check_text(f"recipe {name}: {field} =", text)
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise BadInput(f"recipe {name}: {first['ctx']['error']}") from error
        field = str(first["loc"][0])
        if field in OF_TABLES and len(first["loc"]) > 1:
            entry = first["loc"][1]
            value = _shown(fields[field][entry])
            raise BadInput(f"recipe {name}: {field}.{entry} = {value}; allowed: {OF_TABLES[field]}") from error
        description = Recipe.model_fields[field].description
        if first["type"] == "missing" and field not in fields:
            raise BadInput(f"recipe {name}: {field} is missing; allowed: {description}") from error
        allowed = first["msg"].removeprefix("Input should be ").partition(", unable to parse")[0]
        raise BadInput(
            f"recipe {name}: {field} = {_shown(fields[field])}; allowed: {allowed} ({description})"
        ) from error


def _texts(value: Any) -> Iterator[str]:
    """Every text in a field's value, tables' keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from itertools.chain.from_iterable(_texts(part) for pair in value.items() for part in pair)
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_texts, value))


def _shown(value: object) -> str:
    """A value as a message shows it."""
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits, which hexadecimal digits can make
        return "a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def parse_assignment(option: str, text: str, example: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as TOML (`[0, 1e-5]`, `true`), or bare: `a,b` is a list, anything else a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadInput(f"{option} {text!r}; allowed: KEY=VALUE, such as {option} {example}")
    value = value.strip()
    what = f"{option} {key.strip()}:"
    if value.startswith("["):
        return key.strip(), _scalar(what, value)
    parts = [_scalar(what, part.strip()) for part in value.split(",") if part.strip()]
    return key.strip(), parts[0] if len(parts) == 1 and "," not in value else parts


def _set_field(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set a field, or with a dotted key one entry of a field that is a table."""
    field, dot, entry = key.partition(".")
    if not dot:
        fields[key] = value
        return
    table = fields.get(field, {})
    if field not in Recipe.model_fields or not isinstance(table, dict):
        raise BadInput(
            f"--set {key}: {field} is not a table of the recipe; allowed: dataset_options.NAME or search_space.NAME"
        )
    fields[field] = {**table, entry: value}


def _scalar(what: str, text: str) -> Any:
    try:
        return _parse_toml(what, f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

"""A recipe: the fields that a sweep or a search varies, typed and checked, and the trials that follow from them."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mtl.config import (
    GROUP_PENALTIES,
    LONGER,
    MOST_EPOCHS,
    Compressor,
    Finite,
    Integer,
    Retraining,
    Seed,
    Strength,
    Target,
    TrialConfig,
    TrialSettings,
)
from mtl.vocabulary.objective import MODEL_MACS

# Upper bounds, with reasons as those in mtl.config.
MOST_TRIALS = 100_000  # in a sweep: the driver keeps each trial's settings in memory
MOST_CPUS = 1024  # of one machine
MOST_LOADER_THREADS = 64
MOST_PACKED = 64  # the batched network of as many has as many times the activations
MOST_RETRIES = 1000
LONGEST_SECONDS = 1e9  # 30 years
MOST_VALUES = 1000  # of a search's parameter
MOST_TASKS = 255
# What is wanted if a recipe does not say: performance against the size that trials show while they run, or against what
# the model costs if there are compressors besides the penalty.
BY_SPARSITY, BY_COST = ("delta_m", "group_sparsity"), ("delta_m", MODEL_MACS)
# Two runs of one sweep may differ in these fields, because they leave the result of each trial as it is: which trials
# are asked for, what a search proposes, which trials are stopped early (those run the same epochs, only fewer), the
# machine, the loggers, and the path of the pretrained weights (their content is compared).
FREE_FIELDS = frozenset(
    {
        *("title", "combinations", "lambdas", "seeds", "retraining", "weights", "compressors", "targets"),
        "group_sparsity_targets",
        *("search_space", "sampler", "constraints", "racing"),
        *("early_stopping", "grace_epochs", "reduction_factor", "objectives"),
        *("cpus_per_trial", "gpus_per_trial", "pack", "loader_threads", "max_retries", "checkpoint_seconds"),
        *("tensorboard", "mlflow", "wandb"),
    }
)
# The settings of a trial that a search can vary, besides lambda, penalty, tasks and retraining, which have columns of
# their own in the results.
SEARCHABLE: Mapping[str, Literal["range", "factors", "choice"]] = {
    **dict.fromkeys(("lr", "weight_decay", "label_smoothing"), "range"),
    **{"metric": "choice", "stage_factors": "factors", "task_weighting": "choice", "lr_schedule": "choice"},
    **dict.fromkeys(("batch_size", "backbone", "backbone_width", "head_channels"), "choice"),
}

TARGETS = ("targets", "group_sparsity_targets")
Names = Annotated[tuple[str, ...], Field(min_length=1)]


def _listed(value: object) -> object:
    """A single value as a list."""
    return [value] if isinstance(value, str | int | float) else value


class Recipe(TrialSettings):
    """Every combination x lambda or target x seed of these, each with the settings that all trials share."""

    title: str = Field("", description="what the recipe is for, in one line")
    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_TASKS)] = Field(
        description="results name the tasks in this order"
    )
    combinations: Literal["all", "single"] | Names = Field(
        "all", description="all (every subset of the tasks), single (each alone), or a list such as segmentation+depth"
    )
    lambdas: Annotated[tuple[Strength, ...], Field(min_length=1)] = Field(
        description="strengths of the penalty; 0 is the dense model, which delta_m needs"
    )
    seeds: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | Annotated[tuple[Seed, ...], Field(min_length=1)] = Field(
        description="a number of seeds, or a list of them"
    )
    retraining: Annotated[tuple[Retraining, ...], Field(min_length=1)] = Field(
        ("none",),
        description="whether to train the model again without its removed channels, for the same epochs and without a "
        "penalty: fine_tune starts from its weights, scratch from new weights, none does not. A list makes a trial of "
        "each; a search chooses among them. The dense model (lambda 0) is not retrained: another dense model is "
        "trained for as many epochs as a retrained model has in all",
    )
    compressors: Annotated[tuple[Compressor, ...], Field(min_length=1)] = Field(
        ("penalty",),
        description="how models are made smaller, a list: penalty (one trial for each of lambdas), selection (while "
        "the network trains, the channels go that matter least for what they cost), path (the same from target to "
        "target: the first trial starts from the dense model, each other one from the model of the next larger target, "
        "for path_epochs), magnitude and random (as selection, but the channels with the smallest weights go, or any), "
        "narrow and shallow (a network with fewer channels, or fewer blocks, from the start), torch_pruning_norm and "
        "torch_pruning_taylor (the dense network is trained, pruned at once by Torch-Pruning, and trained on), "
        "penalty_to_target (the penalty on coupled channels, with the strength that leads to the target, then training "
        "without it). All but penalty make one trial for each of targets, all but path with as many epochs, and the "
        "dense model runs beside them",
    )
    targets: tuple[Target, ...] = Field(
        (),
        description="shares of the dense model's multiply-accumulates, heads included, that compressors other than "
        "penalty keep, such as [0.5, 0.25]",
    )
    group_sparsity_targets: tuple[Target, ...] = Field(
        (),
        description="shares of the backbone's groups that penalty_to_target makes zero, such as [0.5, 0.7]; one trial "
        "for each, beside those of targets",
    )
    early_stopping: Literal["none", "asha", "mo_asha"] = Field(
        "none",
        description="stops trials that are worse than others with the same tasks: asha by the first objective, mo_asha "
        "by all; dense trials, and those of a path, always run to the end; none also finishes trials that were stopped "
        "before",
    )
    grace_epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)] | None = Field(
        None,
        description="epochs before a trial may be stopped; the penalty must have begun to remove groups by then; left "
        "out: a third of the epochs",
    )
    reduction_factor: int = Field(
        3,
        ge=2,
        le=MOST_EPOCHS,
        description="early stopping compares trials after grace_epochs times each power of this number, and keeps one "
        "in this number of them",
    )
    objectives: Names | None = Field(
        None,
        description="what a search wants and early stopping compares: delta_m, group_sparsity, parameter_sparsity or a "
        "metric as val_NAME; of a search also costs such as model_macs, which early stopping knows where all trials "
        "have targets. Left out: delta_m and group_sparsity, or delta_m and model_macs where compressors other than "
        "penalty are searched",
    )
    search_space: dict[str, Annotated[tuple[Integer | Finite | str, ...], Field(max_length=MOST_VALUES)]] = Field(
        {},
        description="what `parsimony search` varies: for each name the two ends of a range, or a list of values. Names "
        "are lambda (left out: from the smallest to the largest of lambdas), compressor (left out: compressors), "
        "target_macs (left out: from the smallest of targets to 1), lr, penalty, combination, lambda_stage1 to "
        "lambda_stage4 (factors of lambda) and more; those of the penalty count where it is searched",
    )
    sampler: str = Field(
        "auto",
        description="proposes a search's trials: front (looks where the front along lambda or target_macs has most to "
        "gain), tpe, gp, nsga2, nsga3, random, grid, or my_module:MySampler, an Optuna sampler of your own; auto: "
        "front if only lambda or target_macs is open, else tpe",
    )
    constraints: Annotated[tuple[str, ...], Field(max_length=MOST_VALUES)] = Field(
        (),
        description="conditions that a search must meet: COLUMN>=NUMBER or COLUMN<=NUMBER, such as "
        "segmentation_miou>=0.3",
    )
    racing: bool = Field(
        True,
        description="true: a search skips the remaining seeds of a proposal that is certainly worse than another in "
        "every objective",
    )

    cpus_per_trial: int = Field(1, ge=1, le=MOST_CPUS, description="CPU cores, and threads, of each trial")
    gpus_per_trial: float = Field(
        0,
        ge=0,
        le=MOST_CPUS,
        allow_inf_nan=False,
        description="GPUs of each trial; with a fraction below 1 trials share a GPU",
    )
    loader_threads: int = Field(
        1,
        ge=1,
        le=MOST_LOADER_THREADS,
        description="threads of each trial that read batches ahead, one batch each; more than 1 help where the dataset "
        "lies on a slow disk and does not fit into the machine's memory. The batches are the same",
    )
    pack: int = Field(
        1,
        ge=1,
        le=MOST_PACKED,
        description="how many trials train together, as one batched network in one process, where they differ only in "
        "seed, lambda, lr, weight_decay, penalty, metric or stage_factors; cpus_per_trial and gpus_per_trial are then "
        "of all of them. Meant for a GPU that one small network leaves idle; on CPU it saves no time. Not with "
        "early_stopping or racing",
    )
    max_retries: int = Field(
        1,
        ge=0,
        le=MOST_RETRIES,
        description="how often a trial continues from its checkpoint after an error or the death of its process; the "
        "loss of a machine does not count",
    )
    checkpoint_seconds: float = Field(
        30,
        ge=0,
        le=LONGEST_SECONDS,
        allow_inf_nan=False,
        description="the shortest time between two checkpoints of a trial",
    )

    tensorboard: bool = Field(
        False, description="true writes event files of every trial to STORAGE/NAME/tensorboard (tensorboard --logdir)"
    )
    mlflow: str = Field(
        "",
        description="where to log every trial as an MLflow run: a folder (gets an mlflow.db), sqlite:///FILE, "
        "http://HOST:PORT or env (the URI in MLFLOW_TRACKING_URI); empty: nowhere",
    )
    wandb: str = Field(
        "",
        description="the Weights & Biases project that gets a run of every trial; WANDB_MODE=offline keeps the runs on "
        "this machine; empty: none",
    )

    @field_validator(
        *("tasks", "lambdas", "augmentation", "backbone_layers", "head_rates", "objectives", "retraining"),
        *("constraints", "compressors", "targets", "group_sparsity_targets"),
        mode="before",
    )
    @classmethod
    def _list_of_one(cls, value: object) -> object:
        return _listed(value)

    @field_validator("search_space", mode="before")
    @classmethod
    def _lists_of_one(cls, value: object) -> object:
        return {name: _listed(item) for name, item in value.items()} if isinstance(value, dict) else value

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
        for name in ("tasks", "lambdas", "seeds", "objectives", "retraining", "compressors", *TARGETS):
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
        if self.pack > 1 and self.early_stopping != "none":
            raise ValueError(
                f"pack = {self.pack} with early_stopping = {self.early_stopping}; allowed: pack = 1, or early_stopping "
                "= none, as the trials of a pack train together to their ends"
            )
        if self.patience and "one_cycle" in (self.lr_schedule, *self.search_space.get("lr_schedule", ())):
            raise ValueError(
                f"patience = {self.patience} with lr_schedule one_cycle; allowed: patience = 0, because patience would "
                "cut the schedule before its end, or lr_schedule = constant"
            )
        if self.group_sparsity_targets and "penalty_to_target" not in self.compressors:
            raise ValueError(
                f"group_sparsity_targets = {list(self.group_sparsity_targets)} with compressors = "
                f"{list(self.compressors)}; allowed: with penalty_to_target, and none without it"
            )
        searched = self.search_space.get("compressor", self.compressors)
        if "penalty_to_target" in (*self.compressors, *searched) and self.penalty not in GROUP_PENALTIES:
            raise ValueError(
                f"penalty = {self.penalty} with compressors = {list(searched)}; allowed with "
                f"penalty_to_target: {', '.join(GROUP_PENALTIES)}"
            )
        # A target on group sparsity is one too, where no other compressor needs one on the cost.
        enough = self.group_sparsity_targets and {*self.compressors} <= {"penalty", "penalty_to_target"}
        if bool(self.targets) != (self.compressors != ("penalty",)) and not (enough and not self.targets):
            raise ValueError(
                f"targets = {list(self.targets)} with compressors = {list(self.compressors)}; allowed: targets for "
                "compressors other than penalty, and none for penalty alone"
            )
        if self.penalised == "all" and {*self.retraining, *self.search_space.get("retraining", ())} != {"none"}:
            raise ValueError(
                f"penalised = all with retraining = {list(self.search_space.get('retraining', self.retraining))}; "
                "allowed: none, as a second training starts with whole heads"
            )
        # Counted without listing them: 40 tasks have a million million combinations.
        if (count := self.trial_count) > MOST_TRIALS:
            axes = "lambdas" if self.compressors == ("penalty",) else "compressors and their lambdas or targets"
            shown = f"{count:,}" if count < 10**12 else f"{float(count):.1e}"
            raise ValueError(
                f"combinations x {axes} x seeds make {shown} trials; allowed: at most {MOST_TRIALS:,} in a sweep"
            )
        return self

    @property
    def trial_count(self) -> int:
        """How many trials `expand` makes."""
        every = {"all": 2 ** len(self.tasks) - 1, "single": len(self.tasks)}
        combinations = every[self.combinations] if isinstance(self.combinations, str) else len(self.combinations)
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        return combinations * seeds * len(self._variants)

    @property
    def _variants(self) -> list[dict[str, Any]]:
        """The fields in which the trials of one combination and seed differ."""
        # The dense model, which the others are compared with and a path starts from, always runs beside them.
        penalised = self.lambdas if "penalty" in self.compressors else ()
        if self.compressors != ("penalty",) and 0 not in penalised:
            penalised = (0.0, *penalised)
        variants: list[dict[str, Any]] = [
            {"strength": strength, "retraining": retraining}
            for strength in penalised
            for retraining in self.retrainings(strength)
        ]
        others = [one for one in self.compressors if one != "penalty"]
        variants += [
            {"strength": 0.0, "compressor": one, "target_macs": target}
            # From large to small, as a path goes.
            for one, target in itertools.product(others, sorted(self.targets, reverse=True))
        ]
        return variants + [
            {"strength": 0.0, "compressor": "penalty_to_target", "target_group_sparsity": target}
            for target in self.group_sparsity_targets
        ]

    def retrainings(self, strength: float) -> tuple[Retraining | Literal["longer"], ...]:
        """The kinds of retraining of the penalty's trials with this strength.

        Nothing is removed from a dense model, so it is not retrained. The retrained models are compared with a dense
        model that has had as many epochs.
        """
        if strength:
            return self.retraining
        retrained = self.retraining != ("none",) and any(self.lambdas) and "penalty" in self.compressors
        return ("none", LONGER) if retrained else ("none",)

    @property
    def stopping_objectives(self) -> tuple[str, ...]:
        """What a sweep's early stopping compares."""
        return self.objectives or (BY_COST if self.cost_follows else BY_SPARSITY)

    def compared(self, objectives: Sequence[str]) -> tuple[str, ...]:
        """Those of the objectives by which running trials are compared."""
        return tuple({"none": (), "asha": objectives[:1], "mo_asha": objectives}[self.early_stopping])

    @property
    def cost_follows(self) -> bool:
        """Whether a sweep's trials all have targets, which tell their costs, or are dense."""
        if self.group_sparsity_targets:
            return False
        return "penalty" not in self.compressors or (self.compressors != ("penalty",) and not any(self.lambdas))

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def trial_precision(self) -> Literal["float32", "bfloat16"]:
        """The precision of the recipe's trials, which is known before it is known where they run."""
        return trial_precision(self.precision, self.gpus_per_trial)

    @property
    def first_rung(self) -> int:
        """The number of epochs after which trials are compared for the first time."""
        return self.grace_epochs or max(1, self.epochs // 3)

    @property
    def task_combinations(self) -> tuple[tuple[str, ...], ...]:
        """The combinations, each with its tasks in the recipe's order; of all subsets the small ones come first."""
        if self.combinations == "all":
            sizes = range(1, len(self.tasks) + 1)
            return tuple(itertools.chain.from_iterable(itertools.combinations(self.tasks, size) for size in sizes))
        if self.combinations == "single":
            return tuple((task,) for task in self.tasks)
        return tuple(self.tasks_of(combination) for combination in self.combinations)

    def tasks_of(self, combination: str) -> tuple[str, ...]:
        """The tasks of a text such as depth+normals, in the recipe's order."""
        return tuple(task for task in self.tasks if task in combination.split("+"))


def trial_precision(precision: str, gpus_per_trial: float) -> Literal["float32", "bfloat16"]:
    """What `precision` means: trials with a share of a GPU run on CUDA, all others on the CPU."""
    return "bfloat16" if precision == "bfloat16" or (precision == "auto" and gpus_per_trial > 0) else "float32"


def trial_settings(recipe: Recipe) -> dict[str, Any]:
    """The fields of a TrialConfig that all trials of the recipe share."""
    return recipe.model_dump(include=set(TrialSettings.model_fields)) | {"precision": recipe.trial_precision}


def expand(
    recipe: Recipe, data_version: str, weights_version: str = "", network_version: str = ""
) -> list[TrialConfig]:
    """Every trial of a recipe. The trials with the most tasks take longest and start first, so that none runs alone at
    the end."""
    versions = {"data_version": data_version, "weights_version": weights_version, "network_version": network_version}
    settings = trial_settings(recipe) | versions
    combinations = sorted(recipe.task_combinations, key=len, reverse=True)
    trials: list[TrialConfig] = []
    for tasks, seed in itertools.product(combinations, recipe.seed_list):
        before = ""  # what the next step of a path starts from
        for variant in recipe._variants:
            on_path = variant.get("compressor") == "path"
            start = before if on_path else ""
            config = TrialConfig(**settings, tasks=tasks, seed=seed, **variant, warm_started_from=start)
            if on_path or (config.dense and config.retraining == "none"):
                before = config.trial_id
            trials.append(config)
    return trials


def differing_fields(recipe: Recipe, config: TrialConfig) -> str:
    """The settings in which a trial differs from the recipe's own, such as "lr=0.003" or "compressor=narrow"."""
    fields: list[tuple[str, object, object]] = [
        ("compressor", config.compressor, "penalty"),  # first: the analysis looks for it there
        ("target_macs", config.target_macs, 1.0),
        ("target_group_sparsity", config.target_group_sparsity, 0.0),
        *((name, getattr(config, name), getattr(recipe, name)) for name in SEARCHABLE),
    ]
    return " ".join(f"{name}={_short(value)}" for name, value, own in fields if value != own)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing_settings(old: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The fields in which an earlier run's recipe, read from `sweep.json`, makes other trials than this recipe."""
    new = recipe.model_dump(mode="json")
    # A field that did not exist yet in the earlier run had its default.
    fields = {name: field.get_default() for name, field in Recipe.model_fields.items() if not field.is_required()}
    defaults = json.loads(json.dumps(fields))
    # "auto" came later than true and false, and is for a trial what false is.
    before, now = ({**defaults, **fields} | {"resident": fields.get("resident") is True} for fields in (old, new))
    found = [name for name in new if name not in FREE_FIELDS and before.get(name) != now[name]]
    # A GPU is a free field, unless it changes the precision.
    gpus, precision = (old.get(name, defaults[name]) for name in ("gpus_per_trial", "precision"))
    ran_at = trial_precision(precision, gpus) if isinstance(gpus, int | float) else None
    return found if ran_at == recipe.trial_precision or "precision" in found else [*found, "gpus_per_trial"]

"""What the study trains: sweeps of recipes with some of their fields set, in full or in small (`quick`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.strategy_tables import COMPARED, TARGETS

TRIPLE = "segmentation+depth+normals"
PAIRS = "segmentation+depth,segmentation+normals,depth+normals"
TABLE_3 = "segmentation+normals,depth+normals"
ALL_FACES = "segmentation+male+smile"
FACES = "segmentation,male,smile,segmentation+male,male+smile"
TENTH = (0.5, 0.25, 0.1)
NYU, MASKS = "nyuv2", "celebamask_hq"  # datasets
PAPER = "nyuv2-paper"  # the sweep in the paper's setting


@dataclass(frozen=True)
class Part:
    """One run of a sweep. Parts with one `name` continue each other.

    Attributes:
        name: of the sweep's folder.
        dataset: what it trains on: `NYU` or `MASKS`.
        recipe: a shipped recipe.
        fields: KEY=VALUE, in place of the recipe's.
    """

    name: str
    dataset: str
    recipe: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        seeds: of the three-task model of NYU-v2, of other combinations, of the three-task model of the faces.
        targets: costs of our compressors and of narrow networks; `compared`: of the others; `slow_targets`: of narrow
            networks in the paper's setting.
        lambdas: of the three-task model; `few_lambdas`: of other combinations; `l1_lambdas`, `slow_lambdas`: of ℓ1, and
            in the paper's setting.
        nyu, faces: fields of all parts on that dataset.
        epochs: on NYU-v2; `slow_epochs`: in the paper's setting.
    """

    seeds: tuple[int, int, int]
    targets: Sequence[float]
    compared: Sequence[float]
    slow_targets: Sequence[float]
    lambdas: str
    few_lambdas: str
    l1_lambdas: str
    slow_lambdas: str
    nyu: tuple[str, ...]
    faces: tuple[str, ...]
    epochs: int
    slow_epochs: int


# A size at which five seeds of every strategy take two cores some hours. Δm is relative, and the mean IoU of 40 classes
# stays too near to 0 in so short a training to be a denominator.
FULL = Scale(
    seeds=(5, 3, 5),
    targets=TARGETS,
    compared=COMPARED,
    slow_targets=(0.5, 0.25),
    lambdas="0,1e-4,3e-4,1e-3,3e-3",
    few_lambdas="0,3e-4,3e-3",
    l1_lambdas="1e-3,2e-3",
    slow_lambdas="0,1e-2,3e-2",
    nyu=("image_size=[48,64]", "backbone_width=16", "head_channels=32", "dataset_options.classes=13"),
    faces=(),
    epochs=16,
    slow_epochs=24,
)
SMALL = ("image_size=32", "backbone_width=8", "head_channels=8")
QUICK = Scale(
    seeds=(2, 1, 1),
    targets=(0.5, 0.12),
    compared=(0.5, 0.12),
    slow_targets=(0.5,),
    lambdas="0,1e-3,1e-2",
    few_lambdas="0,1e-2",
    l1_lambdas="1e-2",
    slow_lambdas="0,1e-1",
    nyu=(*SMALL, "dataset_options.classes=13"),
    faces=(*SMALL, "epochs=3"),
    epochs=3,
    slow_epochs=3,
)


def parts(scale: Scale) -> list[Part]:
    """All sweeps of the study, in the order in which they run."""
    triple, others, _ = scale.seeds
    few = f"lambdas={scale.few_lambdas}"
    half = f"path_epochs={-(-scale.epochs // 2)}"
    # As many epochs as the model at the end of a path has had.
    chain = f"epochs={scale.epochs + len(scale.targets) * -(-scale.epochs // 4)}"
    return [
        nyu(scale, "nyuv2", TRIPLE, triple, "penalty,path,selection,narrow", scale.targets),
        nyu(scale, "nyuv2", TRIPLE, triple, "path", TENTH),
        nyu(scale, "nyuv2", "single", triple, "penalty", ()),
        nyu(scale, "nyuv2", PAIRS, others, "penalty,path,selection,narrow", scale.targets),
        paper_setting(scale),
        unstructured(scale, TRIPLE, triple),
        *faces(scale),
        nyu(scale, "nyuv2-half", TRIPLE, triple, "path", scale.targets, half),
        nyu(scale, "nyuv2-longer", TRIPLE, others, "narrow", scale.compared[1:3], chain),
        nyu(scale, "nyuv2", "single", others, "path,narrow", scale.targets),
        unstructured(scale, TABLE_3, others),
        nyu(scale, "nyuv2-bf16", TRIPLE, triple, "penalty,path,narrow", scale.compared, "precision=bfloat16", few),
        nyu(scale, "nyuv2", TRIPLE, triple, "torch_pruning_norm,torch_pruning_taylor", scale.compared),
        nyu(scale, "nyuv2", TRIPLE, others, "magnitude,penalty_to_target,random", scale.compared[1:3]),
    ]


def nyu(
    scale: Scale, name: str, combinations: str, seeds: int, compressors: str, targets: Sequence[float], *more: str
) -> Part:
    """A run on NYU-v2; of other combinations than all three tasks with fewer λ."""
    lambdas = scale.lambdas if combinations == TRIPLE else scale.few_lambdas
    trained = ("path_epochs=0", f"epochs={scale.epochs}", f"lambdas={lambdas}")
    return Part(
        name, NYU, "nyuv2-small", (*scale.nyu, *trained, *made(combinations, seeds, compressors, targets), *more)
    )


def unstructured(scale: Scale, combinations: str, seeds: int) -> Part:
    """The ℓ1 penalty. Its dense models are those of the group lasso."""
    fields = ("penalty=l1", f"lambdas={scale.l1_lambdas}")
    return nyu(scale, "nyuv2-l1", combinations, seeds, "penalty", (), *fields)


def paper_setting(scale: Scale) -> Part:
    """Trained and measured as in the paper, at our size: many epochs at one low rate."""
    trained = ("lr=1e-4", "lr_schedule=constant", f"epochs={scale.slow_epochs}", f"lambdas={scale.slow_lambdas}")
    seeds = scale.seeds[0]
    return nyu(scale, PAPER, TRIPLE, seeds, "penalty,narrow", scale.slow_targets, "protocol=paper", *trained)


def faces(scale: Scale) -> list[Part]:
    """The paper's six combinations of CelebAMask-HQ."""

    def part(combinations: str, seeds: int, compressors: str, targets: Sequence[float], *more: str) -> Part:
        fields = (*scale.faces, *made(combinations, seeds, compressors, targets), "path_epochs=0", *more)
        return Part("celebamask", MASKS, "celebamask-small", fields)

    return [
        part(ALL_FACES, scale.seeds[2], "penalty,path,selection,narrow", scale.targets, "lambdas=0,1e-3,3e-3,1e-2"),
        part(FACES, scale.seeds[1], "penalty,path,narrow", scale.compared[:3], "lambdas=0,1e-2"),
    ]


def made(combinations: str, seeds: int, compressors: str, targets: Sequence[float]) -> tuple[str, ...]:
    """The fields that say which models there are."""
    costs = ",".join(f"{target:g}" for target in targets)
    return f"combinations={combinations}", f"seeds={seeds}", f"compressors={compressors}", f"targets={costs}"

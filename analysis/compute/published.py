"""The numbers that arXiv 2308.12114 printed in its tables 1 to 3, as published: facts carried over, not measured here.

λ = 1e-6 and 1e-5 are inferred from the authors' run names; the rest is as printed. Deviations are with ddof 0, over
five seeds; table 3 prints no λ.
"""

from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

SOURCE = "arXiv 2308.12114, Less is More: Towards parsimonious multi-task models using structured sparsity"


@dataclass(frozen=True)
class PublishedTable:
    """Which table it is: of which dataset, with which tasks and penalty; `file` holds its numbers."""

    number: int
    title: str
    dataset: str
    tasks: tuple[str, ...]
    penalty: str
    file: str


NYU, FACES = ("segmentation", "normals", "depth"), ("segmentation", "male", "smile")
TABLES = (
    PublishedTable(1, "Group sparsity on NYU-v2", "nyuv2", NYU, "group_lasso", "table1_nyuv2.csv"),
    PublishedTable(
        2, "Group sparsity on CelebAMask-HQ", "celebamask_hq", FACES, "group_lasso", "table2_celebamask_hq.csv"
    ),
    PublishedTable(3, "Unstructured (ℓ1) sparsity on NYU-v2", "nyuv2", NYU, "l1", "table3_unstructured_nyuv2.csv"),
)
# As printed, and as the metric is called here.
METRICS = {
    "segmentation_iou": "segmentation_iou_micro",
    "normals_cos": "normals_cos",
    "depth_mae": "depth_mae",
    "male_accuracy": "male_accuracy",
    "smile_accuracy": "smile_accuracy",
}


def published_numbers(table: PublishedTable) -> pd.DataFrame:
    """One row per printed row: `tasks`, `penalty`, `lambda` (NaN in table 3), `<metric>_mean`, `<metric>_std`.

    Metrics have our names; `group_sparsity_mean` and `parameter_sparsity_mean` are fractions, printed without
    deviations.
    """
    with files("analysis.compute").joinpath("published_tables", table.file).open(encoding="utf-8") as file:
        printed = pd.read_csv(file)
    numbers = printed[["tasks"]].assign(
        penalty=table.penalty, **{"lambda": printed["lambda"] if "lambda" in printed else float("nan")}
    )
    for name, ours in METRICS.items():
        if name in printed:
            numbers[f"{ours}_mean"], numbers[f"{ours}_std"] = printed[name], printed[f"{name}_std"]
    for column in ("group_sparsity", "parameter_sparsity"):
        numbers[f"{column}_mean"] = printed[f"{column}_pct"] / 100
    return numbers

"""What others published on NYU-v2 in the setting of MTAN (13 classes, 288 x 384), as printed: facts carried over.

Three tables of two networks. LibMTL is Lin & Zhang, "LibMTL: A Python Library for Deep Multi-Task Learning" (arXiv
2203.14338). GLS, GradDrop, GradVac, MoCo and IMTL, which balances losses and gradients, are not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd

from mtl.vocabulary.delta_m import relative_change

RESNET, SEGNET = "ResNet-50", "SegNet + MTAN"
SINGLE = "single task"


@dataclass(frozen=True)
class Source:
    """Where rows are from, of which network, how it was trained, and of how many runs they are the mean."""

    name: str
    network: str
    training: str
    runs: int | None


SOURCES: Mapping[str, Source] = {
    "libmtl_resnet50": Source(
        "LibMTL, examples/nyu/results/resnet_results.pdf, table 2",
        RESNET,
        "ImageNet weights, batches of 8, 200 epochs, no augmentation; its code keeps the epoch that is best on test",
        1,
    ),
    "papers_single_task": Source(
        "the code of Nash-MTL (Navon et al. 2022, arXiv 2202.01017), base results, from CAGrad (Liu et al. 2021, arXiv "
        "2110.14048)",
        SEGNET,
        "single-task SegNets; what the papers' rows are compared with",
        None,
    ),
    "papers_segnet": Source(
        "CAGrad, Nash-MTL, Aligned-MTL (Senushkin et al. 2023) and MoCo (Fernando et al. 2023), as LibMTL's "
        "examples/nyu/results/segnet_results.pdf, table 2, quotes them",
        SEGNET,
        "batches of 2, 200 epochs, augmentation; Nash-MTL's are means of the last 10 epochs on test",
        None,
    ),
    "libmtl_segnet": Source(
        "LibMTL, examples/nyu/results/segnet_results.pdf, table 2, rows LibMTL",
        SEGNET,
        "batches of 2, 200 epochs, augmentation",
        3,
    ),
}
# Our names of the weightings that have published rows.
WEIGHTINGS = {
    "equal": "EW",
    "uncertainty": "UW",
    "dwa": "DWA",
    "gradnorm": "GradNorm",
    "rlw": "RLW",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "nash_mtl": "Nash-MTL",
    "mgda": "MGDA",
    "aligned_mtl": "Aligned-MTL",
    "famo": "FAMO",
    "imtl_l": "IMTL-L",
}
# The nine metrics of each task, and whether more is better.
METRICS: Mapping[str, Mapping[str, bool]] = {
    "segmentation": {"segmentation_miou": True, "segmentation_pixel_accuracy": True},
    "depth": {"depth_mae": False, "depth_abs_rel": False},
    "normals": {
        "normals_mean_angle": False,
        "normals_median_angle": False,
        "normals_within_11": True,
        "normals_within_22": True,
        "normals_within_30": True,
    },
}
PERCENT = "_pct"


def published_benchmark() -> pd.DataFrame:
    """One row per printed row: `source` (a key of SOURCES), `network`, `weighting` (as printed), `runs`, the nine
    metrics (shares as fractions) and `delta_m_all`, a fraction: our Δm over all metrics, which is LibMTL's, against the
    single-task row of the network; NaN for ResNet-50, of which that source has none."""
    with files("analysis.compute").joinpath("published_tables", "nyuv2_mtan.csv").open(encoding="utf-8") as file:
        printed = pd.read_csv(file)
    table = printed[["source", "weighting"]].assign(
        network=[SOURCES[one].network for one in printed["source"]],
        runs=pd.array([SOURCES[one].runs for one in printed["source"]], dtype="Int64"),
    )
    for name in printed.columns[2:]:
        share = name.endswith(PERCENT)
        table[name.removesuffix(PERCENT)] = printed[name] / 100 if share else printed[name]
    single = table[table["weighting"] == SINGLE].set_index("network")
    tasks = []
    for metrics in METRICS.values():
        changes = [
            relative_change(table[name], table["network"].map(single[name]), maximize)
            for name, maximize in metrics.items()
        ]
        tasks.append(np.mean(changes, axis=0))
    return table.assign(delta_m_all=np.mean(tasks, axis=0))

"""The task weightings by the names that recipes give them.

TorchJD has the methods that combine gradients, and some that weight losses. The others are ours where TorchJD's differ:
its uncertainties have other factors, its dynamic average and its FAMO would not survive a resumed trial, and its Nash
bargaining stops early and needs a solver.
"""

from collections.abc import Callable, Sequence

import torch
from torchjd.aggregation import AlignedMTLWeighting, CAGradWeighting, MGDAWeighting, PCGradWeighting
from torchjd.scalarization import IMTLL, Random

from mtl.task_weighting.aggregation import GradientAggregation
from mtl.task_weighting.base import TaskWeighting
from mtl.task_weighting.dwa import DynamicWeightAverage
from mtl.task_weighting.equal import EqualWeighting
from mtl.task_weighting.famo import FastAdaptiveOptimization
from mtl.task_weighting.gradnorm import GradNorm
from mtl.task_weighting.nash import NashBargaining
from mtl.task_weighting.scalarized import Scalarized
from mtl.task_weighting.uncertainty import UncertaintyWeighting
from mtl.tasks import Task

TASK_WEIGHTINGS: dict[str, Callable[[Sequence[Task]], TaskWeighting]] = {
    "uncertainty": UncertaintyWeighting,
    "equal": EqualWeighting,
    "dwa": DynamicWeightAverage,
    "gradnorm": GradNorm,
    # Lin et al. 2022 (arXiv 2111.10603), algorithm 2: weights drawn anew for each step, softmax of normal numbers.
    "rlw": lambda tasks: Scalarized(tasks, Random(), len(tasks)),
    # Liu et al. 2021 (openreview IMPnRXEWpvr), the loss balance of IMTL: sum_t (exp(s_t) L_t - s_t) with s_t learned.
    "imtl_l": lambda tasks: Scalarized(tasks, IMTLL(len(tasks))),
    "famo": FastAdaptiveOptimization,
    # Yu et al. 2020 (arXiv 2001.06782), algorithm 1: each gradient loses what opposes the others, then all are added.
    # The others' order is drawn anew for each task and step from torch's global generator.
    "pcgrad": lambda tasks: GradientAggregation(tasks, PCGradWeighting()),
    # Liu et al. 2021 (arXiv 2110.14048), algorithm 1: within a ball around the mean, the best for the worst-off task.
    # The ball's radius is 0.4 of the mean's norm, the authors' choice for NYU-v2.
    "cagrad": lambda tasks: GradientAggregation(tasks, CAGradWeighting(c=0.4), mean=True),
    # Navon et al. 2022 (arXiv 2202.01017), equation 2: the Nash bargaining solution.
    "nash_mtl": lambda tasks: GradientAggregation(tasks, NashBargaining()),
    # Désidéri 2012; Sener & Koltun 2018 (arXiv 1810.04650), algorithm 2: the shortest convex combination.
    "mgda": lambda tasks: GradientAggregation(tasks, MGDAWeighting(), mean=True),
    # Senushkin et al. 2023 (arXiv 2305.19000), algorithm 1: the nearest gradients that are orthogonal and equally long,
    # as long as the smallest singular value. It drops what is below the rounding of the Gramian's own precision.
    "aligned_mtl": lambda tasks: GradientAggregation(tasks, AlignedMTLWeighting(), mean=True, precision=torch.float32),
}

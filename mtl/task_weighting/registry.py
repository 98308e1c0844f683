"""The task weightings by the names that recipes give them."""

from collections.abc import Callable, Sequence

from mtl.task_weighting.aggregation import MGDA, CAGrad, NashMTL, PCGrad
from mtl.task_weighting.base import TaskWeighting
from mtl.task_weighting.dwa import DynamicWeightAverage
from mtl.task_weighting.equal import EqualWeighting
from mtl.task_weighting.gradnorm import GradNorm
from mtl.task_weighting.uncertainty import UncertaintyWeighting
from mtl.tasks import Task

TASK_WEIGHTINGS: dict[str, Callable[[Sequence[Task]], TaskWeighting]] = {
    "uncertainty": UncertaintyWeighting,
    "equal": EqualWeighting,
    "dwa": DynamicWeightAverage,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "nash_mtl": NashMTL,
    "mgda": MGDA,
}

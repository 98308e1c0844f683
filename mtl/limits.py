"""Whether a trial can fit into memory, checked before any part of it is made.

The need is a lower bound, so that nothing that would run is refused.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from mtl.config import TrialSettings
from mtl.errors import BadInput
from mtl.network_fields import RESNETS
from mtl.networks.model_size import count_activations, count_parameters
from mtl.tasks import Task
from mtl.vocabulary.units import byte_size

FLOAT_BYTES = 4
HALF_BYTES = 2  # of an activation under autocast on CUDA
COPIES = 5  # of the model: weights, their gradients, Adam's two moments, and the best model so far
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
MEMORY_INFO = Path("/proc/meminfo")


def check_memory(
    settings: TrialSettings,
    tasks: Sequence[Task],
    images: int,
    available: int | None,
    where: str = "this machine",
    data_bytes: int = 0,
    pack: int = 1,
) -> None:
    """Raise BadInput where training on these tasks needs more than the `available` bytes; None: not known.

    images: in the training split, which limits a batch. where: whose memory it is. data_bytes: of a dataset kept in it.
    pack: how many such trials train together.
    """
    needed = pack * bytes_needed(settings, tasks, images) + data_bytes
    if available is not None and needed > available:
        sizes = {"backbone_width": settings.backbone_width, "head_channels": settings.head_channels}
        if settings.network not in RESNETS:
            sizes.pop("backbone_width")
        if settings.model:
            sizes.clear()
        shown = "".join(f"{name} = {value}, " for name, value in sizes.items())
        what = "a trial" if pack == 1 else f"a pack of {pack} trials"
        raise BadInput(
            f"{what} of {settings.network} with {shown}{len(tasks)} tasks, image_size = {list(settings.image_size)} "
            f"and batch_size = {settings.batch_size} needs at least {byte_size(needed)} of memory; allowed: at most "
            f"the {byte_size(available)} of {where}"
        )


def bytes_needed(settings: TrialSettings, tasks: Sequence[Task], images: int) -> int:
    """What training holds at once, at least: copies of the model, a batch, and what a pass keeps of it."""
    batch = min(settings.batch_size, max(1, images))
    height, width = settings.image_size
    of_image = 3 * height * width * FLOAT_BYTES + count_activations(settings, tasks) * HALF_BYTES
    return COPIES * FLOAT_BYTES * count_parameters(settings, tasks) + batch * of_image


def machine_memory(*, with_swap: bool = True) -> int | None:
    """Bytes of memory, and of swap, that a process may have here; None where the system does not say."""
    memory, swap = _installed()
    if memory is None:
        return None
    for path in CGROUP_LIMITS:
        # There may be no such group, and "max" is no number.
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(path.read_text()))
    return memory + swap if with_swap else memory


def _installed() -> tuple[int | None, int]:
    """Memory and swap of the machine."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (line.split() for line in MEMORY_INFO.read_text().splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1}
        return sizes["MemTotal:"], sizes.get("SwapTotal:", 0)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 0
    return None, 0

"""What is said, and done, when a trial runs out of memory."""

from collections.abc import Sequence

import torch

from mtl.config import TrialConfig
from mtl.errors import TrialFailed
from mtl.networks.memory_need import config_need
from mtl.tasks import Task
from mtl.vocabulary.units import byte_size


class OutOfMemory(TrialFailed):
    """One line. hopeless: whether the trial would not fit if it ran again as it is."""

    def __init__(self, line: str, hopeless: bool) -> None:
        super().__init__(line)
        self.hopeless = hopeless


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, numpy or Python found no memory, on a GPU or on the machine."""
    # On a CPU torch raises a plain RuntimeError.
    said = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def out_of_memory(
    config: TrialConfig, tasks: Sequence[Task], images: int, device_type: str, total: int | None, share: float
) -> OutOfMemory:
    """The error of a trial for which there was no memory, with the batch that would fit by the estimate.

    images: in the training split. total: bytes of the GPU or of the machine; None: not known. share: of it that one of
    the trials that run side by side can have.
    """
    place = "a GPU" if device_type == "cuda" else "a machine"
    place += f" of {byte_size(total)}" if total else ""
    line = f"out of memory on {place} with batch_size = {config.batch_size}"
    need = config_need(config, tasks, images, device_type) if tasks else None
    if need is None or total is None:
        return OutOfMemory(f"{line}; allowed: a smaller one, or fewer trials side by side", hopeless=False)
    batch, available = min(config.batch_size, images), total * min(1.0, share)
    about = f"a trial needs about {byte_size(need.bytes(batch))}"
    if need.bytes(batch) <= available:
        return OutOfMemory(
            f"{line}; {about}, so other trials or programs have taken the rest: run fewer side by side", hopeless=False
        )
    fitting = need.largest_batch(int(available))
    part = "" if share >= 1 else f" in this trial's {byte_size(available)}"
    if fitting >= 2:
        return OutOfMemory(f"{line}; about {fitting} would fit{part}: --set batch_size={fitting}", hopeless=True)
    return OutOfMemory(f"{line}; {about}, and no batch would fit{part}: allowed: a smaller network", hopeless=True)

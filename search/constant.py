"""The constant predictor of a sweep, worked out in a process of its own.

What it needs (torchmetrics brings torchvision and SciPy) takes 250 MB, which a driver of many trials would hold to the
end.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal


def measure_constant(
    dataset: str,
    data: str | None,
    options: dict[str, Any],
    image_size: tuple[int, int],
    tasks: Sequence[str],
    protocol: Literal["standard", "paper"],
) -> dict[str, float]:
    """Test metrics of the best prediction that ignores the image, from this node's cache of the data."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, dataset, data, options, image_size, tuple(tasks), protocol).result()


def _measure(
    name: str,
    data: str | None,
    options: dict[str, Any],
    image_size: tuple[int, int],
    tasks: Sequence[str],
    protocol: Literal["standard", "paper"],
) -> dict[str, float]:
    from mtl.constant_predictor import constant_predictor
    from mtl.datasets.cache import materialise
    from mtl.datasets.registry import load_dataset

    dataset = load_dataset(name, Path(data) if data else None, options)
    arrays = materialise(dataset, image_size)
    return constant_predictor(arrays["train"], arrays["test"], [dataset.tasks[task] for task in tasks], protocol)

"""Predictions as arrays, in .npz files that numpy reads with allow_pickle=False."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.inspect.panels import AXES
from mtl.networks.prediction import Prediction
from mtl.tasks import Task

ABOUT = "about.json"  # no array can have its name: a task's name has no point


def arrays_of(tasks: Sequence[Task], prediction: Prediction) -> dict[str, NDArray]:
    """By task: class numbers (H, W) uint8; depth, disparity and the probability of an edge (H, W) float32; unit normals
    (H, W, 3) float32.

    Of a classification the probability of each class (C,) float32, of a binary task that of yes () float32, of a
    regression its numbers, (values,) or () float32.
    """
    arrays = {}
    for task in tasks:
        if task.dense:
            arrays[task.name] = prediction.maps[task.name]
        elif task.kind == "regression":
            numbers = list(prediction.numbers[task.name].values())
            arrays[task.name] = np.array(numbers if task.values else numbers[0], np.float32)
        else:
            shares = list(prediction.probabilities[task.name].values())
            arrays[task.name] = np.array(shares if task.classes else shares[0], np.float32)
    return arrays


def about_arrays(tasks: Sequence[Task], of: Mapping[str, Any], depth_unit: str, to_viewer: bool) -> dict[str, Any]:
    """What the arrays mean: of each task its kind and, as far as it has them, its classes in order, unit and axes.

    of: what is said of the photo or frame that they are of.
    """
    described: dict[str, dict[str, Any]] = {}
    for task in tasks:
        described[task.name] = {"kind": task.kind}
        match task.kind:
            case "segmentation":
                described[task.name] |= {"unit": "number of the class", "classes": list(task.classes)}
            case "depth":
                described[task.name] |= {"unit": depth_unit}
            case "disparity":
                described[task.name] |= {"unit": task.unit}
            case "edges":
                described[task.name] |= {"unit": "probability of an edge"}
            case "regression":
                described[task.name] |= {"unit": task.unit, "values": list(task.values)}
            case "normals":
                described[task.name] |= {"unit": "unit vectors", "axes": ", ".join(AXES[to_viewer])}
            case "classification":
                described[task.name] |= {"unit": "probability", "classes": list(task.classes)}
            case "binary":
                described[task.name] |= {"unit": "probability of yes"}
    return {**of, "tasks": described}


def write_arrays(path: Path, arrays: Mapping[str, NDArray], about: Mapping[str, Any]) -> None:
    """A .npz file of the arrays and about.json, which says what they mean; class numbers are compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            # Floating-point numbers hardly compress, and take seconds a photo to try.
            entry.compress_type = zipfile.ZIP_DEFLATED if array.dtype == np.uint8 else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.writestr(ABOUT, json.dumps(dict(about), ensure_ascii=False, indent=1))

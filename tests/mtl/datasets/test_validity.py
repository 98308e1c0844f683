"""Every way in which a sample can be other than `mtl.tasks` says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.cache.validity import invalidity
from mtl.tasks import Task

TASKS = {
    "parts": Task("parts", "segmentation", ("a", "b", "c")),
    "depth": Task("depth", "depth"),
    "normals": Task("normals", "normals"),
    "male": Task("male", "binary"),
}
UP = np.broadcast_to(np.array([0, 1, 0], np.float32), (4, 5, 3)).copy()


def sample(**targets: NDArray) -> Sample:
    good = {
        "parts": np.array([[0, 2, 255]], np.uint8),
        "depth": np.array([[0, 2.5]], np.float32),
        "normals": UP,
        "male": np.array(255, np.uint8),
    }
    return Sample(np.zeros((4, 5, 3), np.uint8), good | targets)


def test_targets_of_any_size_and_without_labels_are_valid() -> None:
    assert invalidity(sample(), TASKS) is None
    empty = sample(depth=np.zeros((2, 2), np.float32), normals=np.zeros((2, 2, 3), np.float32))
    assert invalidity(empty, TASKS) is None


@pytest.mark.parametrize(
    ("target", "value", "found"),
    [
        ("parts", np.array([[0, 3]], np.uint8), "its parts holds 3; allowed: 0..2, and 255"),
        ("parts", np.array([[0, 1]], np.int64), "its parts is int64 (1, 2); allowed: uint8 (height, width)"),
        ("parts", np.array(1, np.uint8), "its parts is uint8 (); allowed"),
        ("depth", np.array([[-1]], np.float32), "its depth holds -1.0; allowed: metres, and 0"),
        ("depth", np.array([[np.nan]], np.float32), "its depth holds nan"),
        ("depth", np.array([[np.inf]], np.float32), "its depth holds inf"),
        ("depth", np.array([[1]], np.float64), "its depth is float64 (1, 1); allowed: float32 (height, width)"),
        ("normals", UP * 0.5, "its normals holds a vector of length 0.5; allowed: 1, and 0"),
        ("normals", UP * np.float32(np.nan), "its normals holds a vector of length nan"),
        ("normals", UP[..., :2], "its normals is float32 (4, 5, 2)"),
        ("male", np.array(2, np.uint8), "its male holds 2; allowed: 0..1, and 255"),
        ("male", np.array([1], np.uint8), "its male is uint8 (1,); allowed: uint8 ()"),
    ],
)
def test_invalid_target_is_named(target: str, value: NDArray, found: str) -> None:
    assert (invalidity(sample(**{target: value}), TASKS) or "").startswith(found)


def test_absent_and_surplus_targets() -> None:
    assert "allowed: exactly ['depth']" in (invalidity(sample(), {"depth": TASKS["depth"]}) or "")


def test_image_of_another_form() -> None:
    grey = Sample(np.zeros((4, 5), np.uint8), sample().targets)
    assert invalidity(grey, TASKS) == "its image is uint8 (4, 5); allowed: uint8 (height, width, 3)"

"""Normals from depth against planes, whose normals are known, and against the real frames' stored normals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtl.datasets.nyuv2.layouts import open_nyuv2
from mtl.datasets.nyuv2.normals_from_depth import CROPPED, normals_from_depth, pixel_rays
from tests.support.paths import SHARED

SIZE = (96, 128)


def plane_depth(normal: tuple[float, float, float], size: tuple[int, int], distance: float = 2) -> np.ndarray:
    """Depth (H, W) of the plane with this normal that meets the optical axis at `distance` metres."""
    x, y = pixel_rays(size)
    along = normal[0] * x[np.newaxis] + normal[1] * y[:, np.newaxis] + normal[2]
    depth = distance * normal[2] / along
    return np.where(depth > 0, depth, 0).astype(np.float32)


def unit(*vector: float) -> np.ndarray:
    return np.array(vector) / np.linalg.norm(vector)


@pytest.mark.parametrize("size", [(480, 640), CROPPED, SIZE, (192, 192)])
@pytest.mark.parametrize("normal", [(0, 0, -1), (0.5, 0, -1), (0, -0.8, -1), (-0.3, 0.6, -0.5)])
def test_plane(normal: tuple[float, float, float], size: tuple[int, int]) -> None:
    depth = plane_depth(normal, size)
    found = normals_from_depth(depth)
    assert found.shape == (*size, 3)
    assert found.dtype == np.float32
    assert np.abs(found[depth > 0] - unit(*normal)).max() < 1e-4


def test_camera() -> None:
    x, y = pixel_rays((480, 640))
    assert (x[325], x[326]) == pytest.approx(((325 - 325.582449) / 518.857901, (326 - 325.582449) / 518.857901))
    half_x, half_y = pixel_rays((240, 320))
    assert half_x == pytest.approx((x[::2] + x[1::2]) / 2)
    assert half_y == pytest.approx((y[::2] + y[1::2]) / 2)
    cropped_x, cropped_y = pixel_rays((425, 560))
    assert cropped_x == pytest.approx(x[40:600])
    assert cropped_y == pytest.approx(y[45:470])


def test_sharp_up_to_an_edge() -> None:
    # The corner between a wall and a floor that rises to it: a window across it would round it off.
    wall, floor = plane_depth((0, 0, -1), SIZE), plane_depth((0, -1, -0.5), SIZE, 2.6)
    found = normals_from_depth(np.where((floor > 0) & (floor < wall), floor, wall))
    on_floor = (floor > 0) & (floor < wall)
    assert np.min(found[on_floor] @ unit(0, -1, -0.5)) > 0.999
    assert np.min(found[~on_floor] @ unit(0, 0, -1)) > 0.999
    assert 0.1 < on_floor.mean() < 0.9


def test_a_step_in_depth_tilts_nothing() -> None:
    depth = np.full(SIZE, 1.0, np.float32)
    depth[:, 64:] = 3
    assert np.min(normals_from_depth(depth) @ unit(0, 0, -1)) > 0.999


def test_unlabelled_where_depth_is_missing() -> None:
    depth = plane_depth((0.5, 0, -1), SIZE)
    depth[30:34, 50:54] = 0
    found = normals_from_depth(depth)
    assert not found[30:34, 50:54].any()
    assert np.abs(found[depth > 0] - unit(0.5, 0, -1)).max() < 1e-4
    assert not normals_from_depth(np.zeros(SIZE, np.float32)).any()


def test_unlabelled_where_nothing_is_plane() -> None:
    depth = np.random.default_rng(0).uniform(0.5, 10, SIZE).astype(np.float32)
    assert np.mean(normals_from_depth(depth).any(axis=-1)) < 0.01


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real frames in ../shared/data")
def test_agree_with_the_normals_of_real_frames(tmp_path: Path) -> None:
    expand = SHARED / "nyuv2" / "expand.py"
    subprocess.run([sys.executable, expand, tmp_path / "nyuv2", "--count", "20"], check=True, capture_output=True)
    dataset = open_nyuv2(tmp_path / "nyuv2")
    cosines = []
    for sample_id in dataset.ids["train"]:
        targets = dataset.load(sample_id).targets
        found, stored = normals_from_depth(targets["depth"]), targets["normals"]
        both = found.any(axis=-1) & stored.any(axis=-1)
        assert both.mean() > 0.8
        cosines.append(np.sum(found * stored, axis=-1)[both])
    # Depth comes in steps of 4 cm here, and any other sign of an axis gives less than 0.5.
    assert np.mean(np.concatenate(cosines)) > 0.88
    assert np.median(np.concatenate(cosines)) > 0.95

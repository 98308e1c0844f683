"""Resizing: unlabelled pixels stay out of every average, and labels keep their meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtl.datasets.resize import resize_image, resize_target, unit_normals
from mtl.tasks import IGNORE, Kind

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
SEEDS = st.integers(0, 2**32 - 1)
KINDS: tuple[Kind, ...] = ("segmentation", "depth", "normals")
fixed = settings(derandomize=True, deadline=None, max_examples=30)


def random_image(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def random_target(kind: Kind, size: tuple[int, int], seed: int) -> NDArray:
    """Random labels, about a third of the pixels unlabelled."""
    rng = np.random.default_rng(seed)
    unlabelled = rng.random(size) < 0.3
    if kind == "segmentation":
        return np.where(unlabelled, IGNORE, rng.integers(0, 40, size)).astype(np.uint8)
    if kind == "depth":
        return np.where(unlabelled, 0, rng.uniform(0.5, 10, size)).astype(np.float32)
    return unit_normals(np.where(unlabelled[..., None], 0, rng.normal(size=(*size, 3))))


@fixed
@given(SIZES, SIZES, SEEDS)
def test_shapes_and_dtypes(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    image = resize_image(random_image(size, seed), to)
    assert image.shape == (*to, 3)
    assert image.dtype == np.uint8
    for kind in KINDS:
        target = random_target(kind, size, seed)
        resized = resize_target(kind, target, to)
        assert resized.shape == (*to, *target.shape[2:])
        assert resized.dtype == target.dtype


@fixed
@given(SIZES, SEEDS)
def test_right_size_is_left_alone(size: tuple[int, int], seed: int) -> None:
    assert np.array_equal(resize_image(random_image(size, seed), size), random_image(size, seed))
    for kind in KINDS:
        target = random_target(kind, size, seed)
        assert np.array_equal(resize_target(kind, target, size), target)


@pytest.mark.parametrize("kind", ["classification", "binary"])
def test_a_label_of_the_whole_image_is_left_alone(kind: Kind) -> None:
    assert resize_target(kind, np.array(1, np.uint8), (3, 4)) == 1


@fixed
@given(SIZES, SIZES, SEEDS)
def test_constants_are_kept(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, 3, np.uint8)
    assert np.all(resize_image(np.tile(colour, (*size, 1)), to) == colour)
    for kind in KINDS:
        one = random_target(kind, (1, 1), seed)
        assert np.allclose(resize_target(kind, np.tile(one, (*size, 1) if one.ndim == 3 else size), to), one, atol=1e-6)


@fixed
@given(SIZES, SIZES, SEEDS)
def test_classes_and_depths_are_ones_that_were_there(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    classes = random_target("segmentation", size, seed)
    assert np.isin(resize_target("segmentation", classes, to), classes).all()
    depth = random_target("depth", size, seed)
    assert np.isin(resize_target("depth", depth, to), depth).all()


@fixed
@given(SIZES, SIZES, SEEDS)
def test_depth_and_classes_pick_the_same_pixels(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    classes = random_target("segmentation", size, seed)
    assert np.array_equal(
        resize_target("depth", classes.astype(np.float32), to), resize_target("segmentation", classes, to)
    )


@fixed
@given(SIZES, SIZES, SEEDS)
def test_normals_are_unit_or_zero(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    length = np.linalg.norm(
        resize_target("normals", random_target("normals", size, seed), to).astype(np.float64), axis=-1
    )
    assert np.all((length == 0) | (np.abs(length - 1) < 1e-6))


@fixed
@given(SIZES, SIZES, SEEDS)
def test_unlabelled_pixels_do_not_bend_normals(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    normal = random_target("normals", (1, 1), seed)[0, 0]
    holes = np.random.default_rng(seed).random(size) < 0.7
    resized = resize_target("normals", np.where(holes[..., None], 0, normal).astype(np.float32), to)
    assert np.allclose(resized[resized.any(axis=-1)], normal, atol=1e-5)


def test_normals_are_averaged_over_labelled_pixels_only() -> None:
    normals = np.zeros((4, 8, 3), np.float32)
    normals[:, 0] = (1, 0, 0)
    normals[:, 1] = (0, 1, 0)
    left, right = resize_target("normals", normals, (1, 2))[0]
    # The triangle over the left half weighs its first two columns 5 : 7, its outer ones being cut off at the border.
    assert left / left[0] == pytest.approx([1, 7 / 5, 0], abs=1e-5)
    assert not right.any()
    assert not resize_target("normals", np.zeros((4, 4, 3), np.float32), (2, 2)).any()


def test_opposite_normals_are_unlabelled() -> None:
    normals = np.zeros((2, 2, 3), np.float32)
    normals[:, 0, 2], normals[:, 1, 2] = 1, -1
    assert not resize_target("normals", normals, (1, 1)).any()


def test_stored_normals_are_cleaned() -> None:
    stored = np.array([[3, 0, 4], [0, 0, 0], [np.nan, 0, 1], [np.inf, 0, 0], [0, 1e-6, 0]], np.float32)
    assert unit_normals(stored) == pytest.approx(np.array([[0.6, 0, 0.8], *[[0, 0, 0]] * 4]))


@fixed
@given(SIZES, SIZES, SEEDS)
def test_image_and_normals_flip_with_their_source(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    image = random_image(size, seed)
    flipped = resize_image(np.ascontiguousarray(image[:, ::-1]), to)[:, ::-1]
    assert np.abs(flipped.astype(int) - resize_image(image, to)).max() <= 1
    normals = random_target("normals", size, seed)
    assert np.allclose(
        resize_target("normals", normals[::-1], to)[::-1], resize_target("normals", normals, to), atol=1e-3
    )


@fixed
@given(SIZES, st.sampled_from([1, 3, 5]), SEEDS)
def test_nearest_flips_where_a_pixel_has_a_middle(to: tuple[int, int], factor: int, seed: int) -> None:
    size = (to[0] * factor, to[1] * factor)
    for kind in ("segmentation", "depth"):
        target = random_target(kind, size, seed)
        assert np.array_equal(resize_target(kind, target[::-1, ::-1], to)[::-1, ::-1], resize_target(kind, target, to))


def test_image_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_image(stripes, (16, 16)).astype(int) - 127).max() < 20

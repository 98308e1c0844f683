"""Batches: normalised as the formula says, in an order of the generator alone, every array left as it was."""

import copy

import numpy as np
import pytest
import torch

from mtl.datasets.batches.load import MEAN, STD, evaluation_batches, resident, training_batches
from tests.support.small import TASKS, arrays

ALL = ("flip", "crop", "colour")


def normalised(image: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def test_evaluation_batches_are_the_arrays_in_order() -> None:
    split = arrays()["test"]
    batches = list(evaluation_batches(split, TASKS, 4))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    images = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(images, normalised(split["image"]), rtol=0, atol=1e-6)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in batches)
    for task in TASKS:
        target = torch.cat([targets[task.name] for _, targets in batches])
        assert torch.equal(target, torch.from_numpy(split[task.name]))


def test_training_batches_are_the_arrays_shuffled_without_what_fills_no_batch() -> None:
    split = arrays(train=22)["train"]
    split["depth"][:] = np.arange(22)[:, None, None]  # says which sample it is
    batches = list(training_batches(split, TASKS, 5, (), torch.Generator().manual_seed(0)))
    assert [len(images) for images, _ in batches] == [5, 5, 5, 5]
    order = np.concatenate([targets["depth"][:, 0, 0].numpy() for _, targets in batches]).astype(int)
    assert len(set(order)) == 20
    assert list(order) != sorted(order)
    images = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(images, normalised(split["image"][order]), rtol=0, atol=1e-6)
    light = torch.cat([targets["light"] for _, targets in batches])
    assert torch.equal(light, torch.from_numpy(split["light"][order]))


@pytest.mark.parametrize("augmentation", [(), ("flip",), ("crop",), ("colour",), ALL])
def test_images_are_normalised_after_any_augmentation_and_arrays_stay_as_they_are(augmentation: tuple[str]) -> None:
    split = arrays()["train"]
    before = copy.deepcopy(split)
    for images, _ in training_batches(split, TASKS, 8, augmentation, torch.Generator().manual_seed(0)):
        assert images.is_contiguous(memory_format=torch.channels_last)
        zero_to_one = images * STD + MEAN
        assert zero_to_one.min() > -1e-5
        assert zero_to_one.max() < 1 + 1e-5
        assert zero_to_one.std() > 0.1
    assert all(np.array_equal(split[name], before[name]) for name in split)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("augmentation", [(), ALL])
def test_batches_of_resident_arrays_are_those_of_the_maps(device: str, augmentation: tuple[str]) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    split = arrays()["train"]
    held = resident(split, TASKS, torch.device(device))
    for one, other in zip(
        training_batches(split, TASKS, 8, augmentation, torch.Generator().manual_seed(0)),
        training_batches(held, TASKS, 8, augmentation, torch.Generator().manual_seed(0)),
        strict=True,
    ):
        assert other[0].device.type == device
        torch.testing.assert_close(one[0], other[0].cpu(), rtol=0, atol=1e-5)
        for task in TASKS:
            torch.testing.assert_close(one[1][task.name], other[1][task.name].cpu(), rtol=0, atol=1e-5)
    assert torch.equal(held["image"].cpu(), torch.from_numpy(split["image"]))

"""Augmentations keep labels true: each is checked against what the changed scene would be."""

import pytest
import torch

from mtl.datasets.augmentation import augment, crop, flip
from mtl.tasks import IGNORE
from tests.small import TASKS, arrays


def test_flip_mirrors_the_chosen_with_all_their_labels() -> None:
    split = arrays()["val"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float()
    chosen = torch.arange(len(images)) % 2 == 0
    flipped_images, flipped = flip(images, targets, TASKS, chosen)
    assert torch.equal(flipped_images[1], images[1])
    assert torch.equal(flipped_images[0], images[0].flip(2))
    assert torch.equal(flipped["segmentation"][0], targets["segmentation"][0].flip(1))
    assert torch.equal(flipped["depth"][0], targets["depth"][0].flip(1))
    assert torch.equal(flipped["male"], targets["male"])
    mirrored = targets["normals"][0].flip(1) * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(flipped["normals"][0], mirrored)
    assert torch.equal(flipped["normals"][1], targets["normals"][1])
    again_images, again = flip(flipped_images, flipped, TASKS, chosen)
    assert torch.equal(again_images, images)
    assert torch.equal(again["normals"], targets["normals"])


def test_crop_of_everything_changes_nothing() -> None:
    split = arrays()["val"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float()
    count = len(images)
    same_images, same = crop(images, targets, TASKS, torch.ones(count), torch.rand(count, 2))
    torch.testing.assert_close(same_images, images)
    assert all(torch.equal(same[name], target) for name, target in targets.items())


@pytest.mark.parametrize(("top", "left"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_crop_looks_where_it_says(top: float, left: float) -> None:
    """Each pixel of a ramp says where it was; the window's pixels must say the window, in image and labels alike."""
    height, width, scale = 32, 48, 0.5
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    images = torch.stack([y, x, torch.ones_like(x)])[None]
    targets = {
        "segmentation": y[None].to(torch.uint8),
        "depth": x[None].clone(),
        "normals": torch.stack([torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)], dim=-1)[None],
        "male": torch.ones(1, dtype=torch.uint8),
    }
    targets["segmentation"][0, :, :4] = IGNORE
    seen, labels = crop(images, targets, TASKS, torch.tensor([scale]), torch.tensor([[top, left]]))
    first_row, first_column = top * (1 - scale) * height, left * (1 - scale) * width
    expected_y = first_row + scale * (torch.arange(height) + 0.5)
    expected_x = first_column + scale * (torch.arange(width) + 0.5)
    inside = (slice(1, -1), slice(1, -1))  # at the image's border there is nothing to interpolate with
    torch.testing.assert_close(seen[0, 0][inside], expected_y[:, None].expand(-1, width)[inside])
    torch.testing.assert_close(seen[0, 1][inside], expected_x[None].expand(height, -1)[inside])
    assert ((labels["depth"][0] / scale - expected_x).abs() <= 0.5 + 1e-4).all()  # nearest, and nearer by the scale
    known = labels["segmentation"][0] != IGNORE
    assert known.any()
    assert ((labels["segmentation"][0].float() + 0.5 - expected_y[:, None]).abs()[known] <= 0.5 + 1e-4).all()
    assert torch.equal(known.all(dim=0), expected_x >= 4)
    assert torch.equal(labels["normals"], targets["normals"])
    assert torch.equal(labels["male"], targets["male"])


def test_augmentation_is_of_the_generator_alone() -> None:
    split = arrays()["train"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float()
    runs = []
    for seed, global_seed in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(global_seed)
        runs.append(augment((images, targets), TASKS, ["crop", "flip"], torch.Generator().manual_seed(seed)))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in targets)
    assert not torch.equal(runs[0][0], runs[2][0])
    assert augment((images, targets), TASKS, [], torch.Generator())[0] is images

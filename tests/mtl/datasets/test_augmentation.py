"""Augmentations keep labels true: each is checked against what the changed scene would be."""

import pytest
import torch

from mtl.datasets.batches.augmentation import Batch, augment, crop, draw, flip
from mtl.tasks import IGNORE, Task
from tests.support.small import TASKS, arrays


def augmented(batch: Batch, tasks: list[Task], names: list[str], generator: torch.Generator) -> Batch:
    return augment(batch, tasks, draw(names, len(batch[0]), generator))


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
        "light": torch.ones(1, dtype=torch.uint8),
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
    assert torch.equal(labels["light"], targets["light"])
    assert torch.equal(labels["male"], targets["male"])


HEIGHT, WIDTH, FOCAL, DISTANCE = 64, 96, 80.0, 3.0


def plane(normal: torch.Tensor) -> dict[str, torch.Tensor]:
    """Depth and normals of the plane of this unit normal at DISTANCE, by a pinhole camera with x right and y down."""
    rays = points(torch.ones(1, HEIGHT, WIDTH), torch.tensor([HEIGHT / 2]), torch.tensor([WIDTH / 2]), FOCAL)
    return {"depth": -DISTANCE / (rays @ normal), "normals": normal.expand(1, HEIGHT, WIDTH, 3).clone()}


def points(depth: torch.Tensor, centre_y: torch.Tensor, centre_x: torch.Tensor, focal: float) -> torch.Tensor:
    """(N, H, W, 3): where the pixels of depth maps (N, H, W) lie, by a camera with this principal point and focal."""
    y = (torch.arange(HEIGHT) + 0.5)[None, :, None] - centre_y[:, None, None]
    x = (torch.arange(WIDTH) + 0.5)[None, None, :] - centre_x[:, None, None]
    return torch.stack([x / focal * depth, y / focal * depth, depth], dim=-1)


GEOMETRY = [Task("depth", "depth"), Task("normals", "normals")]
NORMALS = [(0.0, 0.0, -1.0), (0.5, 0.0, -0.8660254), (0.4, -0.3, -0.8660254)]


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("scale", [0.6, 0.8])
@pytest.mark.parametrize(("top", "left"), [(0.0, 0.0), (0.5, 0.5), (1.0, 0.3)])
def test_a_cropped_plane_is_a_plane_of_its_labelled_normals(
    normal: tuple[float, float, float], scale: float, top: float, left: float
) -> None:
    targets = plane(torch.tensor(normal))
    window = torch.tensor([scale]), torch.tensor([[top, left]])
    _, seen = crop(torch.zeros(1, 3, HEIGHT, WIDTH), targets, GEOMETRY, *window)
    centre_y = torch.tensor([(HEIGHT / 2 - top * (1 - scale) * HEIGHT) / scale])
    centre_x = torch.tensor([(WIDTH / 2 - left * (1 - scale) * WIDTH) / scale])
    places = points(seen["depth"], centre_y, centre_x, FOCAL / scale)
    distance = -(places * seen["normals"]).sum(dim=-1)
    # The nearest pixel is up to half a pixel off, in x and in y.
    torch.testing.assert_close(distance, torch.full_like(distance, scale * DISTANCE), rtol=1.5 / FOCAL, atol=0)
    if normal == NORMALS[0]:
        assert (seen["depth"] == targets["depth"][:, :1, :1] * scale).all()


@pytest.mark.parametrize("normal", NORMALS)
def test_a_flipped_plane_is_the_mirrored_plane(normal: tuple[float, float, float]) -> None:
    targets = plane(torch.tensor(normal))
    mirrored = plane(torch.tensor(normal) * torch.tensor([-1.0, 1.0, 1.0]))
    _, seen = flip(torch.zeros(1, 3, HEIGHT, WIDTH), targets, GEOMETRY, torch.tensor([True]))
    torch.testing.assert_close(seen, mirrored)


def test_flipping_twice_changes_nothing() -> None:
    split = arrays()["val"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float() / 255
    chosen = torch.arange(len(images)) % 3 == 0
    again_images, again = flip(*flip(images, targets, TASKS, chosen), TASKS, chosen)
    assert torch.equal(again_images, images)
    assert all(torch.equal(again[name], target) for name, target in targets.items())


def test_colour_changes_the_images_alone_and_no_other_draw() -> None:
    split = arrays()["train"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float() / 255
    coloured_images, coloured = augmented((images, targets), TASKS, ["colour"], torch.Generator().manual_seed(0))
    assert all(torch.equal(coloured[name], target) for name, target in targets.items())
    assert ((coloured_images - images).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    shaped, shaped_coloured = (
        augmented((images, targets), TASKS, names, torch.Generator().manual_seed(0))
        for names in (["crop", "flip"], ["colour", "crop", "flip"])
    )
    assert all(torch.equal(shaped[1][name], shaped_coloured[1][name]) for name in targets)
    assert not torch.equal(shaped[0], shaped_coloured[0])


def test_scale_crop_enlarges_by_one_of_three_factors_that_are_equally_likely() -> None:
    """A wall at 1 m is nearer by the factor, and a ramp is as much flatter."""
    count, width = 600, 48
    ramp = torch.arange(width).float().expand(count, 3, 32, width)
    targets = {"depth": torch.ones(count, 32, width), "normals": torch.ones(count, 32, width, 3)}
    images, seen = augmented((ramp, targets), GEOMETRY, ["scale_crop"], torch.Generator().manual_seed(0))
    factors = 1 / seen["depth"][:, 0, 0]
    torch.testing.assert_close(seen["depth"], (1 / factors)[:, None, None].expand_as(seen["depth"]))
    for factor in (1.0, 1.2, 1.5):
        chosen = (factors - factor).abs() < 1e-5
        assert chosen.sum().item() == pytest.approx(count / 3, abs=45)  # 4 standard deviations
        slope = images[chosen, 0, 0, width // 2 + 1] - images[chosen, 0, 0, width // 2]
        torch.testing.assert_close(slope, torch.full_like(slope, 1 / factor), rtol=1e-3, atol=0)
    assert torch.equal(seen["normals"], targets["normals"])


def test_augmentation_is_of_the_generator_alone() -> None:
    split = arrays()["train"]
    targets = {task.name: torch.from_numpy(split[task.name]) for task in TASKS}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float() / 255
    runs = []
    for seed, global_seed in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(global_seed)
        runs.append(
            augmented((images, targets), TASKS, ["crop", "flip", "colour"], torch.Generator().manual_seed(seed))
        )
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in targets)
    assert not torch.equal(runs[0][0], runs[2][0])
    assert augmented((images, targets), TASKS, [], torch.Generator())[0] is images

"""Changes to training images that keep their labels true; every sample of a batch is changed on its own.

Images are (N, 3, H, W) in [0, 1]; targets are as `mtl.tasks` fixes them, behind a leading N. The random numbers are
drawn on the CPU (`draw`), so that they are the same on every device, and the work is done where the images are.
"""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.datasets.batches.colour import jitter_colour
from mtl.datasets.batches.enlarge import enlarge, window_positions
from mtl.tasks import IGNORE, Task

# The side of the smallest window that `crop` enlarges, as a share of the image's.
SMALLEST_WINDOW = 0.6
# How many times `scale_crop` enlarges, each as likely: what LibMTL and those who compare with MTAN do on NYU-v2. Theirs
# interpolates normals, which are then no unit vectors; ours takes the nearest.
MTAN_SCALES = (1.0, 1.2, 1.5)
CPU = torch.device("cpu")

Batch = tuple[Tensor, dict[str, Tensor]]
# What was drawn for one batch, by name: "scale" (N,), "place" (N, 2), "flipped" (N,) bool, "light" (N, 4).
Drawn = Mapping[str, Tensor]


def draw(names: Sequence[str], count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The random numbers of the augmentations named for `count` samples, in a fixed order, on the CPU."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    drawn = {}
    if "crop" in names:
        drawn["scale"] = SMALLEST_WINDOW + (1 - SMALLEST_WINDOW) * uniform(count)
        drawn["place"] = uniform(count, 2)
    if "scale_crop" in names:
        scales = torch.tensor(MTAN_SCALES)
        drawn["scale"] = 1 / scales[(uniform(count) * len(scales)).long().clamp(max=len(scales) - 1)]
        drawn["place"] = uniform(count, 2)
    if "flip" in names:
        drawn["flipped"] = uniform(count) < 0.5
    if "colour" in names:
        drawn["light"] = uniform(count, 4)
    return drawn


def augment(batch: Batch, tasks: Sequence[Task], drawn: Drawn) -> Batch:
    """Apply to a batch the augmentations whose numbers were drawn, which lie on its device. May write to the batch."""
    images, targets = batch
    if "scale" in drawn:
        images, targets = crop(images, targets, tasks, drawn["scale"], drawn["place"])
    if "flipped" in drawn:
        mirror = flip_in_place if images.device.type == "cpu" else flip_without_waiting
        images, targets = mirror(images, targets, tasks, drawn["flipped"])
    if "light" in drawn:
        images = jitter_colour(images, drawn["light"])
    return images, targets


def flip(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], chosen: Tensor) -> Batch:
    """Mirror the chosen images, (N,) bool, left to right with all their targets; the normals' x turns its sign.

    Numbers of the whole image stay, but for points, which move and change places with their partners.
    """
    if chosen.device.type == "cpu":
        return flip_in_place(images.clone(), {name: x.clone() for name, x in targets.items()}, tasks, chosen)
    return flip_without_waiting(images, targets, tasks, chosen)


def flip_without_waiting(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], chosen: Tensor) -> Batch:
    """`flip` that mirrors everything and takes what was chosen, so that nobody need know what that is."""

    def mirrored(x: Tensor, dim: int, sign: Tensor | None = None) -> Tensor:
        flipped = x.flip(dim) if sign is None else x.flip(dim).mul_(sign)
        return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), flipped, x)

    flipped = dict(targets)
    for task in tasks:
        if task.dense:
            sign = _mirrored_normal(chosen.device) if task.kind == "normals" else None
            flipped[task.name] = mirrored(targets[task.name], 2, sign)
        if task.mirrored:  # a left eye is then a right one
            partners = _partners(task.mirrored, chosen.device)[flipped[task.name].long()]
            flipped[task.name] = torch.where(chosen.view(-1, 1, 1), partners, flipped[task.name])
        if task.points:
            points = _mirrored_points(task, targets[task.name])
            flipped[task.name] = torch.where(chosen[:, None], points, flipped[task.name])
    return mirrored(images, 3), flipped


def flip_in_place(images: Tensor, targets: dict[str, Tensor], tasks: Sequence[Task], chosen: Tensor) -> Batch:
    """`flip` that touches only what was chosen. A GPU would have to wait for the choice; a CPU is ten times as fast."""
    for sample in chosen.nonzero().flatten().tolist():
        images[sample] = images[sample].flip(2)
        for task in tasks:
            if task.dense:
                targets[task.name][sample] = targets[task.name][sample].flip(1)
            if task.kind == "normals":
                targets[task.name][sample, ..., 0].neg_()
            if task.mirrored:
                targets[task.name][sample] = _partners(task.mirrored, CPU)[targets[task.name][sample].long()]
            if task.points:
                targets[task.name][sample] = _mirrored_points(task, targets[task.name][sample : sample + 1])[0]
    return images, targets


def crop(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], scale: Tensor, place: Tensor) -> Batch:
    """Enlarge a window of each image to the whole: bilinear for the image, the nearest pixel for its targets.

    scale: (N,) in (0, 1], the window's side as a share of the image's. place: (N, 2) in [0, 1], where it lies between
    the top and the bottom, the left and the right. What is enlarged looks nearer: depth is multiplied by the scale, and
    disparity divided by it. Points that are outside the window have no label.

    Depth and normals stay those of one scene: of the same, scaled as a whole, seen by a camera whose focal length is
    divided by the scale. With the focal length as it was the depths would be those of a scene flattened along the axis.
    """
    count, _, height, width = images.shape
    rows = window_positions(height, scale, place[:, 0])
    columns = window_positions(width, scale, place[:, 1])
    first_rows = torch.arange(0, count * height, height, device=images.device)[:, None]
    nearest = ((first_rows + rows.round().long())[:, :, None] * width + columns.round().long()[:, None, :]).flatten()
    cropped = dict(targets)
    for task in tasks:
        if task.dense:
            pixels = targets[task.name].flatten(0, 2)
            target = pixels.index_select(0, nearest).view(targets[task.name].shape)
            factor = {"depth": scale, "disparity": 1 / scale}.get(task.kind)
            cropped[task.name] = target if factor is None else target * factor[:, None, None]
        elif task.points:
            points = targets[task.name].view(count, -1, 2)
            # x comes first in a point, and last in `place`.
            moved = (points - (place.flip(1) * (1 - scale[:, None]))[:, None]) / scale[:, None, None]
            inside = ((moved >= 0) & (moved <= 1)).all(dim=-1, keepdim=True)
            cropped[task.name] = torch.where(inside, moved, torch.nan).flatten(1)
    return enlarge(images, rows, columns), cropped


def _mirrored_points(task: Task, target: Tensor) -> Tensor:
    """(N, 2 points), x and y in turn, in the image mirrored left to right."""
    points = target.view(len(target), -1, 2)[:, list(task.points)]
    return torch.stack([1 - points[..., 0], points[..., 1]], dim=-1).flatten(1)


@functools.lru_cache(maxsize=16)
def _mirrored_normal(device: torch.device) -> Tensor:
    """(3,) what a normal is multiplied by in a mirrored image; once on a device it need not be sent for each batch."""
    with torch.inference_mode(False):
        return torch.tensor([-1.0, 1.0, 1.0]).to(device)


@functools.lru_cache(maxsize=64)
def _partners(mirrored: tuple[int, ...], device: torch.device) -> Tensor:
    """For each class, by number, that in a mirrored image; once on a device it need not be sent for each batch."""
    with torch.inference_mode(False):
        classes = torch.arange(IGNORE + 1, dtype=torch.uint8)
        classes[: len(mirrored)] = torch.tensor(mirrored, dtype=torch.uint8)
        return classes.to(device)

"""Changes to training images that keep their labels true; every sample of a batch is changed on its own.

Images are (N, 3, H, W) in [0, 1]; targets are as `mtl.tasks` fixes them, behind a leading N.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.datasets.batches.colour import jitter_colour
from mtl.tasks import IGNORE, Task

# The side of the smallest window that `crop` enlarges, as a share of the image's.
SMALLEST_WINDOW = 0.6
# How many times `scale_crop` enlarges, each as likely: what LibMTL and those who compare with MTAN do on NYU-v2. Theirs
# interpolates normals, which are then no unit vectors; ours takes the nearest.
MTAN_SCALES = (1.0, 1.2, 1.5)

Batch = tuple[Tensor, dict[str, Tensor]]


def augment(batch: Batch, tasks: Sequence[Task], names: Sequence[str], generator: torch.Generator) -> Batch:
    """Apply the augmentations named to a batch, in a fixed order; on any device the same draws of a CPU generator."""
    images, targets = batch
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(images.device)

    if "crop" in names:
        scale = SMALLEST_WINDOW + (1 - SMALLEST_WINDOW) * draw(count)
        images, targets = crop(images, targets, tasks, scale, draw(count, 2))
    if "scale_crop" in names:
        scales = torch.tensor(MTAN_SCALES, device=images.device)
        chosen = (draw(count) * len(scales)).long().clamp(max=len(scales) - 1)
        images, targets = crop(images, targets, tasks, 1 / scales[chosen], draw(count, 2))
    if "flip" in names:
        images, targets = flip(images, targets, tasks, draw(count) < 0.5)
    if "colour" in names:
        images = jitter_colour(images, draw(count, 4))
    return images, targets


def flip(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], chosen: Tensor) -> Batch:
    """Mirror the chosen images, (N,) bool, left to right with all their targets; the normals' x turns its sign.

    Numbers of the whole image stay, but for points, which move and change places with their partners.
    """

    def mirrored(x: Tensor, dim: int) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), x.flip(dim), x)

    flipped = dict(targets)
    for task in tasks:
        if task.dense:
            flipped[task.name] = mirrored(targets[task.name], 2)
        if task.kind == "normals":
            sign = torch.ones(len(chosen), 1, 1, 3, device=chosen.device)
            sign[..., 0] -= 2 * chosen.view(-1, 1, 1)
            flipped[task.name] = flipped[task.name] * sign
        if task.mirrored:  # a left eye is then a right one
            classes = torch.arange(IGNORE + 1, device=chosen.device, dtype=torch.uint8)
            classes[: len(task.mirrored)] = torch.tensor(task.mirrored, dtype=torch.uint8)
            partners = classes[flipped[task.name].long()]
            flipped[task.name] = torch.where(chosen.view(-1, 1, 1), partners, flipped[task.name])
        if task.points:
            flipped[task.name] = torch.where(
                chosen[:, None], _mirrored_points(task, targets[task.name]), flipped[task.name]
            )
    return mirrored(images, 3), flipped


def crop(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], scale: Tensor, place: Tensor) -> Batch:
    """Enlarge a window of each image to the whole: bilinear for the image, the nearest pixel for its targets.

    scale: (N,) in (0, 1], the window's side as a share of the image's. place: (N, 2) in [0, 1], where it lies between
    the top and the bottom, the left and the right. What is enlarged looks nearer: depth is multiplied by the scale, and
    disparity divided by it. Points that are outside the window have no label.

    Depth and normals stay those of one scene: of the same, scaled as a whole, seen by a camera whose focal length is
    divided by the scale. With the focal length as it was the depths would be those of a scene flattened along the axis.
    """
    height, width = images.shape[2:]
    rows = _positions(height, scale, place[:, 0])
    columns = _positions(width, scale, place[:, 1])
    enlarged = _weights(rows, height) @ images.contiguous() @ _weights(columns, width).transpose(2, 3)
    cropped = dict(targets)
    for task in tasks:
        if task.dense:
            sample = torch.arange(len(images), device=images.device)[:, None, None]
            target = targets[task.name][sample, rows.round().long()[:, :, None], columns.round().long()[:, None, :]]
            factor = {"depth": scale, "disparity": 1 / scale}.get(task.kind)
            cropped[task.name] = target if factor is None else target * factor[:, None, None]
        elif task.points:
            points = targets[task.name].view(len(images), -1, 2)
            # x comes first in a point, and last in `place`.
            moved = (points - (place.flip(1) * (1 - scale[:, None]))[:, None]) / scale[:, None, None]
            inside = ((moved >= 0) & (moved <= 1)).all(dim=-1, keepdim=True)
            cropped[task.name] = torch.where(inside, moved, torch.nan).flatten(1)
    return enlarged.contiguous(memory_format=torch.channels_last), cropped


def _mirrored_points(task: Task, target: Tensor) -> Tensor:
    """(N, 2 points), x and y in turn, in the image mirrored left to right."""
    points = target.view(len(target), -1, 2)[:, list(task.points)]
    return torch.stack([1 - points[..., 0], points[..., 1]], dim=-1).flatten(1)


def _positions(side: int, scale: Tensor, place: Tensor) -> Tensor:
    """(N, side): where in the source, in pixels, each pixel of the enlarged window looks."""
    start = place * (1 - scale) * side
    cell = (torch.arange(side, device=scale.device) + 0.5) * scale[:, None]
    return (start[:, None] + cell - 0.5).clamp(0, side - 1)


def _weights(positions: Tensor, side: int) -> Tensor:
    """(N, 1, side, side): the matrices that interpolate linearly at the positions."""
    return (1 - (positions[:, :, None] - torch.arange(side, device=positions.device)).abs()).clamp(min=0)[:, None]

"""Synthetic furnished rooms, rendered from a seed: no files, and exact labels for every pixel.

Labels are those of the ray through the pixel's centre. Depth is z-depth in metres, along the optical axis and not
along the ray (as in NYU-v2). Normals are unit vectors in the camera's frame: x right, y up, z backwards, so that a
surface which faces the camera squarely has normal (0, 0, 1), and every visible one a positive dot product with the
direction to the camera. Mirroring an image left to right thus mirrors its labels and negates the normals' x.

Two more tasks are there where they are asked for, to try their kinds: `edges`, the pixels whose right or lower
neighbour shows another part of the scene (a wall, a table's leg, a lamp's shade), whatever its texture; and `pitch`,
how many degrees the camera looks up, a regression.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.rooms.furniture import TEXTURES
from mtl.datasets.rooms.raycast import Floats, is_blocked, nearest_hits, rotate_yaw
from mtl.datasets.rooms.scene import CLASSES, Camera, Scene, Surfaces, draw_scene
from mtl.errors import BadInput
from mtl.tasks import Task

# Goes up whenever a scene's pixels or labels change; it is part of every scene's seed.
VERSION = 1
MOST_SCENES = 10_000_000  # which take a month to render
TRAIN_SCENES, VAL_SCENES, TEST_SCENES = 320, 96, 160

# Rays are cast in batches of this many, to bound the memory that a large image takes.
_RAY_BATCH = 4096
# Shadow rays start this far off the surface, so that rounding does not make it shade itself.
_SHADOW_OFFSET_METRES = 1e-3
_LATTICE = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)


EDGES = Task("edges", "edges")
# The camera looks between 29° down and 3° up.
PITCH = Task("pitch", "regression", unit="°", scale=10.0)


class Rooms(Dataset):
    """`train`, `val` and `test` scenes; a scene depends on its split and index alone, not on how many there are.

    edges, pitch: whether there are these tasks, too. The others are the same with and without them.
    """

    name = "rooms"
    tasks: Mapping[str, Task] = {
        "segmentation": Task("segmentation", "segmentation", CLASSES),
        "depth": Task("depth", "depth"),
        "normals": Task("normals", "normals"),
    }

    def __init__(
        self,
        train: int = TRAIN_SCENES,
        val: int = VAL_SCENES,
        test: int = TEST_SCENES,
        edges: bool = False,
        pitch: bool = False,
    ) -> None:
        for option, value in (("edges", edges), ("pitch", pitch)):
            if not isinstance(value, bool):
                raise BadInput(f"rooms: {option} is {value!r}; allowed: true, false")
        self._more = {EDGES.name: EDGES} if edges else {}
        self._more |= {PITCH.name: PITCH} if pitch else {}
        self.tasks = {**type(self).tasks, **self._more}
        self._sizes: dict[Split, int] = {"train": train, "val": val, "test": test}
        for split, size in self._sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MOST_SCENES:
                raise BadInput(
                    f"rooms: the {split} split cannot have {size!r} scenes; allowed: a number, 0 to {MOST_SCENES:,}"
                )

    def fingerprint(self) -> str:
        counts = "-".join(f"{split}{size}" for split, size in self._sizes.items())
        return "-".join([f"rooms-v{VERSION}-{counts}", *self._more])

    def size(self, split: Split) -> int:
        return self._sizes[split]

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        """Renders one scene at (height, width)."""
        if not 0 <= index < self._sizes[split]:
            raise IndexError(f"rooms: no scene {index} in {split}, which has {self._sizes[split]}")
        if min(image_size) < 1:
            raise BadInput(f"rooms: image_size is {image_size}; height and width must be 1 or more")
        scene_seed, sensor_seed = SeedSequence((VERSION, SPLITS.index(split), index)).spawn(2)
        scene = draw_scene(np.random.default_rng(scene_seed))
        sample = render(scene, image_size, np.random.default_rng(sensor_seed))
        more: dict[str, NDArray] = {}
        if EDGES.name in self._more:
            more[EDGES.name] = part_edges(scene, image_size)
        if PITCH.name in self._more:
            more[PITCH.name] = camera_pitch(scene.camera)
        return Sample(sample.image, {**sample.targets, **more})


def render(scene: Scene, image_size: tuple[int, int], sensor: Generator) -> Sample:
    """A photograph of a scene at (height, width), with the sensor's noise and settings drawn from `sensor`."""
    origin, direction = pixel_rays(scene.camera, image_size)
    rays = direction.shape[1]
    radiance, normals = np.empty((rays, 3), dtype=np.float32), np.empty((rays, 3), dtype=np.float32)
    depth, labels = np.empty(rays, dtype=np.float32), np.empty(rays, dtype=np.uint8)
    for start in range(0, rays, _RAY_BATCH):
        batch = slice(start, start + _RAY_BATCH)
        hits = nearest_hits(origin, direction[:, batch], scene.groups)
        depth[batch], labels[batch] = hits.distance, scene.surfaces.label[hits.shape]
        # einsum rather than matmul: BLAS may round a pixel differently depending on how many come with it.
        normals[batch] = np.einsum("wc,wr->rc", scene.camera.rotation, hits.normal)
        points = origin[:, np.newaxis] + hits.distance * direction[:, batch]
        radiance[batch] = _shade(scene, points, hits.normal, hits.shape).T
    return Sample(
        _expose(radiance.reshape(*image_size, 3), sensor),
        {
            "segmentation": labels.reshape(image_size),
            "depth": depth.reshape(image_size),
            "normals": normals.reshape(*image_size, 3),
        },
    )


def part_edges(scene: Scene, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W), 1 where the right or the lower neighbour shows another part of the scene, else 0."""
    origin, direction = pixel_rays(scene.camera, image_size)
    starts = range(0, direction.shape[1], _RAY_BATCH)
    hits = [nearest_hits(origin, direction[:, start : start + _RAY_BATCH], scene.groups).shape for start in starts]
    parts = np.concatenate(hits).reshape(image_size)
    edges = np.zeros(image_size, np.uint8)
    edges[:, :-1] |= parts[:, :-1] != parts[:, 1:]
    edges[:-1] |= parts[:-1] != parts[1:]
    return edges


def camera_pitch(camera: Camera) -> NDArray[np.float32]:
    """How many degrees the optical axis points up, ()."""
    return np.array(np.degrees(np.arcsin(-float(camera.rotation[1, 2]))), np.float32)


def pixel_rays(camera: Camera, image_size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Origin (3,) and directions (3, H * W) of the rays through pixel centres, row by row, in world components.

    Directions advance by 1 along the optical axis, which makes the t of a hit its z-depth. Pixels are square: the
    focal length is relative to half of the shorter side, in both directions.
    """
    height, width = image_size
    pixels_per_unit = camera.focal * min(image_size) / 2
    x = (np.arange(width) + 0.5 - width / 2) / pixels_per_unit
    y = (height / 2 - 0.5 - np.arange(height)) / pixels_per_unit
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    local = np.stack([grid_x.ravel(), grid_y.ravel(), np.full(height * width, -1.0)]).astype(camera.rotation.dtype)
    return camera.position, np.einsum("wc,cr->wr", camera.rotation, local)


def _shade(scene: Scene, points: Floats, normals: Floats, index: NDArray[np.integer]) -> Floats:
    """Linear RGB radiance (3, R): what the surface gives off, plus its Lambertian share of the light it receives."""
    received = np.full_like(points, scene.lights.ambient) * (0.85 + 0.15 * normals[1])
    for position, color in zip(scene.lights.position, scene.lights.color, strict=True):
        from_light = points + _SHADOW_OFFSET_METRES * normals - position[:, np.newaxis]
        distance = np.sqrt((from_light**2).sum(axis=0))
        cosine = -(normals * from_light).sum(axis=0) / distance
        (facing,) = np.nonzero(cosine > 0)
        reached = facing[~is_blocked(position, from_light[:, facing], scene.solids)]
        received[:, reached] += color[:, np.newaxis] * (cosine[reached] / (1 + distance[reached] ** 2))
    return _reflectance(scene.surfaces, points, index) * (received + scene.surfaces.glow[index])


def _reflectance(surfaces: Surfaces, points: Floats, index: NDArray[np.integer]) -> Floats:
    """The material's colour (3, R) at points (3, R), each on the surface of its index."""
    local = rotate_yaw(points - surfaces.center[:, index], -surfaces.yaw[index])
    cells = local * surfaces.frequency[:, index] + surfaces.phase[:, index]
    noise = _value_noise(cells)
    textures = {"plain": 0.15 * noise, "tiles": np.floor(cells).sum(axis=0) % 2, "noise": noise, "wood": 3 * noise % 1}
    accent = np.choose(surfaces.texture[index], [textures[name] for name in TEXTURES])
    color = surfaces.color[:, index]
    return color + accent * (surfaces.accent[:, index] - color)


def _value_noise(cells: Floats) -> Floats:
    """Smooth noise in 0..1 (R,) at points (3, R), one random value per unit cell corner, repeating after 16 cells."""
    corner = np.floor(cells).astype(np.intp)
    within = cells - corner
    within = within * within * (3 - 2 * within)
    weights, indices = (1 - within, within), (corner % 16, (corner + 1) % 16)
    noise = np.zeros_like(cells[0])
    for x, y, z in product((0, 1), repeat=3):
        value = _LATTICE[indices[x][0], indices[y][1], indices[z][2]]
        noise += weights[x][0] * weights[y][1] * weights[z][2] * value
    return noise


def _expose(radiance: Floats, sensor: Generator) -> NDArray[np.uint8]:
    """8-bit sRGB-like image (H, W, 3): random exposure, white balance and noise, soft highlights, gamma."""
    exposure = sensor.uniform(0.35, 0.9) / max(float(radiance.mean()), 1e-6)
    gain = (exposure * sensor.uniform(0.85, 1.15, 3)).astype(np.float32)
    film = (1 - np.exp(-gain * radiance)) ** (1 / 2.2)
    noise = sensor.uniform(0.005, 0.025) * sensor.standard_normal(radiance.shape, dtype=np.float32)
    return np.rint(255 * np.clip(film + noise, 0, 1)).astype(np.uint8)

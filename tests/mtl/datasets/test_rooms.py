"""Ray intersections against closed forms and implicit surfaces; scenes and renderings against their conventions."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.rooms.dataset import Rooms, pixel_rays, render
from mtl.datasets.rooms.raycast import (
    Boxes,
    Cylinders,
    Floats,
    Indices,
    Rectangles,
    S,
    Shapes,
    Spheres,
    is_blocked,
    nearest_hits,
    rotate_yaw,
)
from mtl.datasets.rooms.scene import CLASSES, Camera, Scene, Spot, draw_scene, spots_overlap
from mtl.errors import BadInput

CENTER = np.array([[0.3], [-0.2], [0.1]])
BOX = Boxes(CENTER, np.array([[0.5], [0.8], [0.3]]), np.array([0.6]))
CYLINDER = Cylinders(CENTER, np.array([0.5]), np.array([0.7]))
SPHERE = Spheres(CENTER, np.array([0.6]))
RECTANGLE = Rectangles(CENTER, np.array([[0.6], [0.0], [0.8]]), np.array([[0.0], [1.5], [0.0]]))


def box_distance(points: Floats) -> Floats:
    """Signed distance (R,) to the surface of BOX; likewise below for the others."""
    beyond = np.abs(rotate_yaw(points - BOX.center, -BOX.yaw)) - BOX.half
    return np.linalg.norm(np.maximum(beyond, 0), axis=0) + np.minimum(beyond.max(axis=0), 0)


def cylinder_distance(points: Floats) -> Floats:
    x, y, z = points - CYLINDER.center
    beyond = np.stack([np.hypot(x, z) - CYLINDER.radius, np.abs(y) - CYLINDER.half_height])
    return np.linalg.norm(np.maximum(beyond, 0), axis=0) + np.minimum(beyond.max(axis=0), 0)


def sphere_distance(points: Floats) -> Floats:
    return np.linalg.norm(points - SPHERE.center, axis=0) - SPHERE.radius


SOLIDS = pytest.mark.parametrize(
    ("solid", "signed_distance"),
    [(BOX, box_distance), (CYLINDER, cylinder_distance), (SPHERE, sphere_distance)],
    ids=["box", "cylinder", "sphere"],
)


def rays_around(count: int) -> tuple[Floats, Floats]:
    """Rays (3, R) from a sphere of radius 3 towards points about the shapes; some miss. Not unit vectors."""
    rng = np.random.default_rng(0)
    origin = rng.normal(size=(3, count))
    origin *= 3 / np.linalg.norm(origin, axis=0)
    return origin, (rng.uniform(-1.2, 1.2, (3, count)) - origin) * rng.uniform(0.5, 2, count)


def march(signed_distance: Callable[[Floats], Floats], origin: Floats, direction: Floats) -> Floats:
    """Distance along unit directions by sphere tracing; what has gone beyond 10 has missed."""
    t = np.zeros(direction.shape[1])
    for _ in range(2000):
        t += np.where(t < 10, signed_distance(origin + t * direction), 0)
    return t


def gradient(signed_distance: Callable[[Floats], Floats], points: Floats, step: float = 1e-5) -> Floats:
    shifts = step * np.eye(3)[:, :, np.newaxis]
    return np.stack([signed_distance(points + s) - signed_distance(points - s) for s in shifts]) / (2 * step)


@SOLIDS
def test_solid_agrees_with_sphere_tracing(solid: Boxes, signed_distance: Callable[[Floats], Floats]) -> None:
    origin, direction = rays_around(400)
    unit = direction / np.linalg.norm(direction, axis=0)
    marched = march(signed_distance, origin, unit)
    t = solid.distance(origin, unit)
    hit = np.isfinite(t)
    assert 80 < hit.sum() < 390
    assert np.array_equal(hit, marched < 10)
    np.testing.assert_allclose(t[hit], marched[hit], atol=1e-5)


@SOLIDS
def test_solid_normal_is_the_gradient_of_signed_distance(
    solid: Boxes, signed_distance: Callable[[Floats], Floats]
) -> None:
    origin, direction = rays_around(3000)
    t = solid.distance(origin, direction)
    hit = np.isfinite(t)
    origin, direction, t = origin[:, hit], direction[:, hit], t[hit]
    normal = solid.normal(origin, direction)
    points = origin + t * direction
    np.testing.assert_allclose(signed_distance(points), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-9)
    assert (np.einsum("cr,cr->r", normal, direction) <= 0).all()
    slope = gradient(signed_distance, points)
    smooth = np.abs(np.linalg.norm(slope, axis=0) - 1) < 1e-6  # not where an edge is within the step
    assert smooth.mean() > 0.99
    np.testing.assert_allclose(normal[:, smooth], slope[:, smooth], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_closed_forms(dtype: type) -> None:
    """Rays along the axes, whose zero components are the hard case of slabs and of upright cylinders."""
    centered: Floats = np.zeros((3, 1), dtype)
    box = Boxes(centered, np.array([[1], [2], [3]], dtype), np.zeros(1, dtype))
    cylinder = Cylinders(centered, np.ones(1, dtype), np.full(1, 2, dtype))
    sphere = Spheres(centered, np.full(1, 2, dtype))
    origin: Floats = 5 * np.eye(3, dtype=dtype)
    towards: Floats = -np.eye(3, dtype=dtype)
    for solid, expected in ((box, (4, 3, 2)), (cylinder, (4, 3, 4)), (sphere, (3, 3, 3))):
        np.testing.assert_allclose(solid.distance(origin, towards), expected, rtol=1e-6)
        np.testing.assert_allclose(solid.normal(origin, towards), -towards, atol=1e-6)
        assert np.isinf(solid.distance(origin, -towards)).all()  # behind the origin
        assert np.isinf(solid.distance(centered, towards)).all()  # from inside
        assert np.isinf(solid.distance(origin + dtype(3.5) * np.roll(towards, 1, axis=0), towards)).all()
        assert solid.distance(origin, towards).dtype == dtype


def test_yaw_turns_z_towards_x() -> None:
    quarter = np.array([np.pi / 2])
    np.testing.assert_allclose(rotate_yaw(np.array([[0.0], [0.0], [1.0]]), quarter), [[1], [0], [0]], atol=1e-12)
    turned = Boxes(np.zeros((3, 1)), np.array([[1.0], [2.0], [3.0]]), quarter)
    origin = 5 * np.eye(3)
    np.testing.assert_allclose(turned.distance(origin, -np.eye(3)), (2, 3, 4))


def test_rectangle_points_lie_on_it_and_misses_beyond_its_edges() -> None:
    origin, direction = rays_around(2000)
    t = RECTANGLE.distance(origin, direction)
    hit = np.isfinite(t)
    assert 0.1 < hit.mean() < 0.9
    points = (origin + t * direction)[:, hit] - RECTANGLE.center
    plane_normal = np.array([-0.8, 0, 0.6])
    np.testing.assert_allclose(plane_normal @ points, 0, atol=1e-9)
    assert (np.abs(RECTANGLE.u[:, 0] @ points) <= 1 + 1e-9).all()  # |u| is 1 and |v| is 1.5
    assert (np.abs(RECTANGLE.v[:, 0] @ points) <= 1.5**2 + 1e-9).all()
    normal = RECTANGLE.normal(origin, direction)
    np.testing.assert_allclose(np.abs(plane_normal @ normal), 1)
    assert (np.einsum("cr,cr->r", normal, direction) < 0).all()
    missed_plane_t = (plane_normal @ (RECTANGLE.center - origin)) / (plane_normal @ direction)
    outside = origin + missed_plane_t * direction - RECTANGLE.center
    beyond = np.maximum(np.abs(RECTANGLE.u[:, 0] @ outside), np.abs(RECTANGLE.v[:, 0] @ outside) / 1.5**2) > 1
    assert np.array_equal(~hit, beyond | (missed_plane_t <= 0))


def random_shapes(rng: np.random.Generator, count: int) -> tuple[Boxes, Cylinders, Spheres, Rectangles]:
    def centers() -> Floats:
        return rng.uniform(-3, 3, (3, count))

    u = rotate_yaw(np.array([[1.0], [0.0], [0.0]]), rng.uniform(0, 6, count))
    v = np.array([[0.0], [0.7], [0.0]]).repeat(count, axis=1)
    return (
        Boxes(centers(), rng.uniform(0.1, 0.5, (3, count)), rng.uniform(0, 6, count)),
        Cylinders(centers(), rng.uniform(0.1, 0.5, count), rng.uniform(0.1, 0.5, count)),
        Spheres(centers(), rng.uniform(0.1, 0.5, count)),
        Rectangles(centers(), u, v),
    )


def select(shapes: S, index: Indices) -> S:
    return type(shapes)(*(field[..., index] for field in shapes))


@pytest.mark.parametrize("spread", [0.05, 0.5, 5.0])
def test_nearest_hits_is_the_first_of_all_shapes(spread: float) -> None:
    """Also tests the cull: rays in a narrow cone, in a wide one and all around meet what one by one they meet."""
    rng = np.random.default_rng(1)
    groups: tuple[Shapes, ...] = random_shapes(rng, 12)
    origin = np.array([0.1, 0.2, 0.3])
    direction = np.array([[0.5], [0.3], [1.0]]) + rng.normal(0, spread, (3, 600))
    hits = nearest_hits(origin, direction, groups)
    one_by_one = np.stack(
        [
            select(group, np.array([shape])).distance(origin[:, np.newaxis], direction)
            for group in groups
            for shape in range(12)
        ]
    )
    nearest = one_by_one.min(axis=0)
    hit = np.isfinite(nearest)
    assert hit.any()
    np.testing.assert_array_equal(hits.distance, nearest)
    np.testing.assert_array_equal(hits.shape[hit], one_by_one.argmin(axis=0)[hit])
    assert np.array_equal(is_blocked(origin, 2 * direction, groups), nearest / 2 < 1)
    for first, group in enumerate(groups):
        rays = np.nonzero(hit & (hits.shape // 12 == first))[0]
        own = select(group, hits.shape[rays] % 12)
        expected = own.normal(origin[:, np.newaxis], direction[:, rays])
        np.testing.assert_allclose(hits.normal[:, rays], expected, atol=1e-12)


@pytest.fixture(scope="module")
def dataset() -> Rooms:
    return Rooms()


@pytest.fixture(scope="module")
def samples(dataset: Rooms) -> list[Sample]:
    return [dataset.read("train", index, (48, 48)) for index in range(80)]


def scene(index: int) -> Scene:
    return draw_scene(np.random.default_rng(index))


def same(first: Sample, second: Sample) -> bool:
    return first.image.tobytes() == second.image.tobytes() and all(
        first.targets[task].tobytes() == second.targets[task].tobytes() for task in first.targets
    )


@pytest.mark.parametrize("image_size", [(64, 64), (40, 72), (72, 40), (1, 1)])
def test_arrays_have_the_shapes_and_types_of_their_tasks(dataset: Rooms, image_size: tuple[int, int]) -> None:
    sample = dataset.read("val", 3, image_size)
    assert sample.image.shape == (*image_size, 3)
    assert sample.image.dtype == np.uint8
    assert set(sample.targets) == set(dataset.tasks)
    arrays = {task: (target.shape, target.dtype) for task, target in sample.targets.items()}
    assert arrays == {
        "segmentation": (image_size, np.dtype(np.uint8)),
        "depth": (image_size, np.dtype(np.float32)),
        "normals": ((*image_size, 3), np.dtype(np.float32)),
    }


def test_the_shorter_side_fixes_the_view(dataset: Rooms) -> None:
    """A wide image shows what the square one shows, and more at its sides; likewise a tall one."""
    square = dataset.read("val", 3, (40, 40)).targets
    wide, tall = dataset.read("val", 3, (40, 72)).targets, dataset.read("val", 3, (72, 40)).targets
    for task in square:
        np.testing.assert_allclose(wide[task][:, 16:-16], square[task], atol=1e-4)
        np.testing.assert_allclose(tall[task][16:-16], square[task], atol=1e-4)


def test_a_scene_is_the_same_bytes_in_any_order_and_company(dataset: Rooms) -> None:
    forwards = [dataset.read("train", index, (24, 32)) for index in range(6)]
    more = Rooms(train=6, val=1, test=1)
    backwards = [more.read("train", index, (24, 32)) for index in reversed(range(6))]
    assert all(same(first, second) for first, second in zip(forwards, reversed(backwards), strict=True))


def test_all_scenes_differ_within_and_between_splits(dataset: Rooms) -> None:
    depths = {dataset.read(split, index, (8, 8)).targets["depth"].tobytes() for split in SPLITS for index in range(40)}
    assert len(depths) == 3 * 40


def test_large_images_are_cast_in_batches_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def photograph() -> Sample:
        return render(scene(5), (30, 30), np.random.default_rng(0))

    whole = photograph()
    monkeypatch.setattr("mtl.datasets.rooms.dataset._RAY_BATCH", 77)
    batched = photograph()
    for task, target in whole.targets.items():
        np.testing.assert_allclose(batched.targets[task], target, atol=1e-5)


def test_every_class_occurs_with_a_sensible_share(samples: list[Sample]) -> None:
    labels = np.stack([sample.targets["segmentation"] for sample in samples])
    assert labels.max() < len(CLASSES)
    share = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    scenes_with = np.array([(labels == label).any(axis=(1, 2)).mean() for label in range(len(CLASSES))])
    assert share.min() > 0.004, dict(zip(CLASSES, share.round(4), strict=True))
    assert share.max() < 0.5
    assert scenes_with.min() > 0.15, dict(zip(CLASSES, scenes_with.round(2), strict=True))


def test_depth_and_image_are_not_degenerate(samples: list[Sample]) -> None:
    for sample in samples:
        depth = sample.targets["depth"]
        assert depth.min() > 0.3
        assert depth.max() < 12
        assert depth.std() > 0.1
        assert sample.image.std() > 8
        assert 25 < sample.image.mean() < 235


def test_colour_alone_does_not_give_the_class(samples: list[Sample]) -> None:
    """The best guess from a pixel's colour, 4 levels a channel, is little better than always the largest class."""
    colors = np.concatenate([(s.image // 64).reshape(-1, 3) @ [16, 4, 1] for s in samples])
    labels = np.concatenate([s.targets["segmentation"].ravel() for s in samples])
    counts = np.zeros((64, len(CLASSES)))
    np.add.at(counts, (colors, labels), 1)
    assert counts.max(axis=1).sum() / labels.size < counts.sum(axis=0).max() / labels.size + 0.1


def test_normals_are_unit_and_face_the_camera() -> None:
    for index in range(10):
        drawn = scene(index)
        normals = render(drawn, (48, 64), np.random.default_rng(0)).targets["normals"]
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
        assert ((normals * view_rays(drawn.camera, (48, 64))).sum(axis=-1) <= 1e-2).all()


def view_rays(camera: Camera, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Rays (H, W, 3) in the camera's own frame, z = -1: written out here again, apart from `pixel_rays`."""
    height, width = image_size
    half_side = min(image_size) / 2
    rows, columns = np.mgrid[:height, :width]
    x = (columns - (width - 1) / 2) / (half_side * camera.focal)
    y = ((height - 1) / 2 - rows) / (half_side * camera.focal)
    return np.stack([x, y, -np.ones_like(x)], axis=-1)


def normals_from_depth(depth: Floats, camera: Camera) -> Floats:
    """Unit normals (H - 1, W - 1, 3) of the surface through a pixel, its right and its lower neighbour."""
    points = depth[..., np.newaxis] * view_rays(camera, depth.shape)
    right, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    normal = np.cross(down, right)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_depth_and_normals_describe_the_same_planes(index: int, flip: bool) -> None:
    """On flat patches; and still after the image is mirrored with the normals' x negated, as the module promises."""
    drawn = scene(index)
    targets = render(drawn, (90, 120), np.random.default_rng(0)).targets
    depth, normals = targets["depth"].astype(np.float64), targets["normals"].astype(np.float64)
    if flip:
        depth, normals = depth[:, ::-1], normals[:, ::-1] * (-1, 1, 1)
    offset = (depth[..., np.newaxis] * view_rays(drawn.camera, depth.shape) * normals).sum(axis=-1)
    here, right, down = (slice(None, -1),) * 2, (slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))
    flat = np.ones(normals[here].shape[:2], dtype=bool)
    for neighbour in (right, down):
        flat &= np.abs(normals[neighbour] - normals[here]).max(axis=-1) < 1e-4
        flat &= np.abs(offset[neighbour] - offset[here]) < 1e-3
    assert flat.mean() > 0.5
    agreement = (normals_from_depth(depth, drawn.camera) * normals[here]).sum(axis=-1)
    assert np.quantile(agreement[flat], 0.01) > 0.999


def mirrored(drawn: Scene) -> Scene:
    """The scene as seen in a mirror on the plane x = 0."""
    across = np.array([[-1], [1], [1]], dtype=np.float32)
    boxes, cylinders, spheres = drawn.solids
    flats = drawn.flats
    camera = drawn.camera
    return drawn._replace(
        solids=(
            boxes._replace(center=boxes.center * across, yaw=-boxes.yaw),
            cylinders._replace(center=cylinders.center * across),
            spheres._replace(center=spheres.center * across),
        ),
        flats=flats._replace(center=flats.center * across, u=flats.u * across, v=flats.v * across),
        camera=camera._replace(
            position=camera.position * across[:, 0], rotation=across * camera.rotation * across[:, 0]
        ),
    )


@pytest.mark.parametrize("index", range(4))
def test_a_mirrored_scene_is_the_flipped_image(index: int) -> None:
    drawn = scene(index)
    targets = render(drawn, (40, 56), np.random.default_rng(0)).targets
    mirror = render(mirrored(drawn), (40, 56), np.random.default_rng(0)).targets
    same_class = mirror["segmentation"] == targets["segmentation"][:, ::-1]
    assert same_class.mean() > 0.999  # a ray through an edge may round to either side
    np.testing.assert_allclose(
        mirror["depth"][same_class], targets["depth"][:, ::-1][same_class], rtol=1e-3, err_msg="depth"
    )
    close = np.abs(mirror["normals"] - targets["normals"][:, ::-1] * (-1, 1, 1)).max(axis=-1) < 1e-2
    assert close.mean() > 0.999


def test_depth_is_along_the_optical_axis() -> None:
    """A wall squarely in front has one depth everywhere, and normal (0, 0, 1)."""
    camera = Camera(np.array([0.0, 1.0, 0.0]), np.eye(3), 1.5)
    wall = Rectangles(*(np.array(v)[:, np.newaxis] for v in ((0.0, 1.0, -2.5), (9.0, 0.0, 0.0), (0.0, 9.0, 0.0))))
    origin, direction = pixel_rays(camera, (6, 10))
    hits = nearest_hits(origin, direction, (wall,))
    np.testing.assert_allclose(hits.distance, 2.5)
    np.testing.assert_allclose(hits.normal, np.array([[0.0], [0.0], [1.0]]).repeat(60, axis=1), atol=1e-12)


def test_pixels_are_square_and_run_right_and_down() -> None:
    rotation = scene(0).camera.rotation
    camera = Camera(np.zeros(3), rotation, 2.0)
    _, direction = pixel_rays(camera, (6, 10))
    local = (rotation.T @ direction).T.reshape(6, 10, 3)
    np.testing.assert_allclose(local, view_rays(camera, (6, 10)), atol=1e-6)


def test_cameras_are_upright_and_inside(dataset: Rooms) -> None:
    for index in range(40):
        camera = scene(index).camera
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(camera.rotation) == pytest.approx(1, abs=1e-5)
        assert camera.rotation[1, 1] > 0.7  # its y is nearly the world's


def test_shadows_fall_behind_what_blocks_the_light() -> None:
    light = np.array([0.0, 2.0, 0.0])
    ball = Spheres(np.array([[0.0], [1.0], [0.0]]), np.array([0.3]))
    floor = np.array([[0.0, 0.5, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert is_blocked(light, floor - light[:, np.newaxis], (ball,)).tolist() == [True, True, False]
    above = np.array([[0.0], [1.5], [0.0]])
    assert not is_blocked(light, above - light[:, np.newaxis], (ball,)).any()


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_in_the_room(seed: int) -> None:
    drawn = scene(seed)
    boxes, half_room = drawn.solids[0], np.array([[drawn.flats.u[0, 0]], [drawn.flats.v[2, 0]]])  # of the floor
    for corner in np.ndindex(2, 2, 2):
        x, y, z = boxes.center + rotate_yaw(boxes.half * (2 * np.array([corner]).T - 1), boxes.yaw)
        assert (np.abs([x, z]) < half_room).all()
        assert (y > -1e-5).all()


def test_spots_overlap_when_they_share_a_point() -> None:
    """Against a grid of points on the first spot, in pairs that are clearly apart or clearly share some."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 25), 0.0, np.linspace(-1, 1, 25))).reshape(3, -1)
    verdicts = []
    for _ in range(200):
        first, second = (Spot(*rng.uniform((-1, -1, -4, 0.1, 0.1), (1, 1, 4, 0.9, 0.9))) for _ in range(2))
        offset = np.array([[first.x - second.x], [0.0], [first.z - second.z]])
        points = rotate_yaw(grid * [[first.half_width], [0.0], [first.half_depth]], np.array(first.yaw)) + offset
        beyond_edge = np.abs(rotate_yaw(points, np.array(-second.yaw))[[0, 2]]) - [
            [second.half_width],
            [second.half_depth],
        ]
        gap = beyond_edge.max(axis=0).min()
        if abs(gap) > 0.1:
            verdicts.append(gap < 0)
            assert spots_overlap(first, second) == spots_overlap(second, first) == (gap < 0)
    assert 30 < sum(verdicts) < len(verdicts) - 30


def test_fingerprint_names_version_and_counts() -> None:
    fingerprints = {Rooms().fingerprint(), Rooms(train=3).fingerprint(), Rooms(val=3).fingerprint()}
    assert len(fingerprints) == 3
    assert Rooms().fingerprint() == Rooms().fingerprint()


def test_version_changes_fingerprint_and_scenes(dataset: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    before, fingerprint = dataset.read("test", 0, (8, 8)), dataset.fingerprint()
    monkeypatch.setattr("mtl.datasets.rooms.dataset.VERSION", 99)
    assert dataset.fingerprint() != fingerprint
    assert not same(dataset.read("test", 0, (8, 8)), before)


def test_wrong_requests_are_refused(dataset: Rooms) -> None:
    with pytest.raises(BadInput, match="val split cannot have -1 scenes"):
        Rooms(val=-1)
    with pytest.raises(IndexError, match="no scene 320 in train, which has 320"):
        dataset.read("train", 320, (8, 8))
    with pytest.raises(BadInput, match=r"image_size is \(0, 8\)"):
        dataset.read("train", 0, (0, 8))

"""Edges, disparities and numbers through a dataset: their form, their size, augmentation, tallies, rooms."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.datasets.base import Sample
from mtl.datasets.batches.augmentation import crop, flip
from mtl.datasets.cache.build import materialise
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.inspect.contact_sheet import draw_contact_sheet
from mtl.datasets.inspect.inspection import inspect_dataset
from mtl.datasets.inspect.plausibility import NO_EDGE, OUTSIDE, THICK, oddities
from mtl.datasets.inspect.tallies import empty_tally, tally
from mtl.datasets.resize import resize_target
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task, wrong_fields
from search.commands.inspection_text import format_inspection

EDGES = Task("edges", "edges")
AGE = Task("age", "regression", unit="years")
POINTS = Task(
    "points", "regression", values=("left_x", "left_y", "right_x", "right_y", "nose_x", "nose_y"), points=(1, 0, 2)
)
DISPARITY = Task("disparity", "disparity", unit="px")
TASKS = [EDGES, AGE, POINTS, DISPARITY]
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
fixed = settings(derandomize=True, deadline=None, max_examples=60)


def edge_map(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    edges = (rng.random(size) < 0.2).astype(np.uint8)
    edges[rng.random(size) < 0.3] = IGNORE
    return edges


@fixed
@given(SIZES, SIZES, st.integers(0, 99))
def test_no_edge_is_lost_or_made_up_as_a_map_shrinks(size: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    edges = edge_map(size, seed)
    resized = resize_target("edges", edges, to)
    assert resized.shape == to
    assert resized.dtype == np.uint8
    # Each pixel by its definition: the stored pixels whose middles lie in it, or along a side that grows the nearest.
    cells = []
    for old, new in zip(size, to, strict=True):
        place = [int((k + 0.5) * new / old) for k in range(old)]
        shrinks = [[k for k in range(old) if place[k] == one] for one in range(new)]
        cells.append(shrinks if new < old else [[int((one + 0.5) * old / new)] for one in range(new)])
    for y, rows in enumerate(cells[0]):
        for x, columns in enumerate(cells[1]):
            seen = set(edges[np.ix_(rows, columns)].ravel().tolist())
            assert resized[y, x] == (1 if 1 in seen else 0 if 0 in seen else IGNORE)


def targets(count: int = 4) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "edges": torch.from_numpy(np.stack([edge_map((16, 24), k) for k in range(count)])),
        "age": torch.arange(count, dtype=torch.float32),
        "points": torch.from_numpy(rng.random((count, 6), dtype=np.float32)),
        "disparity": torch.from_numpy(rng.random((count, 16, 24), dtype=np.float32)),
    }


def test_flips_move_edges_and_points_and_leave_numbers() -> None:
    before = targets()
    before["points"][1, 2] = torch.nan
    chosen = torch.tensor([False, True, True, False])
    _, after = flip(torch.zeros(4, 3, 16, 24), before, TASKS, chosen)
    assert torch.equal(after["edges"][1], before["edges"][1].flip(1))
    assert torch.equal(after["disparity"][2], before["disparity"][2].flip(1))
    assert torch.equal(after["age"], before["age"])
    assert torch.equal(after["points"][0], before["points"][0])
    left_x, left_y, right_x, right_y, nose_x, nose_y = before["points"][2].tolist()
    assert after["points"][2].tolist() == pytest.approx([1 - right_x, right_y, 1 - left_x, left_y, 1 - nose_x, nose_y])
    assert after["points"][1].isnan().tolist() == [True, False, False, False, False, False]


@fixed
@given(st.floats(0.3, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_crops_move_points_as_they_move_pixels(scale: float, top: float, left: float, x: float, y: float) -> None:
    """A single bright pixel is where the point is, before and after."""
    height, width = 40, 60
    row, column = int(y * height), int(x * width)
    x, y = (column + 0.5) / width, (row + 0.5) / height
    edges = torch.zeros(1, height, width, dtype=torch.uint8)
    edges[0, row, column] = 1
    before = {"edges": edges, "points": torch.tensor([[x, y] * 3]), "age": torch.tensor([7.0])}
    before["disparity"] = torch.ones(1, height, width)
    place = torch.tensor([[top, left]])
    _, after = crop(torch.zeros(1, 3, height, width), before, TASKS, torch.tensor([scale]), place)
    assert after["age"].tolist() == [7]
    assert after["disparity"][0, 0, 0].item() == pytest.approx(1 / scale)
    rows, columns = after["edges"][0].nonzero(as_tuple=True)
    new_x, new_y = after["points"][0, :2].tolist()
    if len(rows) and not np.isnan(new_x):  # an enlarged pixel is a block about the point
        assert (rows.double().mean() + 0.5) / height == pytest.approx(new_y, abs=1.5 / height)
        assert (columns.double().mean() + 0.5) / width == pytest.approx(new_x, abs=1.5 / width)
    inside = all(0.02 < (one - at * (1 - scale)) / scale < 0.98 for one, at in ((x, left), (y, top)))
    outside = any(not -0.02 < (one - at * (1 - scale)) / scale < 1.02 for one, at in ((x, left), (y, top)))
    assert not (inside and np.isnan(new_x))
    assert not outside or np.isnan(new_x)


def sample(**changed: object) -> Sample:
    right: dict[str, object] = {
        "edges": np.zeros((4, 6), np.uint8),
        "age": np.array(31, np.float32),
        "points": np.full(6, 0.5, np.float32),
        "disparity": np.ones((4, 6), np.float32),
    }
    return Sample(np.zeros((4, 6, 3), np.uint8), right | changed)  # type: ignore[arg-type]


def test_what_a_sample_may_hold() -> None:
    tasks = {task.name: task for task in TASKS}
    assert invalidity(sample(), tasks) is None
    assert invalidity(sample(age=np.array(np.nan, np.float32)), tasks) is None
    for name, value, said in (
        ("age", np.array([31], np.float32), "its age is float32 (1,); allowed: float32 ()"),
        ("age", np.array(31), "its age is int64 (); allowed: float32 ()"),
        ("age", np.array(np.inf, np.float32), "its age holds inf; allowed: numbers, and NaN where there is none"),
        ("points", np.zeros(5, np.float32), "its points is float32 (5,); allowed: float32 (6)"),
        ("edges", np.full((4, 6), 2, np.uint8), "its edges holds 2; allowed: 0..1, and 255 where there is none"),
        ("disparity", np.full((4, 6), -1, np.float32), "holds -1.0; allowed: px, and 0 where there is none"),
    ):
        assert said in (invalidity(sample(**{name: value}), tasks) or "")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task("age", "regression", scale=0), "'age', a regression, with scale 0; allowed: a number above 0"),
        (Task("age", "regression", unit=3), "with a unit that is not a short text"),  # type: ignore[arg-type]
        (Task("age", "regression", values=("x", "x")), "with 2 values; allowed: each name once"),
        (Task("p", "regression", values=("x", "y"), points=(0, 1)), "with points (0, 1) and 2 values"),
        (Task("p", "regression", values=tuple("abcdef"), points=(1, 2, 0)), "each point is the partner of its partner"),
        (Task("d", "depth", unit="m"), "'d', a depth, with unit 'm'; allowed: none, as it is fixed"),
        (Task("d", "edges", scale=2.0), "'d', a edges, with values, scale or points; allowed: none"),
    ],
)
def test_a_task_that_cannot_be(task: Task, said: str) -> None:
    assert said in (wrong_fields(task) or "")
    assert all(wrong_fields(task) is None for task in TASKS)


def test_tallies_of_numbers_add_up() -> None:
    rng = np.random.default_rng(0)
    every = rng.normal(size=(9, 6)).astype(np.float32)
    every[2:5, 1] = np.nan
    every[:, 3] = np.nan
    total = empty_tally(POINTS)
    for one in every:
        total += tally(POINTS, one)
    assert total.counts.tolist() == [9, 6, 9, 0, 9, 9]
    assert total.unlabelled == 12
    known = [0, 1, 2, 4, 5]
    assert total.total[known] == pytest.approx(np.nansum(every, axis=0)[known], rel=1e-5)
    assert total.smallest[known] == pytest.approx(np.nanmin(every[:, known], axis=0))
    assert total.largest[known] == pytest.approx(np.nanmax(every[:, known], axis=0))


def test_what_looks_wrong() -> None:
    tasks: Mapping[str, Task] = {task.name: task for task in TASKS}

    def odd(**changed: object) -> list[str]:
        return [what for _, what, _ in oddities(sample(**changed), tasks)]

    line = np.eye(4, 6, dtype=np.uint8)
    assert odd(edges=line) == []
    assert odd() == [NO_EDGE]
    assert odd(edges=1 - line) == [THICK]
    assert odd(edges=line, points=np.array([0.5, 0.5, 90, 40, 0.1, np.nan], np.float32)) == [OUTSIDE]


def test_rooms_have_edges_and_pitch_where_they_are_asked_for(tmp_path: Path) -> None:
    plain, more = Rooms(3, 2, 2), Rooms(3, 2, 2, edges=True, pitch=True)
    assert plain.fingerprint() == "rooms-v1-train3-val2-test2"
    assert list(plain.tasks) == list(Rooms.tasks) == ["segmentation", "depth", "normals"]
    assert list(more.tasks) == ["segmentation", "depth", "normals", "edges", "pitch"]
    for split, index in (("train", 0), ("val", 1)):
        one, other = plain.read(split, index, (32, 48)), more.read(split, index, (32, 48))  # type: ignore[arg-type]
        assert np.array_equal(one.image, other.image)
        assert all(np.array_equal(target, other.targets[name]) for name, target in one.targets.items())
        assert invalidity(other, more.tasks) is None
        # Where the class changes, so does the part of the scene.
        classes, edges = other.targets["segmentation"], other.targets["edges"]
        assert (edges[:, :-1][classes[:, :-1] != classes[:, 1:]] == 1).all()
        assert 0.02 < edges.mean() < 0.4
        assert -30 < other.targets["pitch"] < 5
    arrays = materialise(more, (16, 24), tmp_path)
    assert arrays["train"]["pitch"].shape == (3,)
    assert arrays["train"]["edges"].shape == (3, 16, 24)
    for options, said in (({"edges": 1}, "rooms: edges is 1; allowed: true, false"),):
        with pytest.raises(BadInput) as caught:
            Rooms(**options)  # type: ignore[arg-type]
        assert str(caught.value) == said


def test_pitch_is_where_the_horizon_is() -> None:
    """A camera that looks level sees points of its own height in the middle row, one that looks down above it."""
    from mtl.datasets.rooms.dataset import camera_pitch, pixel_rays
    from mtl.datasets.rooms.scene import draw_scene

    for seed in range(5):
        camera = draw_scene(np.random.default_rng(seed)).camera
        _, rays = pixel_rays(camera, (1, 1))  # the optical axis alone
        x, y, z = rays[:, 0].tolist()
        assert float(camera_pitch(camera)) == pytest.approx(np.degrees(np.arctan2(y, np.hypot(x, z))), abs=1e-3)


def test_inspection_and_contact_sheet_show_them(tmp_path: Path) -> None:
    rooms = Rooms(3, 2, 2, edges=True, pitch=True)
    text = format_inspection(inspect_dataset(rooms), None)
    assert "edges: 1 on an edge" in text
    assert "images with edges" in text
    assert "pitch: a number in °" in text
    sheet = draw_contact_sheet(rooms, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    row: Sequence[str] = [row.caption for row in sheet.rows]
    assert all(caption.startswith("pitch: ") and caption.endswith("°") for caption in row)
    edges = sheet.rows[0].pictures["edges"]
    assert {tuple(pixel) for pixel in edges.reshape(-1, 3).tolist()} == {(0, 0, 0), (255, 255, 255)}


def test_flips_turn_left_classes_into_right_ones() -> None:
    task = Task("parts", "segmentation", ("none", "left", "right"), mirrored=(0, 2, 1))
    assert wrong_fields(task) is None
    parts = torch.tensor([[[0, 1, 1, IGNORE], [2, 0, 1, 2]]] * 2, dtype=torch.uint8)
    _, after = flip(torch.zeros(2, 3, 2, 4), {"parts": parts}, [task], torch.tensor([True, False]))
    assert after["parts"][0].tolist() == [[IGNORE, 2, 2, 0], [1, 2, 0, 1]]
    assert torch.equal(after["parts"][1], parts[1])
    for mirrored in ((0, 1), (1, 2, 0), (0, 1, 3)):
        said = wrong_fields(Task("parts", "segmentation", ("none", "left", "right"), mirrored=mirrored))
        assert said is not None
        assert said.endswith(f"with mirrored {mirrored}; allowed: for each class itself or its partner, both ways")

"""Contact sheets: the computed panels carry the labels' colours, and the PNG carries the panels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import Sample
from mtl.datasets.inspect.contact_sheet import MARGIN, WIDTH, draw_contact_sheet, make_sheet
from mtl.datasets.inspect.panels import (
    COLORS,
    HATCH,
    ClassKey,
    DepthKey,
    class_colors,
    class_key,
    depth_key,
    depth_picture,
    faces_viewer,
    image_words,
    normals_picture,
    segmentation_picture,
    sphere,
)
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task
from tests.support.labelled_folder import CLASSES, LabelledFolder, write_folder

SCENE = Task("scene", "segmentation", CLASSES)


def rgb(color: str) -> list[int]:
    return [int(color[k : k + 2], 16) for k in (1, 3, 5)]


def is_hatch(pixel: np.ndarray) -> bool:
    return len(set(pixel.tolist())) == 1 and int(pixel[0]) in HATCH


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_a_class_has_its_own_colour_and_the_commonest_is_named_first() -> None:
    target = np.array([[2, 2, 2], [0, 0, IGNORE]], np.uint8)
    key = class_key(SCENE, [target])
    assert list(key.names) == ["lamp", "wall"]
    picture = segmentation_picture(target, key)
    assert picture[0, 1].tolist() == rgb(COLORS[2])
    assert picture[1, 0].tolist() == rgb(COLORS[0])
    assert is_hatch(picture[1, 2])


def test_colours_differ_and_none_is_near_the_hatch() -> None:
    colors = np.array([rgb(color) for color in COLORS], float)
    apart = np.linalg.norm(colors[:, None] - colors, axis=-1) + 1e3 * np.eye(len(colors))
    assert apart.min() > 20
    for grey in HATCH:
        assert np.linalg.norm(colors - grey, axis=-1).min() > 40


def test_more_classes_than_colours() -> None:
    task = Task("many", "segmentation", tuple(f"class {k}" for k in range(60)))
    target = np.arange(60, dtype=np.uint8)[None]
    picture = segmentation_picture(target, class_key(task, [target]))
    assert picture[0, 0].tolist() == rgb(COLORS[0])
    assert len({tuple(color) for color in picture[0].tolist()}) == 60
    assert len({tuple(color) for color in class_colors(5 * len(COLORS)).tolist()}) == 5 * len(COLORS)


def test_depth_runs_over_viridis_and_what_is_invalid_is_hatched() -> None:
    depths = [np.array([[0, 1, 10, 100]], np.float32), np.zeros((1, 4), np.float32)]
    key = depth_key(depths)
    assert key == DepthKey(1, 100)
    picture = depth_picture(depths[0], key)
    viridis = matplotlib.colormaps["viridis"]
    assert is_hatch(picture[0, 0])
    for place, share in ((1, 0.0), (2, 0.5), (3, 1.0)):
        assert picture[0, place].tolist() == list(viridis(share, bytes=True)[:3])


@pytest.mark.parametrize("depth", [0, 2])
def test_depth_without_a_range(depth: int) -> None:
    target = np.full((2, 2), depth, np.float32)
    assert depth_picture(target, depth_key([target])).shape == (2, 2, 3)


def test_normals_are_colours_as_published() -> None:
    normals = np.array([[[0, 0, 1], [1, 0, 0], [0, -1, 0], [0, 0, 0]]], np.float32)
    picture = normals_picture(normals)
    assert picture[0, :3].tolist() == [[128, 128, 255], [255, 128, 128], [128, 0, 128]]
    assert is_hatch(picture[0, 3])


def test_the_ball_faces_right_up_and_front() -> None:
    ball = sphere(101, to_viewer=True)
    assert ball[0, 0].tolist() == [255, 255, 255]
    assert ball[50, 50].tolist() == [128, 128, 255]
    assert ball[50, 99, 0] > 245
    assert ball[1, 50, 1] > 245


def words(labels: Mapping[str, int], **classes: Sequence[str]) -> list[str]:
    tasks = {
        name: Task(name, "classification", tuple(classes[name])) if name in classes else Task(name, "binary")
        for name in labels
    }
    return image_words(tasks, {name: np.array(label, np.uint8) for name, label in labels.items()})


def test_labels_of_images_in_words() -> None:
    assert words({"male": 0, "smile": 1}) == ["male: no", "smile: yes"]
    assert words({"male": IGNORE}) == ["male: no label"]
    assert words({"scene": 1}, scene=("kitchen", "office")) == ["scene: office"]
    many = {f"attribute{k}": 0 for k in range(40)}
    assert words(many) == ["none of 40 labels"]
    assert words(many | {"attribute3": 1, "attribute9": 1}) == ["attribute3", "attribute9"]


def test_sheet_of_a_folder(root: Path) -> None:
    sheet = make_sheet(LabelledFolder(root))
    assert (sheet.title, sheet.counts) == ("labelled", "6 samples: 3 train · 1 val · 2 test")
    assert list(sheet.columns) == ["image", "classes", "depth", "normals"]
    assert [row.split for row in sheet.rows] == ["train", "train", "val", "test", "test"]
    last = sheet.rows[-1]
    height, width = last.pictures["image"].shape[:2]
    assert (height, width) == sheet.size
    assert height / width == pytest.approx(24 / 32, rel=0.01)
    assert (last.pictures["classes"] == rgb(COLORS[2])).all()  # all lamp, the third class
    assert [region.name for region in last.regions["classes"]] == ["lamp"]
    assert last.caption == "smile: no"
    assert {tuple(color) for color in last.pictures["normals"][height // 2]} == {(128, 128, 255)}
    assert sheet.keys["depth"] == DepthKey(1, 4)
    assert sheet.has_unlabelled


def test_samples_follow_the_seed(root: Path) -> None:
    def names(seed: int) -> list[str]:
        return [row.name for row in make_sheet(LabelledFolder(root), seed).rows]

    assert names(3) == names(3)
    assert len({tuple(names(seed)) for seed in range(8)}) > 1


def test_broken_samples_are_passed_over(root: Path) -> None:
    (root / "depth/a.npy").unlink()
    (root / "words/b.txt").write_text("?")
    (root / "classes/d.png").write_bytes(b"no image")
    rows = make_sheet(LabelledFolder(root)).rows
    assert [row.name for row in rows] == ["c", "e", "f"]
    for sample_id in "cef":
        (root / f"images/{sample_id}.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match="no sample can be read"):
        make_sheet(LabelledFolder(root))


def test_the_png_carries_the_panels(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    sheet = draw_contact_sheet(LabelledFolder(root), path)
    with Image.open(path) as image:
        assert image.width == WIDTH + 2 * MARGIN
        assert image.mode == "RGB"
        pixels = np.asarray(image)
    panels = np.concatenate([row.pictures[name] for row in sheet.rows for name in ("classes", "depth")])
    viridis, key = matplotlib.colormaps["viridis"], sheet.keys["classes"]
    assert isinstance(key, ClassKey)
    colors = [*key.colors, *([*viridis(end, bytes=True)[:3]] for end in (0.0, 1.0))]
    for color in colors:  # each on about as many pixels as the panels have, with class names on some
        assert (pixels == color).all(axis=-1).sum() == pytest.approx((panels == color).all(axis=-1).sum(), rel=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "sheet.png"]


class ManyAttributes(LabelledFolder):
    """Portraits and landscapes, forty attributes with long names, no dense label, and names that look like formulas."""

    name = "many $attributes"
    layout = "x" * 400
    tasks: Mapping[str, Task] = {f"a_very_long_attribute_{k}": Task(f"attribute {k}", "binary") for k in range(40)}

    def load(self, sample_id: str) -> Sample:
        shape = (40, 20, 3) if sample_id in "ad" else (20, 40, 3)
        return Sample(np.full(shape, 7, np.uint8), {name: np.array(1, np.uint8) for name in self.tasks})

    def sample_name(self, split: str, index: int) -> str:
        return f"$\\frac{index}$" + 50 * "n"


def test_long_words_and_mixed_shapes(root: Path, tmp_path: Path) -> None:
    sheet = draw_contact_sheet(ManyAttributes(root), tmp_path / "sheet.png")
    shapes = {row.pictures["image"].shape[0] > row.pictures["image"].shape[1] for row in sheet.rows}
    assert shapes == {True, False}
    with Image.open(tmp_path / "sheet.png") as image:
        right = np.asarray(image)[:, -MARGIN // 2 :]
    assert (right == 255).all()  # nothing runs over the margin


def test_a_sheet_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"contact sheet .*: cannot be written"):
        draw_contact_sheet(LabelledFolder(root), tmp_path / "file" / "sheet.png")


def test_sheet_of_a_generated_dataset(tmp_path: Path) -> None:
    sheet = draw_contact_sheet(Rooms(train=2, val=1, test=0), tmp_path / "rooms.png")
    assert [row.name for row in sheet.rows] == ["train 0", "train 1", "val 0"]
    assert not sheet.has_unlabelled


def test_axes_of_the_normals_follow_from_what_faces_the_camera() -> None:
    wall = np.broadcast_to(np.float32([0, 0, 1]), (4, 4, 3))
    assert faces_viewer([wall])
    assert not faces_viewer([-wall])
    for to_viewer, floor, facing in ((True, (0, 1, 0), (0, 0, 1)), (False, (0, -1, 0), (0, 0, -1))):
        ball = sphere(57, to_viewer)
        assert np.abs(ball[28, 28].astype(int) - 255 * (np.array(facing) + 1) / 2).max() <= 1
        assert np.abs(ball[1, 28].astype(int) - 255 * (np.array(floor) + 1) / 2).max() <= 45  # its top, as a floor's

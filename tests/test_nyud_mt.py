"""The NYUD_MT reader on tiny folders in the published layout, and on real frames where they are at hand."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import SPLITS
from mtl.datasets.nyud_mt import CLASSES, NyudMT
from mtl.errors import BadInput
from mtl.tasks import IGNORE

SIZE = (24, 32)
LISTS = {"train": ["0001", "0002", "0003"], "val": ["0010"], "test": ["0020", "0021"]}
SHARED = Path(__file__).parents[2] / "shared" / "data"


def write_frame(root: Path, frame: str, suffix: str = ".png") -> None:
    """Random labels; label 255 and a depth and normal without a value are in the first row."""
    rng = np.random.default_rng(int(frame))
    labels = rng.integers(0, 41, SIZE, np.uint8)
    depth = rng.uniform(0.5, 10, SIZE).astype(np.float32)
    normals = rng.normal(size=(*SIZE, 3))
    normals = (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)
    labels[0, :3] = 0, 40, 255
    depth[0, :4] = np.nan, np.inf, -1, 0
    normals[0, :3] = [np.nan, 0, 1], [np.inf, 0, 0], [0, 0, 0]
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / "images" / f"{frame}{suffix}")
    Image.fromarray(labels).save(root / "segmentation" / f"{frame}.png")
    np.save(root / "depth" / f"{frame}.npy", depth)
    np.save(root / "normals" / f"{frame}.npy", normals)


def write_set(root: Path, lists: dict[str, list[str]]) -> Path:
    for folder in ("images", "segmentation", "depth", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True)
    for split, frames in lists.items():
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(frames) + "\n")
    for frame in {frame for frames in lists.values() for frame in frames}:
        write_frame(root, frame)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "NYUD_MT", LISTS)


def test_usual_forty_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 40
    assert (CLASSES[0], CLASSES[21], CLASSES[39]) == ("wall", "ceiling", "otherprop")


def test_splits_and_tasks(root: Path) -> None:
    dataset = NyudMT(root)
    assert [dataset.size(split) for split in SPLITS] == [3, 1, 2]
    assert list(dataset.tasks) == ["segmentation", "depth", "normals"]


def test_reads_the_listed_frame(root: Path) -> None:
    sample = NyudMT(root).read("test", 1, SIZE)
    with Image.open(root / "images" / "0021.png") as image:
        assert np.array_equal(sample.image, np.asarray(image))
    depth = np.load(root / "depth" / "0021.npy", allow_pickle=False)
    assert np.array_equal(sample.targets["depth"][1:], depth[1:])


def test_unlabelled_pixels_have_their_marks(root: Path) -> None:
    targets = NyudMT(root).read("train", 0, SIZE).targets
    with Image.open(root / "segmentation" / "0001.png") as image:
        stored = np.asarray(image).astype(int)
    assert targets["segmentation"][0, :3].tolist() == [IGNORE, 39, IGNORE]
    labelled = (stored > 0) & (stored < 255)
    assert np.array_equal(targets["segmentation"][labelled], stored[labelled] - 1)
    assert np.all(targets["segmentation"][~labelled] == IGNORE)
    assert targets["depth"][0, :4].tolist() == [0, 0, 0, 0]
    assert np.all(targets["depth"][1:] > 0)
    assert not targets["normals"][0, :3].any()
    assert np.allclose(np.linalg.norm(targets["normals"][1:], axis=-1), 1)


@pytest.mark.parametrize("size", [(12, 16), (24, 32), (30, 30)])
def test_forms(root: Path, size: tuple[int, int]) -> None:
    sample = NyudMT(root).read("val", 0, size)
    assert sample.image.shape == (*size, 3)
    assert sample.image.dtype == np.uint8
    forms = {name: (target.shape, target.dtype.name) for name, target in sample.targets.items()}
    assert forms == {"segmentation": (size, "uint8"), "depth": (size, "float32"), "normals": ((*size, 3), "float32")}
    length = np.linalg.norm(sample.targets["normals"], axis=-1)
    assert np.all((length == 0) | (np.abs(length - 1) < 1e-6))


def test_images_may_be_jpg(root: Path) -> None:
    (root / "images" / "0010.png").unlink()
    Image.new("RGB", (SIZE[1], SIZE[0]), (200, 100, 50)).save(root / "images" / "0010.jpg")
    assert np.abs(NyudMT(root).read("val", 0, SIZE).image.astype(int) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("repeated", [False, True])
def test_published_pair_of_lists(tmp_path: Path, repeated: bool) -> None:
    train, val = [f"{k:04d}" for k in range(70)], ["0900", "0901"]
    root = write_set(tmp_path / "NYUD_MT", {"train": train, "val": val} | ({"test": val} if repeated else {}))
    for folder in ("depth", "normals"):
        shutil.rmtree(root / folder)
    dataset = NyudMT(root)
    assert [dataset.size(split) for split in SPLITS] == [64, 6, 2]
    with Image.open(root / "images" / "0064.png") as image:
        assert np.array_equal(dataset.read("val", 0, SIZE).image, np.asarray(image))
    with Image.open(root / "images" / "0900.png") as image:
        assert np.array_equal(dataset.read("test", 0, SIZE).image, np.asarray(image))


def test_absent_folder_is_an_absent_task(root: Path) -> None:
    shutil.rmtree(root / "normals")
    dataset = NyudMT(root)
    assert list(dataset.tasks) == ["segmentation", "depth"]
    assert set(dataset.read("train", 0, SIZE).targets) == {"segmentation", "depth"}


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = NyudMT(root).fingerprint()
    assert re.fullmatch(r"nyud_mt-[0-9a-f]{16}", before)
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "images" / "0001.png").touch()
    assert NyudMT(moved).fingerprint() == before
    (moved / "gt_sets" / "val.txt").write_text("0003\n")
    (moved / "gt_sets" / "train.txt").write_text("0001\n0002\n0010\n")
    resplit = NyudMT(moved).fingerprint()
    Image.new("RGB", (SIZE[1], SIZE[0])).save(moved / "images" / "0001.png")
    assert len({before, resplit, NyudMT(moved).fingerprint()}) == 3


def remove(*names: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return change


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


def empty(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return change


def make_file(root: Path) -> None:
    shutil.rmtree(root)
    root.touch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "ROOT does not exist"),
        (make_file, "ROOT is not a directory"),
        (empty("."), "ROOT has no images/; expected images/, segmentation/, depth/, normals/, gt_sets/"),
        (remove("segmentation", "depth", "normals"), "ROOT has no targets; expected images/, segmentation/"),
        (remove("gt_sets/train.txt"), "ROOT has no gt_sets/train.txt; expected images/, segmentation/"),
        (remove("gt_sets"), "ROOT has no gt_sets/train.txt; expected images/, segmentation/"),
        (write("gt_sets/val.txt", "\n"), "ROOT/gt_sets/val.txt lists no frames"),
        (write("gt_sets/val.txt", "0001\n"), "ROOT/gt_sets lists frame 0001 more than once"),
        (remove("gt_sets/test.txt"), "whose 3 frames are too few: at least 65"),
        (
            remove("depth/0002.npy", "normals/0020.npy"),
            "2 of 24 files listed in ROOT/gt_sets are missing, the first depth/0002.npy",
        ),
        (empty("normals"), "6 of 24 files listed in ROOT/gt_sets are missing, the first normals/0001.npy"),
        (remove("images/0021.png"), "1 of 24 files listed in ROOT/gt_sets are missing, the first images/0021.jpg"),
    ],
)
def test_incomplete_folder_is_refused(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(BadInput) as caught:
        NyudMT(root)
    assert str(caught.value).startswith("dataset nyud_mt: ")
    assert "\n" not in str(caught.value)
    assert message.replace("ROOT", str(root)) in str(caught.value)


def save_labels(value: int) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(np.full(SIZE, value, np.uint8)).save(root / "segmentation" / "0001.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (save_labels(41), "ROOT/segmentation/0001.png holds label 41; allowed are 0..40 and 255"),
        (write("images/0001.png", "no image"), "ROOT/images/0001.png cannot be read"),
        (write("depth/0001.npy", "no array"), "ROOT/depth/0001.npy cannot be read"),
        (
            lambda root: np.save(root / "depth" / "0001.npy", np.array([{}]), allow_pickle=True),
            "ROOT/depth/0001.npy cannot be read (Object arrays cannot be loaded when allow_pickle=False)",
        ),
        (
            lambda root: np.save(root / "depth" / "0001.npy", np.ones((24, 31), np.float32)),
            "ROOT/depth/0001.npy has shape (24, 31), its image wants (24, 32)",
        ),
    ],
)
def test_damaged_file_is_named(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(BadInput) as caught:
        NyudMT(root).read("train", 0, SIZE)
    assert message.replace("ROOT", str(root)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real frames in ../shared/data")
def test_real_frames(tmp_path: Path) -> None:
    expand = SHARED / "nyuv2" / "expand.py"
    subprocess.run([sys.executable, expand, tmp_path / "nyuv2", "--count", "20"], check=True, capture_output=True)
    dataset = NyudMT(tmp_path / "nyuv2")
    for split in SPLITS:
        for index in range(dataset.size(split)):
            targets = dataset.read(split, index, (48, 64)).targets
            classes = targets["segmentation"]
            assert np.all((classes < 40) | (classes == IGNORE))
            assert np.mean(classes < 40) > 0.3
            assert 0.3 < np.median(targets["depth"]) < 10
            length = np.linalg.norm(targets["normals"], axis=-1)
            assert np.all((length == 0) | (np.abs(length - 1) < 1e-6))

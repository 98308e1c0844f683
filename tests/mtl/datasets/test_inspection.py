"""Inspection on a folder whose counts are known by hand, and on one in which files are missing, broken or shared."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import SPLITS, Dataset, Sample
from mtl.datasets.inspect.inspection import GENERATED_SIZE, Inspection, inspect_dataset
from mtl.datasets.inspect.tallies import empty_tally, tally
from mtl.datasets.registry import open_dataset, recognise
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task
from tests.support.labelled_folder import SIZE, LabelledFolder, OpenFile, write_folder
from tests.support.paths import SHARED

PIXELS = SIZE[0] * SIZE[1]
DEPTH = Task("depth", "depth")
NO_LAMP = "classes: no image of train has lamp"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_counts_and_sizes(root: Path) -> None:
    found = inspect_dataset(LabelledFolder(root))
    assert {split: (c.listed, c.read) for split, c in found.splits.items()} == {
        "train": (3, 3),
        "val": (1, 1),
        "test": (2, 2),
    }
    assert set(found.whole.sizes) == {"image", "classes", "depth", "normals"}
    assert found.whole.sizes["image"] == {SIZE: 6}
    assert found.problems == ()
    assert found.warnings == (NO_LAMP,)


def test_segmentation_by_hand(root: Path) -> None:
    found = inspect_dataset(LabelledFolder(root))
    train, test = found.splits["train"].tallies["classes"], found.splits["test"].tallies["classes"]
    assert train.counts.tolist() == [3 * 12 * 32, 3 * 6 * 32, 0]
    assert train.shares.tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert train.unlabelled_share == pytest.approx(0.25)
    # In the test split one image has 18 labelled rows and the other, all lamp, 24.
    assert test.shares.tolist() == pytest.approx([12 / 42, 6 / 42, 24 / 42])
    assert test.images.tolist() == [1, 1, 1]
    assert train.images.tolist() == [3, 3, 0]


def test_depth_normals_and_binary_by_hand(root: Path) -> None:
    tallies = inspect_dataset(LabelledFolder(root)).whole.tallies
    depth, normals, smile = tallies["depth"], tallies["normals"], tallies["smile"]
    assert depth.unlabelled_share == normals.unlabelled_share == pytest.approx(1 / 24)
    assert (depth.nearest, depth.farthest) == (1, 4)
    assert depth.median == pytest.approx(1, rel=0.005)
    assert normals.mean.tolist() == [0, 0, 1]
    assert (smile.images.tolist(), smile.unlabelled) == ([3, 2], 1)


@pytest.mark.parametrize("scale", [1e-6, 0.01, 1, 1e3, 1e7])
def test_streamed_median_is_the_median(scale: float) -> None:
    depths = (scale * np.random.default_rng(0).lognormal(1, 0.5, (40, 51))).astype(np.float32)
    parts = sum((tally(DEPTH, row[None]) for row in depths), empty_tally(DEPTH))
    # Beyond the histogram's ends a median is as good as the nearest or farthest value.
    low, high = float(depths.min()), float(depths.max())
    if low > 1e-3 and high < 1e5:
        assert parts.median == pytest.approx(float(np.median(depths)), rel=0.005)
    assert low <= parts.median <= high
    assert (parts.nearest, parts.farthest) == (low, high)


@pytest.mark.parametrize("task", [*LabelledFolder.tasks.values()], ids=lambda task: task.kind)
def test_tallies_add_up(root: Path, task: Task) -> None:
    dataset = LabelledFolder(root)
    targets = [dataset.load(sample_id).targets[task.name] for sample_id in "aef"]
    one, two, three = (tally(task, target) for target in targets)
    together = empty_tally(task) + one + (two + three)
    for name, value in vars(together).items():
        other = vars(three + two + one)[name]
        assert np.array_equal(value, other)
    if task.dense:
        expected = vars(tally(task, np.concatenate(targets)))
        for name in ("counts", "unlabelled", "total", "nearest", "farthest"):
            assert np.array_equal(vars(together)[name], expected[name])


def test_no_labels_at_all_are_not_a_share() -> None:
    empty = {task.name: empty_tally(task) for task in LabelledFolder.tasks.values()}
    depth, normals, classes = empty["depth"], empty["normals"], empty["classes"]
    assert np.isnan(
        [depth.median, depth.unlabelled_share, *normals.mean, *classes.shares, classes.unlabelled_share]
    ).all()


def test_labels_of_images_with_named_classes() -> None:
    task = Task("scene", "classification", ("kitchen", "office", "bedroom"))
    counted = sum((tally(task, np.array(k, np.uint8)) for k in (0, 2, 2, IGNORE)), empty_tally(task))
    assert counted.images.tolist() == [1, 0, 2]
    assert counted.unlabelled == 1


def test_every_missing_and_broken_file_is_named(root: Path) -> None:
    (root / "depth/b.npy").unlink()
    (root / "images/f.png").unlink()
    (root / "normals/a.npy").write_text("no array")
    (root / "classes/e.png").write_bytes(b"no image")
    found = inspect_dataset(LabelledFolder(root))
    assert found.missing == (f"{root}/depth/b.npy is missing", f"{root}/images/f.png is missing")
    assert [line.split(": cannot be read")[0] for line in found.broken] == [
        f"file {root}/normals/a.npy",
        f"file {root}/classes/e.png",
    ]
    assert found.problems == found.missing + found.broken
    assert [(c.listed, c.read) for c in found.splits.values()] == [(3, 1), (1, 1), (2, 0)]


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(root / name, array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (save("depth/a.npy", np.full(SIZE, -1, np.float32)), "depth holds -1.0; allowed: metres"),
        (save("depth/a.npy", np.full(SIZE, np.nan, np.float32)), "depth holds nan; allowed: metres"),
        (save("depth/a.npy", np.ones(SIZE)), "depth is float64 (24, 32); allowed: float32 (height, width)"),
        (save("normals/a.npy", np.ones((*SIZE, 3), np.float32)), "normals holds a vector of length 1.73; allowed: 1"),
        (save("normals/a.npy", np.ones((*SIZE, 2), np.float32)), "normals is float32 (24, 32, 2); allowed"),
        (
            lambda root: Image.fromarray(np.full(SIZE, 3, np.uint8)).save(root / "classes/a.png"),
            "classes holds 3; allowed: 0..2, and 255",
        ),
        (lambda root: (root / "words/a.txt").write_text("2"), "smile holds 2; allowed: 0..1, and 255"),
        (lambda root: (root / "words/a.txt").write_text("yes\n?"), "ValueError: invalid literal for int()"),
    ],
)
def test_wrong_labels_and_failing_readers_are_problems(root: Path, change: Callable[[Path], object], said: str) -> None:
    change(root)
    (line,) = inspect_dataset(LabelledFolder(root)).broken
    assert line.startswith("train sample a: ")
    assert said in line
    assert "\n" not in line


def test_the_same_picture_in_two_splits_is_a_warning(root: Path) -> None:
    shutil.copy(root / "images/a.png", root / "images/e.png")
    with Image.open(root / "images/b.png") as image:
        image.save(root / "images/d.png", compress_level=0)  # another file, the same pixels
    shutil.copy(root / "images/a.png", root / "images/c.png")  # once more in one split
    found = inspect_dataset(LabelledFolder(root))
    assert found.problems == ()
    assert found.warnings == (
        NO_LAMP,
        "the same picture is in two splits: train a, train c, test e",
        "the same picture is in two splits: train b, val d",
    )


def test_a_picture_of_one_colour_is_a_warning(root: Path) -> None:
    Image.new("RGB", (32, 24), (9, 9, 9)).save(root / "images/d.png")
    assert inspect_dataset(LabelledFolder(root)).warnings == (
        NO_LAMP,
        "val d: the image has one colour only",
    )


def counts(found: Inspection) -> list[object]:
    """All numbers of an inspection, to compare two."""
    tallies = [list(vars(tally).values()) for content in found.splits.values() for tally in content.tallies.values()]
    return [found.problems, found.warnings, [np.asarray(v).tolist() for values in tallies for v in values]]


def test_two_processes_find_what_one_does(root: Path) -> None:
    (root / "normals/a.npy").write_text("no array")
    dataset = LabelledFolder(root)
    seen: list[tuple[int, int]] = []
    found = inspect_dataset(dataset, lambda done, total: seen.append((done, total)), processes=2)
    assert counts(found) == counts(inspect_dataset(dataset, processes=1))
    assert seen == [(3, 6), (4, 6), (6, 6)]


def test_a_dataset_that_cannot_be_sent_is_read_here(root: Path) -> None:
    dataset = OpenFile(root)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(dataset)
    assert inspect_dataset(dataset, processes=2).whole.read == 6


class Dying(LabelledFolder):
    def load(self, sample_id: str) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_is_killed_is_said(root: Path) -> None:
    with pytest.raises(BadInput, match="a process that read samples was ended from outside"):
        inspect_dataset(Dying(root), processes=2)


def test_generated_datasets_are_read_at_a_size() -> None:
    found = inspect_dataset(Rooms(train=2, val=1, test=0))
    assert found.whole.sizes["image"] == {GENERATED_SIZE: 3}
    depth = found.splits["test"].tallies["depth"]
    assert np.isnan(depth.median)
    assert found.problems == ()


def check_real(dataset: Dataset, expected: int) -> None:
    found = inspect_dataset(dataset)
    assert found.problems == ()
    # A few of the frames do not have every class.
    assert [
        line for line in found.warnings if "no image of train has" not in line and "in train every" not in line
    ] == []
    assert found.whole.read == expected == sum(dataset.size(split) for split in SPLITS)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real frames in ../shared/data")
def test_real_nyuv2(tmp_path: Path) -> None:
    root = tmp_path / "nyuv2"
    subprocess.run([sys.executable, SHARED / "nyuv2/expand.py", root, "--count", "40"], check=True, capture_output=True)
    assert recognise(root) == "nyuv2"
    dataset = open_dataset("nyuv2", root)
    check_real(dataset, 40)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")
def test_real_celebamask_hq(tmp_path: Path) -> None:
    root = unpack_celebamask_hq(tmp_path, 12)
    assert recognise(root) == "celebamask_hq"
    check_real(open_dataset("celebamask_hq", root), 12)


def unpack_celebamask_hq(folder: Path, count: int) -> Path:
    """The first `count` images of the real set, with their masks, listed in an attribute file of their own."""
    with tarfile.open(SHARED / "celebamask-hq/celebamask-hq-400.tar") as tar:
        names = tar.getnames()
        images = sorted((Path(name) for name in names if name.endswith(".jpg")), key=lambda path: int(path.stem))
        chosen = {path.stem for path in images[:count]}
        masks = [name for name in names if name.endswith(".png") and str(int(Path(name).name[:5])) in chosen]
        (table,) = (name for name in names if name.endswith("attribute-anno.txt"))
        wanted = {*masks, *(str(path) for path in images[:count]), table}
        tar.extractall(folder, [tar.getmember(name) for name in wanted], filter="data")
    _, header, *rows = (folder / table).read_text().splitlines()
    rows = [row for row in rows if row.partition(".")[0] in chosen]
    (folder / table).write_text("\n".join([str(len(rows)), header, *rows]) + "\n")
    return (folder / table).parent

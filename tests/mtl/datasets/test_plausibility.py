"""Labels that are hardly meant: each fault in a small dataset of its own, its warning, and none where there is none."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import Dataset, Sample, Split
from mtl.datasets.inspect.inspection import inspect_dataset
from mtl.datasets.inspect.plausibility import AWAY, oddities
from mtl.datasets.registry import open_dataset
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.tasks import Task
from search.cli import main
from tests.support.labelled_folder import EVERY, SIZE, LabelledFolder, write_folder

HERE = "tests.mtl.datasets.test_plausibility"
Change = Callable[[Path], object]


class FromOne(LabelledFolder):
    """Takes 1 from masks that count from 0, so that 0 becomes 255."""

    def load(self, sample_id: str) -> Sample:
        sample = super().load(sample_id)
        return Sample(sample.image, {**sample.targets, "classes": sample.targets["classes"] - np.uint8(1)})


class NanIsNone(LabelledFolder):
    """Has 0 for depths that are not a number."""

    def load(self, sample_id: str) -> Sample:
        sample = super().load(sample_id)
        return Sample(sample.image, {**sample.targets, "depth": np.nan_to_num(sample.targets["depth"])})


class Scaled(LabelledFolder):
    scaled_targets = True


class MostlyBroken(Dataset):
    """Of 400 samples one can be read, which no contact sheet happens to try."""

    name = "broken"
    tasks: Mapping[str, Task] = {"odd": Task("odd", "binary")}

    def __init__(self, root: Path) -> None:
        pass

    def fingerprint(self) -> str:
        return "broken"

    def size(self, split: Split) -> int:
        return 400 if split == "train" else 0

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        if index != 399:
            raise BadInput(f"file {index}.png: cannot be read")
        image = np.arange(3 * image_size[0] * image_size[1]).reshape(*image_size, 3).astype(np.uint8)
        return Sample(image, {"odd": np.array(1, np.uint8)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Every class in each image; a wall whose depth grows to the right, with the normal that it has."""
    root = write_folder(tmp_path / "data")
    for sample_id in EVERY:
        write_mask(root, sample_id, np.repeat(np.arange(24, dtype=np.uint8)[:, None] // 8, SIZE[1], axis=1))
        np.save(root / f"depth/{sample_id}.npy", np.tile(np.linspace(2, 4, SIZE[1], dtype=np.float32), (SIZE[0], 1)))
        write_normal(root, sample_id, (0.6, 0, 0.8))
    return root


def write_mask(root: Path, sample_id: str, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(root / f"classes/{sample_id}.png")


def write_normal(root: Path, sample_id: str, normal: Sequence[float]) -> None:
    np.save(root / f"normals/{sample_id}.npy", np.tile(np.array(normal, np.float32), (*SIZE, 1)))


def change_depth(ids: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(root: Path) -> None:
        for sample_id in ids:
            path = root / f"depth/{sample_id}.npy"
            np.save(path, change(np.load(path)).astype(np.float32))

    return apply


def change_masks(ids: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(root: Path) -> None:
        for sample_id in ids:
            with Image.open(root / f"classes/{sample_id}.png") as picture:
                mask = np.array(picture)
            write_mask(root, sample_id, change(mask).astype(np.uint8))

    return apply


def flip(ids: str, flat: bool = False) -> Change:
    def apply(root: Path) -> None:
        for sample_id in EVERY:
            sign = -1 if sample_id in ids else 1
            write_normal(root, sample_id, (0, 0, sign) if flat else (0.6 * sign, 0, 0.8 * sign))

    return apply


def no_smiles(root: Path) -> None:
    for sample_id in "abc":
        (root / f"words/{sample_id}.txt").write_text("0")


def found_in(root: Path, dataset: str = "LabelledFolder") -> list[str]:
    module = "tests.support.labelled_folder" if dataset == "LabelledFolder" else HERE
    found = inspect_dataset(open_dataset(f"{module}:{dataset}", root))
    assert found.problems == ()
    return list(found.warnings)


def test_sound_labels_give_no_warning(root: Path) -> None:
    assert found_in(root) == []


FAULTS: dict[str, tuple[str, Change, str]] = {
    "millimetres": (
        "LabelledFolder",
        change_depth("be", lambda depth: 1000 * depth),
        "depth: the median is over 80 m (2,903 m in the first), as where millimetres are taken for metres, in 2 of 6 "
        "samples: train b, test e",
    ),
    "depth that is nowhere a number": (
        "NanIsNone",
        change_depth("d", lambda depth: depth * np.nan),
        "depth: no pixel has a depth in 1 of 6 samples: val d",
    ),
    "a mask without a label": (
        "LabelledFolder",
        change_masks("a", lambda mask: np.full_like(mask, 255)),
        "classes: no pixel has a label in 1 of 6 samples: train a",
    ),
    "no normals": (
        "LabelledFolder",
        lambda root: [write_normal(root, sample_id, (0, 0, 0)) for sample_id in EVERY],
        "normals: no pixel has a normal in 6 of 6 samples: train a, train b, train c, val d, test e and 1 more",
    ),
    "a mask of another size": (
        "LabelledFolder",
        change_masks("c", lambda mask: mask[:, :20]),
        "classes: of another size than the image, to which it is stretched (20 × 24 for 32 × 24 in the first), in "
        "1 of 6 samples: train c",
    ),
    "a mask of another shape where sizes differ on purpose": (
        "Scaled",
        change_masks("c", lambda mask: mask[::2, ::2][:, :10]),
        "classes: of another size than the image, to which it is stretched (10 × 12 for 32 × 24 in the first), in "
        "1 of 6 samples: train c",
    ),
    "flipped normals, by depth": (
        "LabelledFolder",
        flip("abcdef"),
        "normals: they point away from the camera, or their x to the left, by the slope of depth, in 6 of 6 "
        "samples: train a, train b, train c, val d, test e and 1 more",
    ),
    "some flipped normals, by the others": (
        "LabelledFolder",
        flip("bf", flat=True),
        "normals: they face the other way along z than in most samples in 2 of 6 samples: train b, test f",
    ),
    "1 taken from classes that count from 0": (
        "FromOne",
        lambda root: None,
        "classes: lamp, the last class, is in no image, and 33 % of all pixels have no label: where masks count "
        "classes from 0, subtracting 1 turns class 0 into 255, which is no label",
    ),
    "classes that count from 1": (
        "LabelledFolder",
        change_masks("abcdef", lambda mask: mask.clip(0, 1) + 1),
        "classes: wall, the first class, is in no image: where masks count classes from 1, 1 must be subtracted",
    ),
    "a class that train lacks": (
        "LabelledFolder",
        change_masks("abc", lambda mask: mask.clip(0, 1)),
        "classes: no image of train has lamp",
    ),
    "one answer in train": ("LabelledFolder", no_smiles, "in train every labelled image has no for smile"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_warning(root: Path, fault: str) -> None:
    dataset, change, said = FAULTS[fault]
    change(root)
    assert found_in(root, dataset) == [said]


def test_masks_that_are_meant_to_be_smaller(root: Path) -> None:
    change_masks("abcdef", lambda mask: mask[::2, ::2])(root)
    assert found_in(root, "Scaled") == []
    assert len(found_in(root)) == 1


def test_normals_of_rooms_agree_with_their_depth_and_flipped_ones_do_not() -> None:
    rooms = Rooms(train=12, val=1, test=1)
    assert not any(warning.startswith("normals") for warning in inspect_dataset(rooms).warnings)
    for index in range(12):
        sample = rooms.read("train", index, (48, 64))
        flipped = Sample(sample.image, {**sample.targets, "normals": -sample.targets["normals"]})
        assert AWAY not in [what for _, what, _ in oddities(sample, rooms.tasks)]
        assert AWAY in [what for _, what, _ in oddities(flipped, rooms.tasks)]
        # The same surfaces in the other usual axes: x right, y down, z forward.
        turned = Sample(
            sample.image, {**sample.targets, "normals": sample.targets["normals"] * np.float32([1, -1, -1])}
        )
        assert AWAY not in [what for _, what, _ in oddities(turned, rooms.tasks)]


def test_problems_are_told_where_nothing_can_be_drawn(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "check", str(tmp_path), "--dataset", f"{HERE}:MostlyBroken"]) == 2
    printed = capsys.readouterr()
    *problems, last = printed.err.splitlines()
    told = [line for line in problems if line.startswith("problem: file ")]
    assert len(told) == 399
    assert f"399 problems in {tmp_path}, the first: file 0.png: cannot be read" in last
    assert "no contact sheet: dataset broken: no sample can be read, so there is nothing to draw" in printed.out
    assert list(empty.iterdir()) == []

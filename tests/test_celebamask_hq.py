"""The CelebAMask-HQ reader on a tiny folder in the published layout."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import SPLITS, Sample, Split
from mtl.datasets.celebamask_hq import CelebAMaskHQ
from mtl.errors import BadInput

IDS = [0, 7, 1999, 2000, 2001, 4100, 4101, 4102, 29998, 29999]
SIZE = (16, 12)
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
MASKS = "CelebAMask-HQ-mask-anno"


def mask_path(root: Path, k: int, part: str) -> Path:
    return root / MASKS / str(k // 2000) / f"{k:05d}_{part}.png"


def save_mask(root: Path, k: int, part: str, rows: slice) -> None:
    """A 32 x 24 mask, half the image's size as published, that is set in these rows."""
    mask = np.zeros((32, 24), np.uint8)
    mask[rows] = 255
    mask_path(root, k, part).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(mask_path(root, k, part))


def grey(k: int) -> int:
    return 20 * IDS.index(k)


def attributes(k: int) -> tuple[int, int]:
    """Male, Smiling."""
    return (1 if k % 2 else -1, 1 if k % 3 == 0 else -1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Hair in the rows 0..15, skin in 8..23, nose in 16..19; every image has its own grey."""
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    lines = [str(len(IDS)), "Bald Male Smiling Young"]
    for k in IDS:
        Image.new("RGB", (48, 64), (grey(k),) * 3).save(root / "CelebA-HQ-img" / f"{k}.jpg")
        for part, rows in (("hair", slice(0, 16)), ("skin", slice(8, 24)), ("nose", slice(16, 20))):
            save_mask(root, k, part, rows)
        lines.append(f"{k}.jpg  -1 {attributes(k)[0]} {attributes(k)[1]} 1")
    (root / ATTRIBUTES).write_text("\n".join(lines) + "\n")
    return root


def read_split(dataset: CelebAMaskHQ, split: Split) -> dict[int, Sample]:
    """The samples by image id."""
    samples = [dataset.read(split, index, SIZE) for index in range(dataset.size(split))]
    return {IDS[round(sample.image.mean() / 20)]: sample for sample in samples}


def read_all(root: Path) -> dict[int, Sample]:
    dataset = CelebAMaskHQ(root)
    return {k: sample for split in SPLITS for k, sample in read_split(dataset, split).items()}


def test_every_image_is_in_one_split(root: Path) -> None:
    dataset = CelebAMaskHQ(root)
    assert [dataset.size(split) for split in SPLITS] == [6, 2, 2]
    assert sorted(read_all(root)) == IDS


def test_splits_never_change(root: Path) -> None:
    dataset = CelebAMaskHQ(root)
    assert list(read_split(dataset, "val")) == [2001, 4100]
    assert list(read_split(dataset, "test")) == [1999, 4102]


def test_attributes(root: Path) -> None:
    for k, sample in read_all(root).items():
        found = sample.targets
        assert found["male"].shape == found["smile"].shape == ()
        assert found["male"].dtype == found["smile"].dtype == np.uint8
        assert found["male"] == (attributes(k)[0] == 1)
        assert found["smile"] == (attributes(k)[1] == 1)


def test_hair_goes_over_skin_and_skin_over_background(root: Path) -> None:
    classes = read_all(root)[7].targets["segmentation"]
    assert classes.shape == SIZE
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, np.repeat(np.array([2] * 8 + [1] * 4 + [0] * 4, np.uint8)[:, None], 12, axis=1))


def test_absent_parts_are_background(root: Path) -> None:
    mask_path(root, 7, "hair").unlink()
    assert np.unique(read_all(root)[7].targets["segmentation"]).tolist() == [0, 1]
    mask_path(root, 7, "skin").unlink()
    assert not read_all(root)[7].targets["segmentation"].any()


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = CelebAMaskHQ(root).fingerprint()
    assert re.fullmatch(r"celebamask_hq-[0-9a-f]{16}", before)
    moved = root.rename(tmp_path / "elsewhere")
    assert CelebAMaskHQ(moved).fingerprint() == before
    text = (moved / ATTRIBUTES).read_text()
    (moved / ATTRIBUTES).write_text(text.replace("7.jpg  -1 1", "7.jpg  -1 -1"))
    relabelled = CelebAMaskHQ(moved).fingerprint()
    mask_path(moved, 7, "hair").unlink()
    assert len({before, relabelled, CelebAMaskHQ(moved).fingerprint()}) == 3


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / ATTRIBUTES).read_text()
        assert old in text
        (root / ATTRIBUTES).write_text(text.replace(old, new, 1))

    return change


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
        (remove("."), "ROOT does not exist"),
        (make_file, "ROOT is not a directory"),
        (empty("."), f"ROOT has no CelebA-HQ-img/; expected CelebA-HQ-img/, {MASKS}/, {ATTRIBUTES}"),
        (remove(MASKS), f"ROOT has no {MASKS}/; expected CelebA-HQ-img/, {MASKS}/"),
        (remove(ATTRIBUTES), f"ROOT has no {ATTRIBUTES}; expected CelebA-HQ-img/, {MASKS}/"),
        (
            empty("CelebA-HQ-img"),
            f"10 of the 10 images listed in ROOT/{ATTRIBUTES} lack files, the first CelebA-HQ-img/0.jpg",
        ),
        (
            remove("CelebA-HQ-img/2000.jpg"),
            f"1 of the 10 images listed in ROOT/{ATTRIBUTES} lack files, the first CelebA-HQ-img/2000.jpg",
        ),
        (remove(f"{MASKS}/2"), f"3 of the 10 images listed in ROOT/{ATTRIBUTES} lack files, the first {MASKS}/2/04100"),
        (
            empty(f"{MASKS}/14"),
            f"2 of the 10 images listed in ROOT/{ATTRIBUTES} lack files, the first {MASKS}/14/29998",
        ),
        (edit("10\n", "11\n"), f"ROOT/{ATTRIBUTES} lists 10 images, its first line says 11"),
        (edit("Smiling ", ""), f"ROOT/{ATTRIBUTES} has no attribute Smiling among the 3 of line 2"),
        (edit("7.jpg  -1 1", "7.jpg  -1 0"), f"ROOT/{ATTRIBUTES} line 4 has Male 0; allowed are -1 and 1"),
        (edit("7.jpg  -1 1", "7.jpg  1"), f"ROOT/{ATTRIBUTES} line 4 is not 'K.jpg' and 4 labels"),
        (lambda root: (root / ATTRIBUTES).write_text(""), f"ROOT/{ATTRIBUTES} cannot be read"),
        (
            lambda root: (root / ATTRIBUTES).write_text("0\nMale Smiling\n"),
            f"ROOT/{ATTRIBUTES} lists 0 images; at least",
        ),
    ],
)
def test_incomplete_folder_is_refused(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(BadInput) as caught:
        CelebAMaskHQ(root)
    assert str(caught.value).startswith("dataset celebamask_hq: ")
    assert "\n" not in str(caught.value)
    assert message.replace("ROOT", str(root)) in str(caught.value)


def test_damaged_file_is_named(root: Path) -> None:
    mask_path(root, 0, "skin").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"00000_skin\.png cannot be read") as caught:
        read_all(root)
    assert "\n" not in str(caught.value)

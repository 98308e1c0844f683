"""The CelebA reader on a tiny folder in the published layouts, against torchvision's reader of the same lists."""

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CelebA as Torchvisions

from mtl.datasets.celeba.dataset import COLUMNS, LABELS, LANDMARKS, PARTITION, CelebA
from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES
from mtl.datasets.registry import load_dataset, recognise
from mtl.errors import BadInput
from mtl.tasks import IGNORE
from search.cli import main
from tests.support.celeba_folder import PARTITIONS, SIZE, label, point, write_celeba

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("folders", [("", "", ""), ("Img/", "Anno/", "Eval/"), ("celeba/", "celeba/", "celeba/")])
def test_what_is_read_is_what_is_stored(tmp_path: Path, folders: tuple[str, str, str]) -> None:
    root = write_celeba(tmp_path, folders)
    assert recognise(root) == "celeba"
    dataset = load_dataset("celeba", root)
    assert list(dataset.tasks) == [*ATTRIBUTES, "landmarks"]
    assert isinstance(dataset, CelebA)
    assert {split: len(ids) for split, ids in dataset.ids.items()} == {"train": 4, "val": 2, "test": 2}
    for k in PARTITIONS:
        sample = dataset.load(f"{k:06d}.jpg")
        assert sample.image.shape == (*SIZE, 3)
        assert (abs(sample.image.astype(int) - 20 * k) <= 1).all()
        assert all(sample.targets[one] == (label(k, one) > 0) for one in ATTRIBUTES)
        shares = sample.targets["landmarks"].reshape(5, 2)
        pixels = [
            [point(k, f"{part}_{axis}") for axis in "xy"]
            for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
        ]
        assert np.allclose(shares * SIZE[::-1] - 0.5, pixels, atol=1e-4)


def test_lists_are_read_as_torchvision_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_celeba(tmp_path, ("celeba/", "celeba/", "celeba/"))
    for name in ("identity_CelebA.txt", "list_bbox_celeba.txt"):  # which it wants, and we do not
        rows = [f"{k:06d}.jpg 1 1 1 1" for k in PARTITIONS]
        (root / "celeba" / name).write_text("\n".join((["8", "a b c d"] if "bbox" in name else []) + rows))
    monkeypatch.setattr(Torchvisions, "_check_integrity", lambda self: True)
    ours = CelebA(root)
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        theirs = Torchvisions(str(root), name, ["attr", "landmarks"])
        assert theirs.filename == ours.ids[split]  # type: ignore[index]
        for k, (_, (attributes, landmarks)) in enumerate(theirs):
            targets = ours.load(theirs.filename[k]).targets
            assert attributes.tolist() == [int(targets[one]) for one in theirs.attr_names if one]
            pixels = targets["landmarks"].reshape(5, 2) * [SIZE[1], SIZE[0]] - 0.5
            assert np.allclose(pixels.ravel(), landmarks, atol=1e-3)


def test_without_landmarks_there_is_no_such_task(tmp_path: Path) -> None:
    root = write_celeba(tmp_path)
    (root / LANDMARKS).unlink()
    assert "landmarks" not in CelebA(root).tasks


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_wrong_names_file_and_line(tmp_path: Path) -> None:
    root = write_celeba(tmp_path)
    edit(root / PARTITION, "000002.jpg 0", "000002.jpg 3")
    edit(root / PARTITION, "000003.jpg 0", "000001.jpg 0")
    edit(root / LABELS, "000004.jpg  -1", "000004.jpg  2") if label(4, ATTRIBUTES[0]) < 0 else None
    edit(root / LANDMARKS, f"000005.jpg    {point(5, COLUMNS[0])}", "000005.jpg    x")
    edit(root / LANDMARKS, "000006.jpg", "six.jpg")
    problems = CelebA(root).own_problems()
    for said in (
        f"{root / PARTITION} line 2: partition '3'; allowed: 0, 1, 2",
        f"{root / PARTITION} line 3: 000001.jpg is listed already in line 1",
        f"{root / LANDMARKS} line 7: has a coordinate that is no whole number",
        f"{root / LANDMARKS} line 8: begins with 'six.jpg', 11 words; allowed: "
        "a name such as 000001.jpg, and 10 columns",
        f"{root / LANDMARKS}: has no line for 000006.jpg",
    ):
        assert said in problems
    assert CelebA(root).load("000005.jpg").targets["landmarks"].shape == (10,)
    assert IGNORE not in {int(CelebA(root).load("000001.jpg").targets[one]) for one in ATTRIBUTES}


def test_what_is_not_there(tmp_path: Path) -> None:
    root = write_celeba(tmp_path)
    (root / "img_align_celeba" / "000003.jpg").unlink()
    assert CelebA(root).problems == [f"{root}/img_align_celeba/000003.jpg is missing"]
    edit(root / LABELS, ATTRIBUTES[0], "Beard")
    with pytest.raises(BadInput, match="line 2: has Beard, "):
        CelebA(root)
    (root / PARTITION).unlink()
    with pytest.raises(BadInput, match=f"has no {PARTITION}; expected CelebA as published"):
        CelebA(root)


def test_check_tallies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_celeba(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    main(["datasets", "check", "data"])
    text = capsys.readouterr().out
    assert "celeba in data" in text
    assert "landmarks: 10 numbers in side lengths" in text
    assert "40 binary labels, share of yes" in text

"""The PASCAL-Context reader on a tiny folder in the layout of PASCAL_MT."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mtl.datasets.pascal_context.dataset import PascalContext
from mtl.datasets.pascal_context.labels import CLASSES, HAS_NORMALS, PART_OF, PARTS, label_edges
from mtl.datasets.registry import load_dataset, recognise
from mtl.errors import BadInput
from mtl.tasks import IGNORE
from search.cli import main
from tests.support.pascal_folder import SIZE, TEST, TRAIN, rows, write_parts, write_pascal_context

Capture = pytest.CaptureFixture[str]


def test_labels() -> None:
    # PASCAL VOC numbers its classes in alphabetical order, and PASCAL-Part has 24 parts of a person.
    assert list(CLASSES[1:]) == sorted(CLASSES[1:])
    assert len(CLASSES) == 21
    assert len(PART_OF) == 24
    assert set(PART_OF.values()) == set(range(1, len(PARTS)))
    assert PARTS[PART_OF["rfoot"]] == "lower leg"
    assert PARTS[PART_OF["lhand"]] == "lower arm"
    assert HAS_NORMALS.sum() == 170
    # sky, grass and water have none; person, wall and tvmonitor have.
    assert not HAS_NORMALS[[0, 360, 187, 445]].any()
    assert HAS_NORMALS[[284, 440, 427]].all()


def test_edges_are_one_pixel_between_two_labels() -> None:
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert label_edges(labels).tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_what_is_read_is_what_is_stored(tmp_path: Path) -> None:
    root = write_pascal_context(tmp_path)
    assert recognise(root) == "pascal_context"
    dataset = load_dataset("pascal_context", root)
    assert list(dataset.tasks) == ["segmentation", "human_parts", "normals", "saliency", "edges"]
    assert isinstance(dataset, PascalContext)
    assert dataset.ids == {"train": [*TRAIN[:9], TRAIN[10]], "val": [TRAIN[9]], "test": TEST}
    targets = dataset.load(TRAIN[0]).targets
    assert set(targets["segmentation"][:, 3].tolist()) == {IGNORE}
    assert set(np.delete(targets["segmentation"], 3, 1).ravel().tolist()) == {CLASSES.index("aeroplane")}
    parts = [PARTS[k] for k in targets["human_parts"][:, 0]]
    assert parts == ["torso"] * 8 + ["lower arm", "head"] + ["lower arm"] * 2 + ["background"] * 8
    assert (targets["normals"][:, :10] == 0).all()  # sky
    assert np.allclose(targets["normals"][:, 10:], [0, 0, 1], atol=0.01)
    assert targets["saliency"][:, 0].tolist() == [1] * 5 + [0] * 15
    assert targets["edges"][:, 9].all()
    assert targets["edges"].sum() == SIZE[0]
    # An image that VOC has no classes for, and no people in; and one with a person without parts.
    assert set(dataset.load(TRAIN[1]).targets["segmentation"].ravel().tolist()) == {2}
    for name in TRAIN[1:3]:
        assert (dataset.load(name).targets["human_parts"] == IGNORE).all()


def test_tasks_follow_from_the_folders(tmp_path: Path) -> None:
    root = write_pascal_context(tmp_path)
    (root / "pascal-context").rename(root / "context")
    assert list(PascalContext(root).tasks) == ["segmentation", "human_parts", "saliency"]
    for folder in ("semseg", "human_parts", "sal_distill"):
        (root / folder).rename(root / f"no {folder}")
    with pytest.raises(BadInput, match="has no targets; allowed: semseg/, human_parts/"):
        PascalContext(root)


def test_what_is_wrong_names_the_file(tmp_path: Path) -> None:
    root = write_pascal_context(tmp_path)

    def said(**options: object) -> str:
        with pytest.raises(BadInput) as caught:
            PascalContext(root, **options).load(TRAIN[0])  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert said(split="all") == "dataset_options.split: 'all'; allowed: held_out, published"
    assert "names 11 images to train on and 2 to test on; allowed: 4998 and 5105" in said(split="published")
    path = root / "pascal-context/trainval" / f"{TRAIN[0]}.mat"
    savemat(path, {"LabelMap": np.full(SIZE, 460, np.uint16)})
    assert said() == f"file {path}: holds label 460; allowed: 0..459"
    savemat(path, {"labels": np.zeros(SIZE)})
    assert said() == f"file {path}: has no variable LabelMap"
    path = root / "human_parts" / f"{TRAIN[0]}.mat"
    write_parts(path, [{"tail": rows(0, 3)}])
    assert said().startswith(f"file {path}: a person has the part 'tail'; allowed: hair, head,")
    path.write_bytes(b"no MATLAB")
    assert said().startswith(f"file {path}: cannot be read as an annotation of parts in MATLAB 5")
    path = root / "semseg/VOC12" / f"{TRAIN[0]}.png"
    Image.fromarray(np.full(SIZE, 21, np.uint8)).save(path)
    assert said() == f"file {path}: holds label 21; allowed: 0..20, and 255"
    (root / "sal_distill" / f"{TEST[1]}.png").unlink()
    assert PascalContext(root).problems == [f"{root}/sal_distill/{TEST[1]}.png is missing"]


def test_check_tallies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_pascal_context(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "check", "data"]) == 0
    text = capsys.readouterr().out
    assert "pascal_context in data" in text
    assert "human_parts: 7 classes" in text
    assert "edges: 1 on an edge" in text

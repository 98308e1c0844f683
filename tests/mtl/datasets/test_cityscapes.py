"""The Cityscapes readers on tiny folders in each layout, and its label tables against torchvision's."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision.datasets import Cityscapes as Torchvisions

from mtl.datasets.cityscapes.labels import CLASS_OF, LABELS, NINETEEN, SEVEN
from mtl.datasets.cityscapes.layouts import open_cityscapes
from mtl.datasets.registry import load_dataset, recognise
from mtl.errors import BadInput
from mtl.tasks import IGNORE
from search.cli import main
from tests.support.cityscapes_folder import BASELINE, FOCAL, SIZE, Street, write_cityscapes, write_cityscapes_mtan
from tests.support.nyuv2_folders import write_mtan

Capture = pytest.CaptureFixture[str]


def test_labels_are_torchvisions() -> None:
    for label in Torchvisions.classes:
        if label.id < 0:  # the licence plate, which no file has
            continue
        assert LABELS[label.id] == label.name
        assert CLASS_OF[19][label.id] == label.train_id
        if label.train_id != IGNORE:
            assert NINETEEN[label.train_id] == label.name
        category = CLASS_OF[7][label.id]
        assert (SEVEN[category] if category != IGNORE else "void") == label.category
    assert (CLASS_OF[7][len(LABELS) :] == IGNORE).all()


@pytest.fixture
def streets(tmp_path: Path) -> dict[str, Street]:
    return write_cityscapes(tmp_path)


@pytest.mark.parametrize("classes", [7, 19])
def test_what_is_read_is_what_is_stored(tmp_path: Path, streets: dict[str, Street], classes: int) -> None:
    dataset = open_cityscapes(tmp_path, classes=classes)
    assert not dataset.problems
    assert recognise(tmp_path) == "cityscapes"
    assert list(dataset.tasks) == ["segmentation", "disparity", "depth"]
    for name, street in streets.items():
        sample = dataset.load(name)
        assert np.array_equal(sample.image, street.image)
        assert np.array_equal(sample.targets["segmentation"], CLASS_OF[classes][street.ids])  # type: ignore[index]
        pixels = (street.disparity.astype(np.float64) - 1) / 256
        known = street.disparity > 1
        assert np.allclose(sample.targets["disparity"], np.where(known, pixels, 0))
        metres = np.divide(BASELINE * FOCAL, pixels, where=known, out=np.zeros(SIZE))
        assert np.allclose(sample.targets["depth"], np.where(pixels >= 1, metres, 0))
        assert sample.targets["depth"][0, :4].tolist() == pytest.approx([0, 0, 0, BASELINE * FOCAL])


def test_cities_validate_and_the_published_val_tests(tmp_path: Path, streets: dict[str, Street]) -> None:
    dataset = open_cityscapes(tmp_path)
    cities = {split: {one.split("/")[1] for one in ids} for split, ids in dataset.ids.items()}
    assert cities == {"train": {"aachen", "bochum"}, "val": {"zurich"}, "test": {"frankfurt", "munster"}}
    assert [len(dataset.ids[split]) for split in ("train", "val", "test")] == [6, 3, 6]
    for city in ("c", "d", "e", "f"):
        (tmp_path / "leftImg8bit" / "train" / city).mkdir()
        image = tmp_path / "leftImg8bit" / "train" / city / f"{city}_0_0_leftImg8bit.png"
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(image)
    held = {one.split("/")[1] for one in open_cityscapes(tmp_path).ids["val"]}
    assert held == {"f"}  # the sixth of aachen, bochum, c, d, e, f, zurich


def test_mtans_unit_is_that_of_mtans_files(tmp_path: Path, streets: dict[str, Street]) -> None:
    pixels, mtan = open_cityscapes(tmp_path), open_cityscapes(tmp_path, disparity="mtan")
    assert (pixels.tasks["disparity"].unit, mtan.tasks["disparity"].unit) == ("px", "256 px")
    name = mtan.ids["train"][0]
    maps = [dataset.load(name).targets["disparity"] for dataset in (pixels, mtan)]
    assert np.allclose(maps[0], 256 * maps[1])
    assert pixels.fingerprint() != mtan.fingerprint()


@pytest.mark.parametrize("labels", ["label", "label_7"])
def test_mtans_files(tmp_path: Path, labels: str) -> None:
    maps = write_cityscapes_mtan(tmp_path, labels)
    dataset = load_dataset("cityscapes", tmp_path, {})
    assert {name: task.kind for name, task in dataset.tasks.items()} == {
        "segmentation": "segmentation",
        "disparity": "disparity",
    }
    assert dataset.tasks["segmentation"].classes == SEVEN
    assert [dataset.size(split) for split in ("train", "val", "test")] == [8, 1, 2]
    for index, k in enumerate([0, 1, 2, 3, 4, 5, 7, 8]):
        targets = dataset.read("train", index, SIZE).targets
        stored = maps[f"train/{k}"]
        assert np.array_equal(targets["segmentation"], np.where(stored < 0, IGNORE, stored))
        assert targets["disparity"].max() <= 0.4922
    if labels == "label_7":
        assert recognise(tmp_path) == "cityscapes"


def test_nyuv2s_folder_is_still_nyuv2s(tmp_path: Path) -> None:
    write_mtan(tmp_path)
    assert recognise(tmp_path) == "nyuv2"


def test_a_task_without_its_folder_is_absent(tmp_path: Path, streets: dict[str, Street]) -> None:
    (tmp_path / "camera").rename(tmp_path / "cameras")
    assert list(open_cityscapes(tmp_path).tasks) == ["segmentation", "disparity"]
    (tmp_path / "disparity").rename(tmp_path / "disparities")
    assert list(open_cityscapes(tmp_path).tasks) == ["segmentation"]


def test_what_is_wrong_names_the_file(tmp_path: Path, streets: dict[str, Street]) -> None:
    name = "train/aachen/aachen_000000_000019"
    mask = tmp_path / "gtFine" / f"{name}_gtFine_labelIds.png"
    disparity, camera = tmp_path / "disparity" / f"{name}_disparity.png", tmp_path / "camera" / f"{name}_camera.json"

    def said(**options: object) -> str:
        with pytest.raises(BadInput) as caught:
            open_cityscapes(tmp_path, **options).load(name)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    camera.write_text(json.dumps({"extrinsic": {"baseline": -1}, "intrinsic": {"fx": 3}}))
    assert said() == f"file {camera}: baseline x fx is -3; allowed: above 0"
    camera.write_text("{}")
    assert said().startswith(f"file {camera}: cannot be read as a camera in JSON ('extrinsic')")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(disparity)
    assert said() == f"file {disparity}: holds uint8 {SIZE}; allowed: one channel of 16 bits"
    Image.fromarray(np.full(SIZE, 40, np.uint8)).save(mask)
    assert said() == f"file {mask}: holds label 40; allowed: 0..33, as in files called …_labelIds.png"
    assert said(classes=8) == "dataset_options.classes: 8; allowed: 7, 19"
    assert said(split="all") == "dataset_options.split: 'all'; allowed: held_out, published"
    assert said(disparity="metres") == "dataset_options.disparity: 'metres'; allowed: pixels, mtan"
    assert "has 9 images to train on and 6 to test on; allowed: 2975 and 500" in said(split="published")
    mask.unlink()
    assert open_cityscapes(tmp_path).problems == [f"{mask} is missing"]


def test_check_tallies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_cityscapes(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "check", "data", "--option", "classes=7"]) == 0
    text = capsys.readouterr().out
    assert "cityscapes in data" in text
    assert "segmentation: 7 classes, share of the labelled pixels" in text
    assert "disparity: px" in text
    assert (tmp_path / "cityscapes-contact-sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("write", [write_cityscapes, write_cityscapes_mtan])
def test_the_recipe_trains_on_either_layout(write: Callable[[Path], object], tmp_path: Path) -> None:
    """The shipped recipe, with a network that takes a moment."""
    write(tmp_path / "data")
    small = ["backbone=resnet18", "backbone_width=8", "backbone_layers=[1,1,1,1]", "head_channels=8", "weights="]
    small += ["image_size=[32,64]", "epochs=1", "seeds=1", "lambdas=0", "combinations=segmentation+disparity"]
    small += ["gpus_per_trial=0", "cpus_per_trial=1", "batch_size=4", "dataset_options.split=held_out"]
    overrides = [word for text in small for word in ("--set", text)]
    words = ["train", "cityscapes", "--data", str(tmp_path / "data"), "--storage", str(tmp_path), *overrides]
    assert main(words) == 0
    (row,) = pd.read_parquet(tmp_path / "cityscapes" / "results.parquet").to_dict("records")
    reported = ("segmentation_miou", "segmentation_pixel_accuracy", "disparity_mae", "disparity_abs_rel")
    assert all(np.isfinite(row[f"{split}_{name}"]) for split in ("val", "test") for name in reported)
    assert "test_disparity_rmse" not in row
    metrics = json.loads((tmp_path / "cityscapes" / "sweep.json").read_text())["metrics"]
    assert metrics["disparity_mae"] == {"label": "disparity MAE", "direction": "minimize", "unit": "256 px"}

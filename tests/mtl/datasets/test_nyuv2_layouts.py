"""The three layouts of NYU-Depth-v2, written in small and read back, whole and damaged; and real frames."""

import copy
import multiprocessing
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mtl.datasets.base import SPLITS
from mtl.datasets.nyuv2.classes import FORTY, FORTY_OF_RAW, THIRTEEN, THIRTEEN_OF_FORTY
from mtl.datasets.nyuv2.layouts import open_nyuv2, recognise_nyuv2
from mtl.datasets.nyuv2.normals_from_depth import normals_from_depth
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.tasks import IGNORE
from tests.support.nyuv2_folders import SIZE, TEST, TRAIN, raw_names, write_mtan, write_nyud_mt, write_official
from tests.support.paths import SHARED

LISTS = {"train": ["0001", "0002", "0003"], "val": ["0010"], "test": ["0020", "0021"]}
MAT = "nyu_depth_v2_labeled.mat"


@pytest.fixture
def nyud_mt(tmp_path: Path) -> Path:
    write_nyud_mt(tmp_path / "NYUD_MT", LISTS)
    return tmp_path / "NYUD_MT"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two larger sets, written once and copied by the tests."""
    folder = tmp_path_factory.mktemp("pristine")
    write_mtan(folder / "mtan")
    write_official(folder / "official")
    return folder


@pytest.fixture
def mtan(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine / "mtan", tmp_path / "mtan")


@pytest.fixture
def mtan_to_damage(pristine: Path) -> Iterator[Path]:
    """A set whose first two frames may be damaged: they are put back, which is faster than a copy of all."""
    before = {path: path.read_bytes() for path in (pristine / "mtan").glob("train/*/[01].npy")}
    yield pristine / "mtan"
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture
def official(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine / "official", tmp_path / "official")


def forty(labels: np.ndarray) -> np.ndarray:
    """Labels 0..40 and 255 as classes counted from 0."""
    return np.where((labels == 0) | (labels == IGNORE), IGNORE, labels.astype(int) - 1)


# What is read


def test_nyud_mt_is_read_as_written(tmp_path: Path) -> None:
    frames = write_nyud_mt(tmp_path / "set", LISTS)
    dataset = open_nyuv2(tmp_path / "set")
    assert (dataset.name, dataset.layout, dataset.notes) == ("nyuv2", "NYUD_MT folder", ())
    assert dataset.problems == []
    assert dataset.ids == LISTS
    assert list(dataset.tasks) == ["segmentation", "depth", "normals"]
    assert dataset.tasks["segmentation"].classes == FORTY
    for sample_id, frame in frames.items():
        sample = dataset.load(sample_id)
        assert np.array_equal(sample.image, frame.image)
        assert np.array_equal(sample.targets["segmentation"], forty(frame.labels))
        assert sample.targets["depth"][0, :4].tolist() == [0, 0, 0, 0]
        assert np.array_equal(sample.targets["depth"][1:], frame.depth[1:])
        assert not sample.targets["normals"][0, :3].any()
        assert np.allclose(sample.targets["normals"][1:], frame.normals[1:], atol=1e-6)


@pytest.mark.parametrize("repeated", [False, True])
def test_nyud_mt_with_the_published_pair_of_lists(tmp_path: Path, repeated: bool) -> None:
    train, val = [f"{k:04d}" for k in range(70)], ["0900", "0901"]
    write_nyud_mt(tmp_path / "set", {"train": train, "val": val} | ({"test": val} if repeated else {}))
    assert open_nyuv2(tmp_path / "set").ids == {"train": train[:64], "val": train[64:], "test": val}


def test_nyud_mt_images_may_be_jpg(nyud_mt: Path) -> None:
    (nyud_mt / "images" / "0010.png").unlink()
    Image.new("RGB", (SIZE[1], SIZE[0]), (200, 100, 50)).save(nyud_mt / "images" / "0010.jpg")
    dataset = open_nyuv2(nyud_mt)
    assert dataset.problems == []
    assert np.abs(dataset.load("0010").image.astype(int) - (200, 100, 50)).max() <= 2


def test_nyud_mt_in_the_first_published_formats(tmp_path: Path) -> None:
    frames = write_nyud_mt(tmp_path / "set", LISTS)
    before = open_nyuv2(tmp_path / "set")
    samples = {sample_id: before.load(sample_id) for sample_id in frames}
    for sample_id, frame in frames.items():
        for file in (f"segmentation/{sample_id}.png", f"depth/{sample_id}.npy", f"normals/{sample_id}.npy"):
            (tmp_path / "set" / file).unlink()
        savemat(tmp_path / "set" / "segmentation" / f"{sample_id}.mat", {"segmentation": frame.labels.astype(float)})
        savemat(tmp_path / "set" / "depth" / f"{sample_id}.mat", {"depth": frame.depth})
        normals = samples[sample_id].targets["normals"]
        colors = np.rint(127.5 * (normals + 1)).astype(np.uint8)
        # The published ones are .jpg, which loses too much of random normals to be compared.
        Image.fromarray(colors).save(tmp_path / "set" / "normals" / f"{sample_id}.png")
    after = open_nyuv2(tmp_path / "set")
    assert after.problems == []
    for sample_id, sample in samples.items():
        found = after.load(sample_id).targets
        for task in ("segmentation", "depth"):
            assert np.array_equal(found[task], sample.targets[task])
            assert found[task].dtype == sample.targets[task].dtype
        assert np.abs(found["normals"] - sample.targets["normals"]).max() < 0.01
        assert not found["normals"][0, :3].any()


def test_nyud_mt_normals_may_be_jpg(nyud_mt: Path) -> None:
    (nyud_mt / "normals" / "0001.npy").unlink()
    Image.new("RGB", SIZE[::-1], (128, 52, 26)).save(nyud_mt / "normals" / "0001.jpg")
    dataset = open_nyuv2(nyud_mt)
    assert dataset.problems == []
    assert np.abs(dataset.load("0001").targets["normals"] - [0, -0.6, -0.8]).max() < 0.02


def test_absent_folders_are_absent_tasks(nyud_mt: Path, mtan: Path) -> None:
    for folder in (nyud_mt / "segmentation", mtan / "train" / "label", mtan / "val" / "label"):
        shutil.rmtree(folder)
    for root in (nyud_mt, mtan):
        dataset = open_nyuv2(root)
        assert list(dataset.tasks) == ["depth", "normals"]
        assert set(dataset.read("train", 0, SIZE).targets) == {"depth", "normals"}


def test_absent_normals_are_computed_from_depth(nyud_mt: Path, mtan: Path) -> None:
    for root, folders in ((nyud_mt, ["normals"]), (mtan, ["train/normal", "val/normal"])):
        before = open_nyuv2(root).fingerprint()
        for folder in folders:
            shutil.rmtree(root / folder)
        dataset = open_nyuv2(root)
        assert list(dataset.tasks) == ["segmentation", "depth", "normals"]
        assert [note.startswith("normals are computed from depth") for note in dataset.notes] == [True]
        targets = dataset.load(dataset.ids["train"][0]).targets
        assert np.array_equal(targets["normals"], normals_from_depth(targets["depth"]))
        assert dataset.variant() != ""
        assert dataset.fingerprint() != before


def test_no_normals_without_depth(nyud_mt: Path) -> None:
    for folder in ("normals", "depth"):
        shutil.rmtree(nyud_mt / folder)
    assert list(open_nyuv2(nyud_mt).tasks) == ["segmentation"]


def test_mtan_is_read_as_written(tmp_path: Path) -> None:
    frames = write_mtan(tmp_path / "set")
    dataset = open_nyuv2(tmp_path / "set")
    assert (dataset.name, dataset.layout, dataset.notes) == ("nyuv2", "MTAN folder", ())
    assert dataset.problems == []
    assert dataset.ids == {
        "train": [f"train/{k}" for k in range(64)],
        "val": [f"train/{k}" for k in range(64, TRAIN)],
        "test": [f"val/{k}" for k in range(TEST)],
    }
    assert dataset.tasks["segmentation"].classes == FORTY
    for sample_id, frame in frames.items():
        sample = dataset.load(sample_id)
        assert np.array_equal(sample.image, frame.image)
        assert np.array_equal(sample.targets["segmentation"], forty(frame.labels))
        assert np.array_equal(sample.targets["depth"], frame.depth)
        assert np.allclose(sample.targets["normals"], frame.normals, atol=1e-6)


@pytest.mark.parametrize("label_type", [np.int8, np.int64, np.float32, np.float64])
def test_mtan_of_thirteen_classes(tmp_path: Path, label_type: type) -> None:
    frames = write_mtan(tmp_path / "set", labels=13, label_type=label_type)
    for option in (None, 13):
        dataset = open_nyuv2(tmp_path / "set", option)
        assert dataset.tasks["segmentation"].classes == THIRTEEN
        for sample_id in ("train/0", "val/1"):
            assert np.array_equal(dataset.load(sample_id).targets["segmentation"], forty(frames[sample_id].labels))
    with pytest.raises(BadInput, match="classes: 40; allowed: 13"):
        open_nyuv2(tmp_path / "set", 40)


def test_mtan_of_forty_classes_is_told_by_few_labels(tmp_path: Path) -> None:
    write_mtan(tmp_path / "set", labels=13)
    path = tmp_path / "set" / "train" / "label" / "33.npy"
    np.save(path, np.full(SIZE, 39))
    # Of 66 files 22 are looked at, every third from the first.
    assert open_nyuv2(tmp_path / "set").tasks["segmentation"].classes == FORTY
    np.save(path, np.zeros(SIZE))
    np.save(path.with_name("34.npy"), np.full(SIZE, 39))
    dataset = open_nyuv2(tmp_path / "set")
    assert dataset.tasks["segmentation"].classes == THIRTEEN
    with pytest.raises(BadInput, match=r"34.npy: holds label 39; allowed: -1..12, as none of 32 label files"):
        dataset.load("train/34")


def test_mtan_layouts_of_the_last_axis_and_of_numbers(mtan_to_damage: Path) -> None:
    depth, label = mtan_to_damage / "train" / "depth" / "0.npy", mtan_to_damage / "train" / "label" / "0.npy"
    before = open_nyuv2(mtan_to_damage).load("train/0")
    np.save(depth, np.load(depth, allow_pickle=False)[..., 0].astype(np.float64))
    np.save(label, np.load(label, allow_pickle=False)[..., np.newaxis])
    after = open_nyuv2(mtan_to_damage).load("train/0")
    for task in ("segmentation", "depth"):
        assert np.array_equal(before.targets[task], after.targets[task])
        assert before.targets[task].dtype == after.targets[task].dtype


def test_mtan_images_are_rounded(mtan_to_damage: Path) -> None:
    image = np.zeros((*SIZE, 3))
    image[0, 0], image[0, 1] = [100.6 / 255, 100.4 / 255, -0.05], [1.05, 1, 254.6 / 255]
    np.save(mtan_to_damage / "train" / "image" / "0.npy", image)
    assert open_nyuv2(mtan_to_damage).load("train/0").image[0, :2].tolist() == [[101, 100, 0], [255, 255, 255]]


def test_official_is_read_as_written(tmp_path: Path) -> None:
    frames = write_official(tmp_path / "set")
    dataset = open_nyuv2(tmp_path / "set")
    assert (dataset.name, dataset.layout) == ("nyuv2", "official .mat file")
    assert [note.startswith("normals are computed from depth") for note in dataset.notes] == [True]
    assert dataset.problems == []
    every = list(frames)
    assert dataset.ids == {"train": every[:64], "val": every[64:TRAIN], "test": every[TRAIN:]}
    assert dataset.tasks["segmentation"].classes == FORTY
    for sample_id, frame in frames.items():
        sample = dataset.load(sample_id)
        assert np.array_equal(sample.image, frame.image)
        assert np.array_equal(sample.targets["segmentation"], FORTY_OF_RAW[frame.labels])
        assert np.array_equal(sample.targets["depth"], frame.depth)
        assert np.array_equal(sample.targets["normals"], normals_from_depth(frame.depth))
        assert sample.image.flags.c_contiguous
        assert all(target.flags.c_contiguous for target in sample.targets.values())


def test_official_is_opened_once_in_each_process(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_nyuv2(official)
    opened: list[Path] = []
    open_file = h5py.File
    monkeypatch.setattr(
        h5py, "File", lambda path, *args, **named: opened.append(path) or open_file(path, *args, **named)
    )
    dataset.load("0001")
    assert opened == []
    monkeypatch.setattr("os.getpid", lambda: -1)
    for sample_id in ("0001", "0002"):
        dataset.load(sample_id)
    assert opened == [official / MAT]
    assert copy.deepcopy(dataset).load("0003").image.shape == (*SIZE, 3)
    assert opened == [official / MAT] * 2


def read_image(dataset: Any, sample_id: str) -> np.ndarray:
    return dataset.load(sample_id).image


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_official_is_read_in_other_processes(official: Path, start: str) -> None:
    dataset = open_nyuv2(official)
    here = dataset.load("0003").image  # so that the file is open
    with multiprocessing.get_context(start).Pool(1 + (start == "fork")) as pool:
        for there in pool.starmap(read_image, [(dataset, "0003")] * 4):
            assert np.array_equal(there, here)
    assert np.array_equal(dataset.load("0003").image, here)


@pytest.mark.parametrize("layout", ["nyud_mt", "mtan", "official"])
def test_thirteen_classes_of_forty(layout: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    fine, coarse = open_nyuv2(root, 40), open_nyuv2(root, 13)
    assert open_nyuv2(root).fingerprint() == fine.fingerprint() != coarse.fingerprint()
    assert coarse.tasks["segmentation"].classes == THIRTEEN
    sample_id = fine.ids["train"][0]
    labels = fine.load(sample_id).targets["segmentation"]
    assert np.array_equal(coarse.load(sample_id).targets["segmentation"], THIRTEEN_OF_FORTY[labels])
    with pytest.raises(BadInput, match=r"dataset_options.classes: 20; allowed: 40, 13"):
        open_nyuv2(root, 20)


@pytest.mark.parametrize("layout", ["nyud_mt", "mtan", "official"])
def test_samples_at_any_size(layout: str, request: pytest.FixtureRequest) -> None:
    dataset = load_dataset("nyuv2", request.getfixturevalue(layout), {"classes": 13})
    for size in ((12, 16), SIZE, (30, 30)):
        sample = dataset.read("val", 0, size)
        assert (sample.image.shape, sample.image.dtype) == ((*size, 3), np.uint8)
        forms = {name: (target.shape, target.dtype.name) for name, target in sample.targets.items()}
        assert forms == {
            "segmentation": (size, "uint8"),
            "depth": (size, "float32"),
            "normals": ((*size, 3), "float32"),
        }


@pytest.mark.parametrize("layout", ["nyud_mt", "mtan", "official"])
def test_fingerprint(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(layout)
    before = open_nyuv2(root).fingerprint()
    assert re.fullmatch(r"nyuv2-[0-9a-f]{16}", before)
    moved = root.rename(tmp_path / "elsewhere")
    assert open_nyuv2(moved).fingerprint() == before
    changed = {"nyud_mt": "images/0001.png", "mtan": "train/depth/7.npy", "official": MAT}[layout]
    with (moved / changed).open("ab") as stream:
        stream.write(b"0")
    assert open_nyuv2(moved).fingerprint() != before


# What is refused


@pytest.mark.parametrize("layout", ["nyud_mt", "mtan", "official"])
def test_recognised(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    assert recognise_nyuv2(request.getfixturevalue(layout))
    assert not recognise_nyuv2(tmp_path)
    assert not recognise_nyuv2(tmp_path / "nowhere")


def refusal(root: Path, option: Any = None) -> str:
    """The message, "ROOT" for the folder's path."""
    with pytest.raises(BadInput) as caught:
        open_nyuv2(root, option)
    message = str(caught.value).replace(str(root), "ROOT")
    assert "\n" not in message
    return message


def test_unknown_folders(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refusal(tmp_path / "nowhere") == "dataset nyuv2: ROOT does not exist"
    assert refusal(file) == "dataset nyuv2: ROOT is not a directory"
    assert refusal(tmp_path) == (
        "dataset nyuv2: ROOT has no layout that is known; looked for images/ and gt_sets/ (NYUD_MT); "
        "train/image/ and val/image/ (MTAN); nyu_depth_v2_labeled.mat (official)"
    )


def remove(*names: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content.encode() if isinstance(content, str) else content)


def save(name: str, values: np.ndarray) -> Callable[[Path], object]:
    return lambda root: np.save(root / name, values, allow_pickle=values.dtype == object)


def truncate(name: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])

    return change


def empty(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return change


def drop(variable: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with h5py.File(root / MAT, "a") as file:
            del file[variable]

    return change


def replace(variable: str, values: np.ndarray) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with h5py.File(root / MAT, "a") as file:
            del file[variable]
            file[variable] = values

    return change


def split(**variables: Any) -> Callable[[Path], None]:
    numbers = {"trainNdxs": np.arange(1, 67), "testNdxs": np.arange(67, 69)}
    return lambda root: savemat(root / "splits.mat", {k: v for k, v in (numbers | variables).items() if v is not None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("segmentation", "depth", "normals"), "folder ROOT: has no targets; allowed: segmentation/, depth/, no"),
        (remove("gt_sets/train.txt"), "file ROOT/gt_sets/train.txt: cannot be read as text"),
        (write("gt_sets/val.txt", b"\xff\xfe"), "file ROOT/gt_sets/val.txt: cannot be read as text"),
        (write("gt_sets/val.txt", "\n"), "file ROOT/gt_sets/val.txt: is empty"),
        (remove("gt_sets/test.txt"), "file ROOT/gt_sets/train.txt has 3 frames, of which every fifth block of 16"),
    ],
)
def test_unreadable_nyud_mt_is_refused(nyud_mt: Path, change: Callable[[Path], object], message: str) -> None:
    change(nyud_mt)
    assert message in refusal(nyud_mt)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            remove("train/label", "train/depth", "train/normal"),
            "folder ROOT/train: has no targets; allowed: label/, depth/, normal/",
        ),
        (
            lambda root: [empty(f"val/{folder}")(root) for folder in ("image", "label", "depth", "normal")],
            "folder ROOT/val has no frames; allowed: image, label, depth, normal/K.npy",
        ),
        (
            lambda root: [(root / "train" / f / f"{k}.npy").unlink() for f in ("image", "label", "depth", "normal")
                          for k in range(10)],
            "folder ROOT/train has 56 frames, of which every fifth block of 16 is to validate; allowed: 65 or more",
        ),
    ],
)  # fmt: skip
def test_unreadable_mtan_is_refused(mtan: Path, change: Callable[[Path], object], message: str) -> None:
    change(mtan)
    assert message in refusal(mtan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate(MAT), f"file ROOT/{MAT}: cannot be read as MATLAB 7.3 ("),
        (write(MAT, "no such thing"), f"file ROOT/{MAT}: cannot be read as MATLAB 7.3 ("),
        *[
            (drop(name), f"file ROOT/{MAT}: has no variable {name}; allowed: images, depths, labels, names")
            for name in ("images", "depths", "labels", "names")
        ],
        (
            replace("labels", np.zeros((0, *SIZE[::-1]), np.uint16)),
            f"file ROOT/{MAT}: images is uint8 (68, 3, 32, 24); allowed: uint8 (N, 3, W, H), the same N, W and H in",
        ),
        (
            replace("depths", np.zeros((68, *SIZE), np.float32)),
            f"file ROOT/{MAT}: depths is float32 (68, 24, 32); allowed: float32 or float64 (N, W, H), the same",
        ),
        (replace("images", np.zeros((68, 3, *SIZE[::-1]), np.float32)), f"file ROOT/{MAT}: images is float32 (68, 3"),
        (replace("images", np.zeros((68, *SIZE[::-1], 3), np.uint8)), f"file ROOT/{MAT}: images is uint8 (68, 32"),
        (replace("labels", np.zeros((68, 768), np.uint16)), f"file ROOT/{MAT}: images is uint8 (68, 3, 32, 24)"),
        (replace("labels", np.zeros((68, *SIZE[::-1]), np.uint8)), "labels is uint8 (68, 32, 24); allowed: uint16 (N"),
        (replace("names", np.zeros(3)), f"file ROOT/{MAT}: names has 3 entries; allowed: 894 texts"),
        (remove("splits.mat"), f"file ROOT/splits.mat: is missing; it lists the splits of {MAT}"),
        (write("splits.mat", "no such thing"), "file ROOT/splits.mat: cannot be read as MATLAB 5 ("),
        (truncate("splits.mat"), "file ROOT/splits.mat: "),
        (split(trainNdxs=None), "file ROOT/splits.mat: has no variable trainNdxs"),
        (split(testNdxs=[]), "file ROOT/splits.mat: testNdxs is empty; allowed: frame numbers 1..68"),
        (split(testNdxs=[67, 69]), "file ROOT/splits.mat: testNdxs has 69; allowed: frame numbers 1..68"),
        (split(testNdxs=[0, 67]), "file ROOT/splits.mat: testNdxs has 0; allowed: frame numbers 1..68"),
        (split(testNdxs=[66.5]), "file ROOT/splits.mat: testNdxs has 66.5; allowed: frame numbers 1..68"),
        (split(testNdxs="text"), "file ROOT/splits.mat: testNdxs is <U4; allowed: frame numbers 1..68"),
        (split(trainNdxs=np.arange(1, 9)), "file ROOT/splits.mat: trainNdxs has 8 frames, of which every fifth block"),
    ],
)
def test_unreadable_official_is_refused(official: Path, change: Callable[[Path], object], message: str) -> None:
    change(official)
    assert message in refusal(official)


def test_official_with_other_names_is_refused(tmp_path: Path) -> None:
    names = raw_names()
    names[20], names[21] = names[21], names[20]
    write_official(tmp_path / "set", names)
    assert refusal(tmp_path / "set") == f"file ROOT/{MAT}: names has 'thing 22' as number 21; allowed: 'wall'"


def problems(root: Path) -> list[str]:
    return [problem.replace(str(root), "ROOT") for problem in open_nyuv2(root).problems]


def test_missing_files_are_problems(nyud_mt: Path, mtan: Path) -> None:
    remove("depth/0002.npy", "images/0021.png")(nyud_mt)
    (nyud_mt / "gt_sets" / "val.txt").write_text("0099\n")
    assert problems(nyud_mt) == [
        "ROOT/depth/0002.npy is missing",
        "ROOT/images/0099.jpg is missing",
        "ROOT/segmentation/0099.png is missing",
        "ROOT/depth/0099.npy is missing",
        "ROOT/normals/0099.npy is missing",
        "ROOT/images/0021.jpg is missing",
    ]
    remove("train/label/3.npy", "train/image/9.npy", "val/normal")(mtan)
    missing = ["train/label/3.npy", "train/image/9.npy", "val/normal/0.npy", "val/normal/1.npy"]
    assert problems(mtan) == [f"ROOT/{file} is missing" for file in missing]


def test_overlapping_splits_are_problems(nyud_mt: Path, official: Path) -> None:
    (nyud_mt / "gt_sets" / "val.txt").write_text("0001\n")
    assert problems(nyud_mt) == ["sample 0001 is listed in train and again in val"]
    split(testNdxs=[66, 67])(official)
    assert problems(official) == ["sample 0066 is listed in val and again in test"]


def damage(root: Path, change: Callable[[Path], object], sample_id: str) -> str:
    change(root)
    dataset = open_nyuv2(root)
    with pytest.raises(BadInput) as caught:
        dataset.load(sample_id)
    message = str(caught.value).replace(str(root), "ROOT")
    assert "\n" not in message
    return message


def png(name: str, values: np.ndarray) -> Callable[[Path], object]:
    return lambda root: Image.fromarray(values).save(root / name)


def labels_mat(values: np.ndarray) -> Callable[[Path], object]:
    return lambda root: savemat(root / "segmentation" / "0001.mat", {"segmentation": values})


def truncated_jpg(root: Path) -> None:
    (root / "images" / "0001.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(root / "images" / "0001.jpg")
    truncate("images/0001.jpg")(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated_jpg, "file ROOT/images/0001.jpg: cannot be read as an image ("),
        (write("images/0001.png", "no image"), "file ROOT/images/0001.png: cannot be read as an image ("),
        (png("segmentation/0001.png", np.full(SIZE, 41, np.uint8)), "holds label 41; allowed: 0..40, and 255"),
        (png("segmentation/0001.png", np.zeros((24, 31), np.uint8)), "of shape (24, 31); allowed: (24, 32) or"),
        (png("segmentation/0001.png", np.full((*SIZE, 3), [1, 2, 3], np.uint8)), "holds colours; allowed for a mask"),
        (labels_mat(np.full(SIZE, 0.5)), "file ROOT/segmentation/0001.mat: holds label 0.5; allowed: 0..40, and 255"),
        (labels_mat(np.full(SIZE, 256)), "file ROOT/segmentation/0001.mat: holds label 256; allowed: 0..40, and 255"),
        (labels_mat(np.full(SIZE, -1)), "file ROOT/segmentation/0001.mat: holds label -1; allowed: 0..40, and 255"),
        (labels_mat(np.full(SIZE, "a")), "file ROOT/segmentation/0001.mat: "),
        (write("segmentation/0001.mat", "no file"), "file ROOT/segmentation/0001.mat: cannot be read as MATLAB 5 ("),
        (lambda root: savemat(root / "depth/0001.mat", {"x": 1}), "file ROOT/depth/0001.mat: has no variable depth"),
        (
            lambda root: savemat(root / "depth/0001.mat", {"depth": np.ones(SIZE, np.uint8)}),
            "file ROOT/depth/0001.mat: holds numbers of type uint8; allowed: floating point",
        ),
        (png("normals/0001.png", np.zeros((24, 31, 3), np.uint8)), "of shape (24, 31, 3); allowed: (24, 32, 3)"),
        (png("segmentation/0001.png", np.zeros(SIZE, np.uint16)), "allowed: one channel of 8 bits"),
        (write("depth/0001.npy", "no array"), "file ROOT/depth/0001.npy: cannot be read as .npy ("),
        (truncate("depth/0001.npy"), "file ROOT/depth/0001.npy: cannot be read as .npy ("),
        (save("depth/0001.npy", np.array([{}])), "depth/0001.npy: cannot be read as .npy (Object arrays"),
        (
            save("depth/0001.npy", np.ones((24, 31), np.float32)),
            "file ROOT/depth/0001.npy: holds an array of shape (24, 31); allowed: (24, 32) or (24, 32, 1)",
        ),
        (
            save("depth/0001.npy", np.ones(SIZE, np.uint16)),
            "file ROOT/depth/0001.npy: holds numbers of type uint16; allowed: floating point",
        ),
        (
            save("normals/0001.npy", np.ones((3, *SIZE), np.float32)),
            "file ROOT/normals/0001.npy: holds an array of shape (3, 24, 32); allowed: (24, 32, 3)",
        ),
        (
            save("normals/0001.npy", np.ones((*SIZE, 3), np.uint8)),
            "file ROOT/normals/0001.npy: holds numbers of type uint8; allowed: floating point",
        ),
    ],
)  # fmt: skip
def test_damaged_nyud_mt_file_is_named(nyud_mt: Path, change: Callable[[Path], object], message: str) -> None:
    assert message in damage(nyud_mt, change, "0001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            save("train/image/1.npy", np.ones((*SIZE, 3), np.uint8)),
            "file ROOT/train/image/1.npy: holds numbers of type uint8; allowed: floating point",
        ),
        (
            save("train/image/1.npy", np.full((*SIZE, 3), 255, np.float32)),
            "file ROOT/train/image/1.npy: holds colours from 255 to 255; allowed: 0..1",
        ),
        (save("train/image/1.npy", np.full((*SIZE, 3), np.nan)), "holds colours from nan to nan; allowed: 0..1"),
        (save("train/image/1.npy", np.ones((3, *SIZE))), "array of shape (3, 24, 32); allowed: (H, W, 3)"),
        (save("train/image/1.npy", np.ones((0, 0, 3))), "array of shape (0, 0, 3); allowed: (H, W, 3)"),
        (save("train/label/1.npy", np.full(SIZE, 40)), "train/label/1.npy: holds label 40; allowed: -1..39"),
        (save("train/label/1.npy", np.full(SIZE, -2)), "train/label/1.npy: holds label -2; allowed: -1..39"),
        (save("train/label/1.npy", np.full(SIZE, 0.5)), "train/label/1.npy: holds label 0.5; allowed: -1..39"),
        (save("train/label/1.npy", np.full(SIZE, np.nan)), "train/label/1.npy: holds label nan; allowed: -1..39"),
        (save("train/label/1.npy", np.full(SIZE, True)), "holds numbers of type bool; allowed: whole numbers"),
        (save("train/label/1.npy", np.zeros((24, 31))), "shape (24, 31); allowed: (24, 32) or (24, 32, 1)"),
        (save("train/label/1.npy", np.array([{}])), "train/label/1.npy: cannot be read as .npy (Object arrays"),
        (save("train/depth/1.npy", np.ones((*SIZE, 2))), "shape (24, 32, 2); allowed: (24, 32) or (24, 32, 1)"),
        (save("train/depth/1.npy", np.ones((*SIZE, 1), int)), "holds numbers of type int64; allowed: floating point"),
        (save("train/normal/1.npy", np.ones(SIZE)), "array of shape (24, 32); allowed: (24, 32, 3)"),
        (truncate("train/normal/1.npy"), "file ROOT/train/normal/1.npy: cannot be read as .npy ("),
    ],
)
def test_damaged_mtan_file_is_named(mtan_to_damage: Path, change: Callable[[Path], object], message: str) -> None:
    assert message in damage(mtan_to_damage, change, "train/1")


def test_damaged_label_among_those_looked_at_is_found_when_read(mtan_to_damage: Path) -> None:
    change = write("train/label/0.npy", "no array")
    assert "file ROOT/train/label/0.npy: cannot be read as .npy (" in damage(mtan_to_damage, change, "train/0")


def test_damaged_official_frames_are_named(official: Path) -> None:
    def change(root: Path) -> None:
        with h5py.File(root / MAT, "a") as file:
            file["labels"][4, 0, 0] = 895
            place = file["depths"].id.get_chunk_info_by_coord((5, 0, 0)).byte_offset
        with (root / MAT).open("r+b") as stream:
            stream.seek(place)
            stream.write(bytes(64))

    assert damage(official, change, "0005") == f"file ROOT/{MAT}: frame 0005 has label 895; allowed: 0..894"
    with pytest.raises(BadInput, match=rf"{MAT}: cannot be read as MATLAB 7.3 \("):
        open_nyuv2(official).load("0006")


# Real frames


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real frames in ../shared/data")
@pytest.mark.parametrize("layout", ["nyud_mt", "mtan"])
def test_real_frames(tmp_path: Path, layout: str) -> None:
    # For MTAN 120 of 1449, so that its 66 training frames suffice to hold out a block.
    count = "120" if layout == "mtan" else "20"
    command = [sys.executable, SHARED / "nyuv2" / "expand.py", tmp_path, "--layout", layout, "--count", count]
    subprocess.run(command, check=True, capture_output=True)
    dataset = open_nyuv2(tmp_path)
    assert dataset.problems == []
    assert dataset.layout.startswith({"nyud_mt": "NYUD_MT", "mtan": "MTAN"}[layout])
    assert dataset.tasks["segmentation"].classes == FORTY
    for part in SPLITS:
        for index in range(0, dataset.size(part), 10):
            targets = dataset.read(part, index, (48, 64)).targets
            classes = targets["segmentation"]
            assert np.all((classes < 40) | (classes == IGNORE))
            assert np.mean(classes < 40) > 0.3
            assert 0.3 < np.median(targets["depth"]) < 10
            length = np.linalg.norm(targets["normals"], axis=-1)
            assert np.all((length == 0) | (np.abs(length - 1) < 1e-6))

"""The CelebAMask-HQ reader on a tiny folder in the published layout, and on real images where they are at hand."""

import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.celebamask_folder import write_folder
from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES
from mtl.datasets.celebamask_hq.dataset import CLASSES, IMAGES, MASKS, CelebAMaskHQ
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task
from tests.support.paths import SHARED

IDS = [0, 7, 1999, 2000, 2001, 4100, 4101, 4102, 29998, 29999]
TABLE = "CelebAMask-HQ-attribute-anno.txt"
REAL = SHARED / "celebamask-hq" / "celebamask-hq-400.tar"


def mask_path(root: Path, k: int, part: str) -> Path:
    return root / MASKS / str(k // 2000) / f"{k:05d}_{part}.png"


def save_mask(root: Path, k: int, part: str, rows: slice) -> None:
    """A 32 x 24 mask, half the image's size as published, that is set in these rows."""
    mask = np.zeros((32, 24), np.uint8)
    mask[rows] = 255
    mask_path(root, k, part).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(mask_path(root, k, part))


def grey(k: int) -> int:
    """An image of one grey is the same after JPEG."""
    return 20 * IDS.index(k)


def label(k: int, attribute: str) -> int:
    """-1 or 1, by image and attribute."""
    return 1 if (7 * k + 3 * ATTRIBUTES.index(attribute)) % 5 < 2 else -1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Hair in the rows 0..15, skin in 8..23, nose in 16..19; every image has its own grey."""
    root = tmp_path / "CelebAMask-HQ"
    (root / IMAGES).mkdir(parents=True)
    lines = [str(len(IDS)), " ".join(ATTRIBUTES)]
    for k in IDS:
        Image.new("RGB", (48, 64), (grey(k),) * 3).save(root / IMAGES / f"{k}.jpg")
        for part, rows in (("hair", slice(0, 16)), ("skin", slice(8, 24)), ("nose", slice(16, 20))):
            save_mask(root, k, part, rows)
        lines.append(f"{k}.jpg  {' '.join(str(label(k, attribute)) for attribute in ATTRIBUTES)}")
    (root / TABLE).write_text("\n".join(lines) + "\n")
    return root


def read_all(root: Path) -> dict[int, Sample]:
    dataset = CelebAMaskHQ(root)
    return {int(k): dataset.load(k) for split in SPLITS for k in dataset.ids[split]}


def test_images_and_masks_as_stored(root: Path) -> None:
    expected = np.repeat(np.array([2] * 16 + [1] * 8 + [0] * 8, np.uint8)[:, None], 24, axis=1)
    samples = read_all(root)
    assert sorted(samples) == IDS
    for k, sample in samples.items():
        assert np.array_equal(sample.image, np.full((64, 48, 3), grey(k)))
        assert sample.targets["segmentation"].dtype == np.uint8
        assert np.array_equal(sample.targets["segmentation"], expected)


def test_samples_at_another_size(root: Path) -> None:
    dataset = CelebAMaskHQ(root)
    sample = dataset.read("train", dataset.ids["train"].index("7"), (16, 12))
    expected = np.repeat(np.array([2] * 8 + [1] * 4 + [0] * 4, np.uint8)[:, None], 12, axis=1)
    assert np.array_equal(sample.image, np.full((16, 12, 3), grey(7)))
    assert np.array_equal(sample.targets["segmentation"], expected)


def test_masks_may_be_stored_in_colours(root: Path) -> None:
    expected = read_all(root)[7].targets["segmentation"]
    for part in ("skin", "hair"):
        with Image.open(mask_path(root, 7, part)) as mask:
            mask.convert("RGB").save(mask_path(root, 7, part))
    assert np.array_equal(read_all(root)[7].targets["segmentation"], expected)


def test_absent_parts_are_background(root: Path) -> None:
    mask_path(root, 7, "hair").unlink()
    assert np.unique(read_all(root)[7].targets["segmentation"]).tolist() == [0, 1]
    mask_path(root, 7, "skin").unlink()
    assert not read_all(root)[7].targets["segmentation"].any()
    assert list(CelebAMaskHQ(root).problems) == []


def test_forty_attributes_are_tasks(root: Path) -> None:
    tasks = CelebAMaskHQ(root).tasks
    assert len(tasks) == 41
    assert list(tasks)[:3] == ["segmentation", "male", "smile"]
    assert set(ATTRIBUTES) - set(tasks) == {"Male", "Smiling"}
    assert all(task.name == name for name, task in tasks.items())
    assert [task.kind for task in tasks.values()] == ["segmentation"] + 40 * ["binary"]


def test_labels(root: Path) -> None:
    tasks = {"male": "Male", "smile": "Smiling", "Eyeglasses": "Eyeglasses", "5_o_Clock_Shadow": "5_o_Clock_Shadow"}
    tasks |= {"Young": "Young"}
    for k, sample in read_all(root).items():
        assert len(sample.targets) == 41
        for task, attribute in tasks.items():
            assert sample.targets[task].shape == ()
            assert sample.targets[task].dtype == np.uint8
            assert sample.targets[task] == (label(k, attribute) == 1)


def test_columns_may_come_in_another_order_and_be_fewer(root: Path) -> None:
    rows = [f"{k}.jpg {label(k, 'Young')} {label(k, 'Male')}" for k in IDS]
    (root / TABLE).write_text("\n".join([str(len(IDS)), "Young Male", *rows]))
    dataset = CelebAMaskHQ(root)
    assert list(dataset.tasks) == ["segmentation", "male", "Young"]
    for k, sample in read_all(root).items():
        assert sample.targets["male"] == (label(k, "Male") == 1)
        assert sample.targets["Young"] == (label(k, "Young") == 1)


def test_a_whole_folder_has_no_problems(root: Path) -> None:
    assert list(CelebAMaskHQ(root).problems) == []


def test_splits_by_seed_never_change(root: Path) -> None:
    dataset = CelebAMaskHQ(root)
    assert dataset.ids == {
        "train": ["0", "7", "2000", "4101", "29998", "29999"],
        "val": ["2001", "4100"],
        "test": ["1999", "4102"],
    }
    assert CelebAMaskHQ(root, split_seed=0).ids == dataset.ids
    assert "split_seed 0" in dataset.notes[0]


def test_another_seed_is_another_split(root: Path) -> None:
    other = CelebAMaskHQ(root, split_seed=5)
    assert sorted(int(k) for split in SPLITS for k in other.ids[split]) == IDS
    assert [other.size(split) for split in SPLITS] == [6, 2, 2]
    assert other.ids != CelebAMaskHQ(root).ids
    assert other.fingerprint() != CelebAMaskHQ(root).fingerprint()


def write_list(root: Path, text: str) -> str:
    (root / "list.txt").write_text(text)
    return "list.txt"


# CelebA's names of images 0, 7 and 4100, among others that are not in the folder.
MAPPING = (
    "    idx    orig_idx       orig_file\n0 119613 119614.jpg\n7 6 000007.jpg\n4100 4 000005.jpg\n9 9 000010.jpg\n"
)
CELEBA = "000001.jpg 0\n000005.jpg 1\n000007.jpg 2\n000010.jpg 2\n119614.jpg 0\n"


@pytest.mark.parametrize(
    "text",
    [
        "7 test\n4100 val\n\n0 train\n",
        "7.jpg test\n4100.jpg val\n0.jpg train\n",
        "7.jpg 2\n4100 1\n0.jpg 0\n",
        CELEBA,
    ],
    ids=["numbers", "names", "digits", "CelebA"],
)
def test_splits_by_list(root: Path, text: str) -> None:
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(MAPPING)
    dataset = CelebAMaskHQ(root, split_file=write_list(root, text))
    assert dataset.ids == {"train": ["0"], "val": ["4100"], "test": ["7"]}
    assert list(dataset.problems) == []
    assert list(dataset.notes) == [f"split by {root}/list.txt: 7 of 10 images are not in it and left out"]


def test_list_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("7 test\n4100 val\n0 train\n4101 train")
    dataset = CelebAMaskHQ(root, split_file=str(tmp_path / "mine.txt"))
    assert dataset.ids["train"] == ["0", "4101"]
    assert dataset.fingerprint() != CelebAMaskHQ(root).fingerprint()


def test_only_listed_images_are_checked(root: Path) -> None:
    (root / IMAGES / "29999.jpg").unlink()
    assert list(CelebAMaskHQ(root, split_file=write_list(root, "7 test\n4100 val\n0 train\n")).problems) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("8.jpg train", "image 8.jpg is not in ROOT; allowed: those that it has"),
        ("7 val", "image 7 is listed already in line 1"),
        ("7.jpg test", "image 7.jpg is listed already in line 1"),
        ("2000 valid", "split 'valid'; allowed: train, val, test, or 0, 1, 2 in this order"),
        ("2000 3", "split '3'; allowed: train, val, test, or 0, 1, 2 in this order"),
        ("2000", "has 1 columns; allowed: an image and its split"),
        ("2000.png val", "image '2000.png'; allowed: K or K.jpg, or a name of CelebA, six digits and .jpg"),
        ("007 val", "image '007'; allowed: K or K.jpg, or a name of CelebA, six digits and .jpg"),
    ],
)
def test_bad_lines_of_a_list(root: Path, line: str, problem: str) -> None:
    text = f"7 test\n4100 val\n0 train\n{line}\n2001 train\n9 train\n"
    dataset = CelebAMaskHQ(root, split_file=write_list(root, text))
    assert list(dataset.problems) == [
        f"{root}/list.txt line 4: {problem.replace('ROOT', str(root))}",
        f"{root}/list.txt line 6: image 9 is not in {root}; allowed: those that it has",
    ]
    assert dataset.ids == {"train": ["0", "2001"], "val": ["4100"], "test": ["7"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_seed": "x"}, "dataset_options.split_seed: 'x'; allowed: a whole number"),
        ({"split_seed": True}, "dataset_options.split_seed: True; allowed: a whole number"),
        ({"split_seed": 0.5}, "dataset_options.split_seed: 0.5; allowed: a whole number"),
        ({"split_file": 3}, "dataset_options.split_file: 3; allowed: the path of a text file"),
        (
            {"split_file": "none.txt"},
            "dataset_options.split_file: file ROOT/none.txt: cannot be read as text (No such file",
        ),
        ({"split_file": f"{IMAGES}/0.jpg"}, f"dataset_options.split_file: file ROOT/{IMAGES}/0.jpg: cannot be read as"),
        ({"split_file": "list.txt", "split_seed": 1}, "dataset_options.split_seed: 1 beside split_file; allowed: one"),
        (
            {"split_file": "list.txt"},
            "dataset_options.split_file: ROOT/list.txt has no image of ROOT for val; allowed: at least one for each of "
            "train, val and test; its first problem: ROOT/list.txt line 2: split 'valid'",
        ),
        (
            {"split_file": "celeba.txt"},
            "dataset_options.split_file: ROOT/celeba.txt line 1 names 000001.jpg of CelebA, and "
            "ROOT/CelebA-HQ-to-CelebA-mapping.txt, which translates it, is missing",
        ),
        ({"seed": 3}, "dataset_options: 'seed'; allowed for celebamask_hq: split_seed, split_file"),
    ],
)
def test_bad_options(root: Path, options: dict[str, object], message: str) -> None:
    write_list(root, "7 test\n4100 valid\n0 train\n")
    (root / "celeba.txt").write_text(CELEBA)
    with pytest.raises(BadInput) as caught:
        load_dataset("celebamask_hq", root, options)
    assert str(caught.value).startswith(message.replace("ROOT", str(root)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["idx orig_idx orig_file\n0 119613\n", "x\nzero 0 119614.jpg\n"])
def test_damaged_mapping_is_named(root: Path, text: str) -> None:
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(text)
    with pytest.raises(BadInput, match=r"^file .*/CelebA-HQ-to-CelebA-mapping.txt: cannot be read as lines"):
        CelebAMaskHQ(root, split_file=write_list(root, CELEBA))


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = CelebAMaskHQ(root).fingerprint()
    assert re.fullmatch(r"celebamask_hq-[0-9a-f]{16}", before)
    mask_path(root, 7, "nose").unlink()  # not read
    moved = root.rename(tmp_path / "elsewhere")
    assert CelebAMaskHQ(moved).fingerprint() == before
    edit("7.jpg  -1", "7.jpg  1")(moved)
    relabelled = CelebAMaskHQ(moved).fingerprint()
    save_mask(moved, 7, "hair", slice(1, 16))
    redrawn = CelebAMaskHQ(moved).fingerprint()
    mask_path(moved, 7, "hair").unlink()
    assert len({before, relabelled, redrawn, CelebAMaskHQ(moved).fingerprint()}) == 4


def test_recognised_by_any_of_its_parts(root: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert not CelebAMaskHQ.recognises(tmp_path)
    assert CelebAMaskHQ.recognises(root)
    shutil.rmtree(root / MASKS)
    assert CelebAMaskHQ.recognises(root)


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / TABLE).read_text()
        assert old in text
        (root / TABLE).write_text(text.replace(old, new, 1))

    return change


def remove(*names: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return change


def remove_masks(k: int) -> Callable[[Path], None]:
    return remove(*(f"{MASKS}/{k // 2000}/{k:05d}_{part}.png" for part in ("skin", "hair", "nose")))


def add_image(root: Path) -> None:
    shutil.copy(root / IMAGES / "0.jpg", root / IMAGES / "11.jpg")
    shutil.copy(root / IMAGES / "0.jpg", root / IMAGES / "3.jpg")
    (root / IMAGES / "Thumbs.db").touch()


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (remove(f"{IMAGES}/7.jpg", f"{IMAGES}/2000.jpg"), [f"{IMAGES}/7.jpg is missing", f"{IMAGES}/2000.jpg is miss"]),
        (add_image, [f"{IMAGES}/3.jpg has no line in {TABLE}", f"{IMAGES}/11.jpg has no line in {TABLE}"]),
        (remove_masks(4100), [f"{MASKS}/2/04100_*.png are missing, there is no mask for image 4100.jpg"]),
        (remove(f"{MASKS}/2"), [f"{MASKS}/2/0{k}_*.png are missing" for k in (4101, 4100, 4102)]),
        (edit("10\n", "11\n"), [f"{TABLE} line 1: says '11' images; 10 lines follow the names"]),
        (edit("10\n", "ten\n"), [f"{TABLE} line 1: says 'ten' images; 10 lines follow the names"]),
        (edit("7.jpg  -1 -1", "7.jpg  -1 0"), [f"{TABLE} line 4: Arched_Eyebrows is '0'; allowed: -1 and 1"]),
        (edit("7.jpg  -1 -1", "7.jpg  -1"), [f"{TABLE} line 4: has 39 labels; line 2 names 40 attributes"]),
        (
            edit("7.jpg  -1 -1", "7.jpeg  -1 -1"),
            [
                f"{TABLE} line 4: begins with '7.jpeg'; allowed: the name of an image, such as 0.jpg",
                f"{IMAGES}/7.jpg has no line in {TABLE}",
            ],
        ),
        (
            edit("7.jpg", "0.jpg"),
            [f"{TABLE} line 4: 0.jpg is listed already in line 3", f"{IMAGES}/7.jpg has no line in {TABLE}"],
        ),
    ],
)
def test_problems_are_collected(root: Path, change: Callable[[Path], None], problems: list[str]) -> None:
    change(root)
    found = list(CelebAMaskHQ(root).problems)
    assert [line.startswith(f"{root}/{problem}") for line, problem in zip(found, problems, strict=True)] == [
        True for _ in problems
    ], found


def test_a_missing_line_is_two_problems(root: Path) -> None:
    lines = (root / TABLE).read_text().splitlines()
    (root / TABLE).write_text("\n".join(lines[:-1]))
    assert list(CelebAMaskHQ(root).problems) == [
        f"{root}/{TABLE} line 1: says '10' images; 9 lines follow the names",
        f"{root}/{IMAGES}/29999.jpg has no line in {TABLE}",
    ]


def test_labels_that_cannot_be_read_are_unlabelled(root: Path) -> None:
    edit("7.jpg  -1 -1", "7.jpg  -1 0")(root)
    targets = read_all(root)[7].targets
    assert targets["Arched_Eyebrows"] == IGNORE
    assert targets["5_o_Clock_Shadow"] == 0


def make_file(root: Path) -> None:
    shutil.rmtree(root)
    root.touch()


def write_table(text: str) -> Callable[[Path], object]:
    return lambda root: (root / TABLE).write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("."), "dataset celebamask_hq: ROOT does not exist"),
        (make_file, "dataset celebamask_hq: ROOT is not a directory"),
        (remove(IMAGES), f"dataset celebamask_hq: ROOT has no {IMAGES}/; expected {IMAGES}/, {MASKS}/, {TABLE}"),
        (remove(MASKS), f"dataset celebamask_hq: ROOT has no {MASKS}/; expected {IMAGES}/"),
        (remove(TABLE), f"dataset celebamask_hq: ROOT has no {TABLE}; expected {IMAGES}/"),
        (write_table(""), f"file ROOT/{TABLE}: has 0 lines; allowed: the number of images, the attributes, images"),
        (write_table("3\n\n"), f"file ROOT/{TABLE} line 2: has nothing for an attribute; allowed: 5_o_Clock_Shadow, "),
        (edit("Smiling", "smiling"), f"file ROOT/{TABLE} line 2: has 'smiling' for an attribute; allowed: 5_o_Clock_"),
        (edit("Smiling", "Male"), f"file ROOT/{TABLE} line 2: names Male twice; allowed: each attribute once"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused(root: Path, change: Callable[[Path], object], message: str) -> None:
    change(root)
    with pytest.raises(BadInput) as caught:
        CelebAMaskHQ(root)
    assert str(caught.value).startswith(message.replace("ROOT", str(root)))
    assert "\n" not in str(caught.value)


def test_too_few_images_to_split(root: Path) -> None:
    lines = (root / TABLE).read_text().splitlines()[:6]
    (root / TABLE).write_text("\n".join(["4", *lines[1:]]))
    problems = CelebAMaskHQ(root).problems
    assert f"{root}: split val is empty" in problems
    assert f"{root}: split test is empty" in problems


def test_mask_with_another_value_is_refused(root: Path) -> None:
    Image.fromarray(np.full((32, 24), 254, np.uint8)).save(mask_path(root, 7, "hair"))
    with pytest.raises(BadInput, match=r"00007_hair\.png holds 254; allowed: 0 and 255$"):
        CelebAMaskHQ(root).load("7")


def test_masks_of_one_image_have_one_size(root: Path) -> None:
    Image.new("L", (12, 16)).save(mask_path(root, 7, "hair"))
    with pytest.raises(BadInput, match=r"00007_hair\.png is \(16, 12\); allowed: \(32, 24\), as the other mask"):
        CelebAMaskHQ(root).load("7")


@pytest.mark.parametrize("name", [f"{IMAGES}/7.jpg", f"{MASKS}/0/00007_skin.png"])
def test_damaged_file_is_named(root: Path, name: str) -> None:
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(BadInput, match=rf"^file {root / name}: cannot be read as an image \([^\n]+\)$"):
        CelebAMaskHQ(root).load("7")


def test_benchmark_folder_is_as_published(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "set", images=30)
    assert files == sum(path.is_file() for path in (tmp_path / "set").rglob("*"))
    dataset = CelebAMaskHQ(tmp_path / "set")
    assert list(dataset.problems) == []
    assert [dataset.size(split) for split in SPLITS] == [18, 6, 6]
    masks = [dataset.load(k).targets["segmentation"] for k in dataset.ids["train"]]
    assert set(np.unique(masks)) == {0, 1, 2}
    contents = [path.read_bytes() for path in (tmp_path / "set" / IMAGES).iterdir()]
    assert len(set(contents)) == 30


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty of the real images with all their masks."""
    if not REAL.is_file():
        pytest.skip(f"needs {REAL}")
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(REAL) as archive:
        members = archive.getmembers()
        names = sorted((m.name for m in members if m.name.endswith(".jpg")), key=lambda name: int(Path(name).stem))
        chosen = {Path(name).stem for name in names[:40]}
        numbered = [(m, Path(m.name).stem.partition("_")[0]) for m in members if m.isfile()]
        wanted = [m for m, number in numbered if number.isdecimal() and str(int(number)) in chosen]
        table = next(m for m in members if m.name.endswith(TABLE))
        archive.extractall(folder, [*wanted, table], filter="data")
    root = next(folder.rglob(TABLE)).parent
    count, header, *rows = (root / TABLE).read_text().splitlines()
    rows = [row for row in rows if row.split(".")[0] in chosen]
    assert int(count) == 400
    (root / TABLE).write_text("\n".join([str(len(rows)), header, *rows]))
    return root


def test_real_images(real: Path) -> None:
    dataset = CelebAMaskHQ(real)
    assert list(dataset.problems) == []
    assert [dataset.size(split) for split in SPLITS] == [24, 8, 8]
    assert len(dataset.tasks) == 41
    shares = np.zeros(len(CLASSES))
    for split in SPLITS:
        for index in range(dataset.size(split)):
            sample = dataset.read(split, index, (256, 256))
            shares += np.bincount(sample.targets["segmentation"].ravel(), minlength=len(CLASSES)) / 256**2 / 40
            assert all(int(target) in (0, 1) for name, target in sample.targets.items() if name != "segmentation")
            assert sample.image.std() > 20
    # A face in the middle of each picture, with hair around it.
    assert np.all(np.abs(shares - [0.4, 0.3, 0.3]) < 0.15), shares


def test_real_image_by_its_published_files(real: Path) -> None:
    """Image 65, whose masks and labels are read here by hand."""
    sample = CelebAMaskHQ(real).load("65")
    with Image.open(mask_path(real, 65, "hair")) as mask:
        hair = np.asarray(mask) > 0
    with Image.open(mask_path(real, 65, "skin")) as mask:
        skin = np.asarray(mask) > 0
    assert np.array_equal(sample.targets["segmentation"], np.where(hair, 2, skin))
    assert sample.targets["male"] == 0
    assert sample.targets["smile"] == 1
    assert sample.targets["Young"] == 1
    assert sample.targets["5_o_Clock_Shadow"] == 0


def test_19_classes_lie_over_one_another_as_in_the_authors_script(root: Path) -> None:
    """Skin 8..23, nose 16..19, hair 0..15: their script goes from skin over nose to hair, and a hat over hair."""
    k = IDS[3]
    save_mask(root, k, "hat", slice(0, 2))
    save_mask(root, k, "l_eye", slice(18, 21))
    dataset = CelebAMaskHQ(root, classes=19)
    names = dataset.tasks["segmentation"].classes
    assert len(names) == 19
    assert (names[0], names[1], names[18]) == ("background", "skin", "cloth")
    rows = [names[c] for c in dataset.load(str(k)).targets["segmentation"][:, 0]]
    assert rows == ["hat"] * 2 + ["hair"] * 14 + ["nose"] * 2 + ["l_eye"] * 3 + ["skin"] * 3 + ["background"] * 8
    mirrored = {names[a]: names[b] for a, b in enumerate(dataset.tasks["segmentation"].mirrored) if a != b}
    assert mirrored == {
        "l_eye": "r_eye", "r_eye": "l_eye", "l_brow": "r_brow", "r_brow": "l_brow", "l_ear": "r_ear", "r_ear": "l_ear",
    }  # fmt: skip
    assert f"CelebAMask-HQ-mask-anno/{k // 2000}/{k:05d}_hat.png" in dataset.files(str(k))
    with pytest.raises(BadInput, match=r"dataset_options\.classes: 18; allowed: 3, 19"):
        CelebAMaskHQ(root, classes=18)


def test_3_classes_are_as_before(root: Path) -> None:
    """What is cached, and the ids of trials, hang on this."""
    assert CelebAMaskHQ(root).tasks["segmentation"] == Task("segmentation", "segmentation", CLASSES)
    assert CelebAMaskHQ(root).fingerprint() == CelebAMaskHQ(root, classes=3).fingerprint()
    assert CelebAMaskHQ(root).fingerprint() != CelebAMaskHQ(root, classes=19).fingerprint()

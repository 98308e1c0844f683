"""The base of datasets in files, by the smallest dataset there is: one PNG and one label a sample."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, reload
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.reading import read_image
from mtl.errors import BadInput
from mtl.tasks import Task

IDS = {"train": ["0", "1", "2"], "val": ["3"], "test": ["4", "5"]}


class Greys(FileDataset):
    """ID.png is grey; the label says whether the id is odd, and the class is the column modulo 3."""

    name = "greys"
    tasks: Mapping[str, Task] = {
        "odd": Task("odd", "binary"),
        "column": Task("column", "segmentation", ("a", "b", "c")),
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.ids = dict(IDS)  # type: ignore[assignment]

    def files(self, sample_id: str) -> Sequence[str]:
        return [f"images/{sample_id}.png"]

    def shared_files(self) -> Sequence[str]:
        return ["table.txt"]

    def load(self, sample_id: str) -> Sample:
        columns = np.tile(np.arange(12, dtype=np.uint8) % 3, (8, 1))
        odd = np.array(int(sample_id) % 2, np.uint8)
        return Sample(read_image(self.root / self.files(sample_id)[0]), {"odd": odd, "column": columns})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "greys"
    (root / "images").mkdir(parents=True)
    for ids in IDS.values():
        for sample_id in ids:
            Image.new("L", (12, 8), 10 * int(sample_id)).save(root / "images" / f"{sample_id}.png")
    (root / "table.txt").write_text("table")
    return root


def test_sizes_names_and_samples(root: Path) -> None:
    dataset = Greys(root)
    assert [dataset.size(split) for split in SPLITS] == [3, 1, 2]
    assert dataset.sample_name("test", 1) == "5"
    sample = dataset.read("test", 1, (8, 12))
    assert np.array_equal(sample.image, np.full((8, 12, 3), 50))
    assert sample.targets["odd"] == 1


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (16, 5)])
def test_samples_at_any_size(root: Path, size: tuple[int, int]) -> None:
    sample = Greys(root).read("train", 2, size)
    assert sample.image.shape == (*size, 3)
    assert sample.targets["column"].shape == size
    assert sample.targets["odd"].shape == ()
    assert set(np.unique(sample.targets["column"])) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("make", "message"), [(lambda path: None, "does not exist"), (Path.touch, "is not a directory")]
)
def test_root_is_a_folder(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(BadInput, match=f"^dataset greys: {tmp_path / 'x'} {message}$"):
        Greys(tmp_path / "x")


def test_a_whole_folder_has_no_problems(root: Path) -> None:
    assert list(Greys(root).problems) == []


def test_every_problem_is_listed(root: Path) -> None:
    for file in ("images/1.png", "images/4.png", "table.txt"):
        (root / file).unlink()
    dataset = Greys(root)
    dataset.own_problems = lambda: ["of its own"]  # type: ignore[method-assign]
    dataset.ids = {"train": ["0", "1", "0"], "val": [], "test": ["4", "1"]}
    assert list(dataset.problems) == [
        "of its own",
        f"{root}: split val is empty",
        "sample 0 is listed in train and again in train",
        "sample 1 is listed in train and again in test",
        f"{root}/table.txt is missing",
        f"{root}/images/1.png is missing",
        f"{root}/images/4.png is missing",
    ]


def test_fingerprint_stays_where_the_content_does(root: Path, tmp_path: Path) -> None:
    before = Greys(root).fingerprint()
    assert re.fullmatch(r"greys-[0-9a-f]{16}", before)
    (root / "images" / "0.png").touch()
    (root / "images" / "unused.png").touch()
    assert Greys(root).fingerprint() == before
    assert Greys(root.rename(tmp_path / "elsewhere")).fingerprint() == before


def change_pixel(root: Path) -> None:
    """Change a byte and not the size."""
    path = root / "images" / "0.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


CHANGES: dict[str, Callable[[Greys], object]] = {
    "an image": lambda dataset: change_pixel(dataset.root),
    "a table": lambda dataset: (dataset.root / "table.txt").write_text("TABLE"),
    "splits": lambda dataset: setattr(dataset, "ids", {"train": ["0", "1"], "val": ["2", "3"], "test": ["4", "5"]}),
    "order": lambda dataset: setattr(dataset, "ids", {"train": ["0", "2", "1"], "val": ["3"], "test": ["4", "5"]}),
    "classes": lambda dataset: setattr(dataset, "tasks", {"odd": Greys.tasks["odd"]}),
    "variant": lambda dataset: setattr(dataset, "variant", lambda: "other"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_fingerprint_changes_with(root: Path, what: str) -> None:
    before = Greys(root).fingerprint()
    dataset = Greys(root)
    CHANGES[what](dataset)
    assert dataset.fingerprint() != before


def test_fingerprint_of_a_missing_file_names_it(root: Path) -> None:
    (root / "images" / "0.png").unlink()
    with pytest.raises(BadInput, match=r"^file .*images/0\.png: cannot be read"):
        Greys(root).fingerprint()


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """Writes a module of the user's and imports it, anew where it was imported before."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, source: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(source)
        return reload(sys.modules[name]) if name in sys.modules else import_module(name)

    return write


BASE = "from tests.mtl.datasets.test_file_dataset import Greys\nclass Base(Greys):\n    pass\n"
OWN = "from own_base import Base\nclass Own(Base):\n    pass\n"


def test_fingerprint_changes_with_the_code_of_own_classes(
    root: Path, own_modules: Callable[[str, str], ModuleType]
) -> None:
    own_modules("own_base", BASE)
    fingerprints = [own_modules("own", OWN).Own(root).fingerprint()]
    fingerprints.append(own_modules("own", OWN + "LONGER = 1\n").Own(root).fingerprint())
    own_modules("own_base", BASE + "LONGER = 1\n")
    fingerprints.append(own_modules("own", OWN + "LONGER = 1\n").Own(root).fingerprint())
    assert len(set(fingerprints)) == 3


def test_a_class_without_source_is_refused(root: Path) -> None:
    scope: dict[str, object] = {"Greys": Greys, "__name__": "nowhere"}
    exec("class Typed(Greys):\n    name = 'typed'", scope)
    typed = scope["Typed"]
    assert isinstance(typed, type)
    with pytest.raises(BadInput, match=r"^dataset typed: the source code of nowhere.* cannot be read; allowed"):
        typed(root).fingerprint()

"""`parsimony datasets`: what it prints, how it ends, what it removes, and that it leaves alone what is not its own."""

import io
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from mtl.datasets.cache.build import materialise
from mtl.datasets.inspect import contact_sheet, content
from mtl.datasets.inspect.content import Listing, digests
from mtl.datasets.registry import GENERATED, PUBLISHED
from mtl.datasets.rooms.dataset import Rooms
from search.cli import main
from search.commands.datasets import DESCRIPTIONS, reading_progress
from tests.support.labelled_folder import LabelledFolder, write_folder

OWN = "tests.support.labelled_folder:LabelledFolder"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which a command adds this folder
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PARSIMONY_CACHE", str(folder))
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No contact sheet is drawn, which takes a second."""
    monkeypatch.setattr(contact_sheet, "draw_contact_sheet", lambda *_: None)


def test_a_sound_folder(root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "check", str(root), "--dataset", OWN]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[:3] == [
        f"labelled in {root}",
        "  layout: images/, classes/, depth/, normals/, words/",
        "  note: normals computed from depth",
    ]
    cells = [line.split() for line in lines]
    assert ["train", "3", "32", "×", "24"] in cells
    assert ["all", "6", "32", "×", "24"] in cells
    assert "classes: 3 classes, share of the labelled pixels; 20.8 % of all pixels have no label" in lines
    # wall, by split and over all, and in how many images
    assert ["wall", "66.7", "%", "66.7", "%", "28.6", "%", "52.6", "%", "5"] in cells
    assert "  in no image of train: lamp" in lines
    assert ["all", "95.8", "%", "1.00", "m", "1.00", "m", "4.00", "m"] in cells
    assert ["all", "95.8", "%", "(+0.00,", "+0.00,", "+1.00)"] in cells
    assert ["smile", "33.3", "%", "100.0", "%", "0.0", "%", "40.0", "%", "2"] in cells
    assert "  images without a label: smile 1" in lines
    assert lines[-2:] == ["contact sheet: labelled-contact-sheet.png", "no problems found, 1 warning"]
    with Image.open(work / "labelled-contact-sheet.png") as image:
        assert image.width == 1600


def test_every_problem_is_named_and_the_last_line_counts(
    root: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "depth/b.npy").unlink()
    (root / "images/f.png").unlink()
    (root / "classes/e.png").write_bytes(b"no image")
    assert main(["datasets", "check", str(root), "--dataset", OWN, "--sheet", "mine.png"]) == 2
    printed = capsys.readouterr()
    *problems, last = printed.err.splitlines()
    first = f"{root}/depth/b.npy is missing"
    assert problems[:2] == [f"problem: {first}", f"problem: {root}/images/f.png is missing"]
    assert problems[2].startswith(f"problem: file {root}/classes/e.png: cannot be read as an image")
    assert len(problems) == 3
    assert last == f"parsimony: dataset {OWN}: 3 problems in {root}, the first: {first}"
    assert ["test", "2", "2"] in [line.split()[:3] for line in printed.out.splitlines()]
    assert "no problems found" not in printed.out
    assert [path.name for path in work.iterdir()] == ["mine.png"]


def test_nothing_that_can_be_read(root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "normals")
    assert main(["datasets", "check", str(root), "--dataset", OWN]) == 2
    assert "6 problems" in capsys.readouterr().err.splitlines()[-1]
    assert list(work.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_leaks_are_warnings(root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(root / "images/a.png", root / "images/e.png")
    assert main(["datasets", "check", str(root), "--dataset", OWN]) == 0
    printed = capsys.readouterr()
    assert "warning: the same picture is in two splits: train a, test e" in printed.out.splitlines()
    assert printed.out.splitlines()[-1] == "no problems found, 2 warnings"
    assert printed.err == ""


@pytest.mark.usefixtures("undrawn")
def test_options_of_a_dataset(root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "check", str(root), "--dataset", OWN, "--option", "fewer=2"]) == 0
    assert ["train", "1", "32", "×", "24"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_generated_dataset_needs_no_folder(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset", "rooms", "--option", "train=2", "--option", "val=1", "--option", "test=0"]
    assert main(["datasets", "check", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rooms, generated"
    assert (work / "rooms-contact-sheet.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_a_dataset_class_in_the_working_folder(root: Path, work: Path) -> None:
    (work / "my_faces.py").write_text(
        "from tests.support.labelled_folder import LabelledFolder\nclass Faces(LabelledFolder): ..."
    )
    assert main(["datasets", "check", str(root), "--dataset", "my_faces:Faces"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither DIR nor --dataset given; allowed: DIR, or --dataset rooms"),
        (
            ["ROOT"],
            "celeba, pascal_context, taskonomy; found classes/, depth/, images/, normals/, words/; say what",
        ),
        (["ROOT/.."], "holds none of"),
        (["ROOT/nowhere"], "nowhere: does not exist"),
        (["ROOT/images/a.png"], "a.png: is not a directory"),
        (["ROOT", "--dataset", "rooms"], "dataset rooms: is generated, found the folder"),
        (["--dataset", "nyuv2"], "dataset nyuv2: no folder given; allowed: parsimony datasets check DIR"),
        (["ROOT", "--dataset", "kitti"], "dataset 'kitti': unknown; allowed: rooms, nyuv2, celebamask_hq"),
        (["ROOT", "--dataset", OWN, "--option", "fewer"], "--option 'fewer'; allowed: KEY=VALUE"),
        (["ROOT", "--dataset", OWN, "--option", "less=1"], "'less'; allowed for tests.support.labelled_folder"),
        (["ROOT", "--dataset", OWN, "--sheet", "nowhere/sheet.png"], "--sheet nowhere/sheet.png: no folder nowhere"),
        (["ROOT", "--dataset", OWN, "--seed", "-1"], "--seed -1; allowed: 0 or more"),
    ],
)
def test_refused(words: list[str], said: str, root: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "check", *(word.replace("ROOT", str(root)) for word in words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert list(work.iterdir()) == []


def test_a_dataset_one_folder_down_is_pointed_out(
    tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "download" / "CelebAMask-HQ" / "CelebA-HQ-img").mkdir(parents=True)
    assert main(["datasets", "check", str(tmp_path / "download")]) == 2
    assert f"celebamask_hq lies in {tmp_path}/download/CelebAMask-HQ" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(DESCRIPTIONS) == set(GENERATED) | set(PUBLISHED)
    assert main(["datasets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*GENERATED, *PUBLISHED, "my_module:MyDataset"]


def fill(cache: Path, root: Path) -> None:
    """Two caches, the hashes of a folder, and things that are not ours."""
    dataset = LabelledFolder(root)
    materialise(Rooms(train=3, val=1, test=1), (6, 8))
    materialise(dataset, (12, 16))
    with mock.patch.object(content, "COARSEST_STEP", -(10**12)):  # else files as fresh as these are not remembered
        digests(Listing(root), ["images/a.png"])
    (cache / "kernels").mkdir()
    (cache / "kernels" / "built.so").touch()
    for folder in ("photos-0123456789abcdef", "photos-0123456789abcdee.tmp"):
        (cache / folder).mkdir()
        (cache / folder / "holiday.jpg").touch()
    (cache / "digests" / "notes.txt").touch()


def test_cache_is_listed(cache: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "cache"]) == 0
    assert capsys.readouterr().out == f"nothing of datasets is cached in {cache}\n"
    fill(cache, root)
    assert main(["datasets", "cache"]) == 0
    total, first, second, hashes = capsys.readouterr().out.splitlines()
    assert total.endswith(f" kB in {cache}")
    assert "labelled, 6 samples at 16 × 12 (labelled-" in first
    assert "rooms, 5 samples at 8 × 6 (rooms-" in second
    assert hashes.endswith("content hashes of 1 dataset folder")


def test_cache_is_removed_and_nothing_else(cache: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(cache, root)
    arrays = materialise(Rooms(train=3, val=1, test=1), (6, 8))
    unfinished = cache / "rooms-00000000000000aa.tmp"
    (unfinished / "train").mkdir(parents=True)
    assert main(["datasets", "cache", "--remove"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("removed ") for line in lines) == 4
    assert lines[-1].endswith(f"freed in {cache}")
    left = sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())
    photos = ["photos-0123456789abcdee.tmp/holiday.jpg", "photos-0123456789abcdef/holiday.jpg"]
    assert left == ["digests/notes.txt", "kernels/built.so", *photos]
    assert not unfinished.exists()
    assert arrays["train"]["image"].any()  # what is open stays readable


def test_what_is_being_built_is_kept(cache: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(cache, root)
    (kept,) = cache.glob("rooms-*[0-9a-f]")
    unfinished = cache / "labelled-00000000000000aa.tmp"
    (unfinished / "train").mkdir(parents=True)
    with FileLock(f"{kept}.lock"), FileLock(cache / "labelled-00000000000000aa.lock"):
        assert main(["datasets", "cache", "--remove"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("kept, as it is being built: ") for line in lines) == 2
    assert (kept / "train" / "image.npy").is_file()
    assert unfinished.is_dir()
    assert np.load(kept / "train" / "image.npy").shape == (3, 6, 8, 3)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("search.commands.datasets.time.monotonic", lambda: now[0])
    stream, log = Terminal(), io.StringIO()
    on_terminal, in_log = reading_progress(stream), reading_progress(log)
    for step in range(1, 31):
        now[0] += 0.5
        on_terminal(step * 100, 3000)
        in_log(step * 100, 3000)
    assert "\n" not in stream.getvalue()
    assert "samples/s" in stream.getvalue()
    assert stream.getvalue().split("\r")[-2].isspace()  # the line is cleared at the end
    assert log.getvalue() == "2,000 of 3,000 samples read\n"

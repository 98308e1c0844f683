"""Datasets and samplers of the user's own that raise or give the wrong thing: one line with class, method and place."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.base import SPLITS
from mtl.datasets.registry import load_dataset, open_dataset
from mtl.errors import BadInput
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import run_trial
from tests.support.commands import refused
from tests.support.small import config

SOURCE = """
import csv
import numpy as np
from pathlib import Path
from mtl.datasets.base import Dataset, Sample
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.reading import read_image
from mtl.tasks import Task

class Own(FileDataset):
    name = "own"
    tasks = {"odd": Task("odd", "binary"), "part": Task("part", "segmentation", ("a", "b"))}

    def __init__(self, root, limit=9):
        super().__init__(root)
        self.ids = {"train": ["0", "1", "2"], "val": ["3"], "test": ["4"]}

    def files(self, name):
        return [f"{name}.png"]

    def load(self, name):
        image = read_image(self.root / f"{name}.png")
        return Sample(image, {"odd": np.array(int(name) % 2, np.uint8), "part": np.zeros((6, 8), np.uint8)})
"""
PLAIN = """
import numpy as np
from mtl.datasets.base import Dataset, Sample
from mtl.tasks import Task

class Own(Dataset):
    name = "own"
    tasks = {"odd": Task("odd", "binary")}

    def __init__(self, root):
        pass

    def fingerprint(self):
        return "own-1"

    def size(self, split):
        return 3

    def read(self, split, index, image_size):
        return Sample(np.full((*image_size, 3), index, np.uint8), {"odd": np.array(1, np.uint8)})
"""
NAME = "own_faults:Own"

Write = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five small pictures, as the working folder."""
    for number in range(5):
        Image.fromarray(np.full((6, 8, 3), 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_faults", raising=False)
    return tmp_path


@pytest.fixture
def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the module, with some of its text replaced and more after it."""

    def write(old: str = "", new: str = "", source: str = SOURCE, more: str = "") -> None:
        assert old in source
        (folder / "own_faults.py").write_text(source.replace(old, new, 1) + more)
        monkeypatch.delitem(sys.modules, "own_faults", raising=False)

    return write


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "own_faults.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def use(name: str) -> None:
    """All that a sweep asks of a dataset."""
    dataset = load_dataset(name, Path.cwd())
    dataset.fingerprint()
    for split in SPLITS:
        for index in range(dataset.size(split)):
            dataset.sample_name(split, index)
            dataset.read(split, index, (6, 8))


def problem(name: str = NAME) -> str:
    """The one line with which the dataset is refused, where it is opened or as its samples are read."""
    with pytest.raises(BadInput) as caught:
        use(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sound_ones_are_used(write: Write, folder: Path) -> None:
    for source in (SOURCE, PLAIN):
        write(source=source)
        dataset = load_dataset(NAME, folder)
        assert dataset.read("train", 1, (3, 4)).image.shape == (3, 4, 3)
        assert dataset.read_as_stored("val", 0, (6, 8)).image.shape == (6, 8, 3)
        assert (dataset.size("test"), dataset.name) == (1 if source == SOURCE else 3, "own")
        assert dataset.is_complete("test", 0)


# (what is replaced, by what, what the line begins with after "dataset own_faults:Own: ", what it names)
RAISING = [
    ('name = "own"', 'name = {}["x"]', "cannot import own_faults (KeyError: 'x')", 'name = {}["x"]'),
    ("import csv", "import csv; raise SystemExit(3)", "cannot import own_faults (SystemExit: 3)", "raise SystemExit"),
    ("import csv", "import csv (", "cannot import own_faults (SyntaxError: ", "import csv ("),
    ("super().__init__(root)", "super().__init__(root); csv.nothing", "__init__ raised AttributeError", "csv.nothing"),
    ("super().__init__(root)", "exit(0)", "__init__ raised SystemExit: 0", "exit(0)"),
    ("super().__init__(root)", "pass", "__init__ does not call super().__init__(root)", "def __init__"),
    ("def __init__(self, root, limit=9)", "def __init__(self)", "__init__ raised TypeError: ", "def __init__"),
    ('return [f"{name}.png"]', 'return {}["oak"]', "files('0') raised KeyError: 'oak'", 'return {}["oak"]'),
    ("image = read", 'raise StopIteration("a"); image = read', "load('0') raised StopIteration: a", "StopIteration"),
    ("image = read", "return self.load(name); image = read", "load('0') raised RecursionError: ", "self.load(name)"),
    ("image = read", "raise MemoryError; image = read", "load('0') raised MemoryError (", "MemoryError"),
    ("image = read", 'raise OSError("a\\nb"); image = read', "load('0') raised OSError: a (", "OSError"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said", "named"), RAISING, ids=[case[1] for case in RAISING])
def test_what_the_users_code_raises_has_its_line(
    old: str, new: str, said: str, named: str, write: Write, folder: Path
) -> None:
    write(old, new)
    line = problem()
    assert line.startswith((f"dataset {NAME}: {said}", f"dataset '{NAME}': {said}")), line
    assert f"(own_faults.py, line {line_of(folder, named)})" in line


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("def shared_files(self): return 1 / 0", "shared_files() raised ZeroDivisionError: division by zero"),
        ("def own_problems(self): return None", "own_problems() is None; allowed: a list of text"),
        ("def own_problems(self): raise LookupError", "own_problems() raised LookupError"),
        ("def variant(self): return 3", "variant() is 3; allowed: text"),
        ("def variant(self): raise LookupError", "variant() raised LookupError"),
        ("def fingerprint(self): return None", "fingerprint() is None; allowed: text"),
        ("def fingerprint(self): return 'a\\nb'", "fingerprint() gave 'a\\nb'; allowed: a short line of text"),
        ("def fingerprint(self): raise LookupError", "fingerprint() raised LookupError"),
        ("def size(self, split): return -1", "size('train') gave -1; allowed: a whole number"),
        ("def size(self, split): return 2.0", "size('train') gave 2.0; allowed: a whole number"),
        ("def size(self, split): return 10**30", "size('train') gave an int of more than 20 digits"),
        ("def size(self, split): raise LookupError", "size('train') raised LookupError"),
        ("def sample_name(self, split, index): return index", "sample_name('train', 0) is 0; allowed: text"),
        ("def read(self, split, index, image_size): return 5", "read('train', 0, (6, 8)) gave 5; allowed: a mtl"),
        ("def read(self): return 5", "read('train', 0, (6, 8)) raised TypeError: "),
        ("layout = 3", "layout is 3; allowed: text"),
        ("notes = 'text'", "notes is 'text'; allowed: a list of text"),
        ("notes = [3]", "notes, item 0 is 3; allowed: text"),
        ("problems = property(lambda self: 1 / 0)", "problems raised ZeroDivisionError: division by zero"),
        ("name = 3", "name is 3; allowed: text"),
        ("name = ''", "name is ''; allowed: letters"),
        ("name = '../own'", "name is '../own'; allowed: letters"),
        ("name = property(lambda self: 1 / 0)", "name raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_method_or_attribute_gives(method: str, said: str, write: Write, folder: Path) -> None:
    write(more=f"\n    {method}\n")
    line = problem()
    assert line.startswith(f"dataset {NAME}: {said}"), line
    place = re.search(r"\(own_faults\.py, line (\d+)\)", line)
    assert place, line
    # An attribute that is no function has the line of its class.
    assert int(place[1]) == line_of(folder, method if "def " in method or "lambda" in method else "class Own"), line


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("[]", "is a list; allowed: a dict"),
        ("{}", "is a dict; allowed: a dict of one"),
        ("None", "is None"),
        ("{'odd': 'binary'}", "has 'binary' for 'odd'; allowed: a mtl.tasks.Task"),
        ("{'x': Task('odd', 'binary')}", "has the Task 'odd' as 'x'; allowed: its name"),
        ("{'a+b': Task('a+b', 'binary')}", "has a Task called 'a+b'; allowed: letters, digits and _"),
        ("{'a/b': Task('a/b', 'binary')}", "has a Task called 'a/b'"),
        ("{3: Task(3, 'binary')}", "has a Task called 3"),
        ("{'image': Task('image', 'binary')}", "has a Task called 'image', which means something else here"),
        ("{'keys': Task('keys', 'binary')}", "has a Task called 'keys', which means something else here"),
        ("{'odd': Task('odd', 'boxes')}", "has 'odd' of kind 'boxes'; allowed: segmentation, depth"),
        ("{'odd': Task('odd', 'binary', ('n', 'y'))}", "has 'odd', a binary, with 2 classes; allowed: none"),
        ("{'odd': Task('odd', 'segmentation')}", "has 'odd', a segmentation, with 0 classes; allowed: 2 to 255"),
        ("{'odd': Task('odd', 'segmentation', tuple(map(str, range(256))))}", "with 256 classes; allowed: 2 to 255"),
        ("{'odd': Task('odd', 'classification', ('a', 'a'))}", "a class that is empty or there twice"),
        ("{'odd': Task('odd', 'classification', 'ab')}", "with classes that are not a tuple of names"),
        ("{'odd': Task('odd', 'classification', (1, 2))}", "with classes that are not a tuple of names"),
    ],
)
def test_tasks(tasks: str, said: str, write: Write) -> None:
    write(more=f"\n    tasks = {tasks}\n")
    line = problem()
    assert line.startswith(f"dataset {NAME}: tasks "), line
    assert said in line


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("None", "ids is None; allowed: a dict of train, val, test"),
        ("{'train': ['0'], 'valid': ['1'], 'test': ['2']}", "ids has splits 'train', 'valid', 'test'; allowed"),
        ("{'train': '012', 'val': ['3'], 'test': ['4']}", "ids['train'] is '012'; allowed: a list of text"),
        ("{'train': iter('012'), 'val': ['3'], 'test': ['4']}", "ids['train'] is a str_ascii_iterator; allowed"),
        ("{'train': [0, 1], 'val': ['3'], 'test': ['4']}", "ids['train'], item 0 is 0; allowed: text"),
        ("{'train': ['0', ''], 'val': ['3'], 'test': ['4']}", "ids has '' in train; allowed: text on one line"),
        ("{'train': ['0', '0'], 'val': ['3'], 'test': ['4']}", "sample 0 is listed in train and again in train"),
        ("{'train': [], 'val': ['3'], 'test': ['4']}", "split train is empty"),
    ],
)
def test_ids(ids: str, said: str, write: Write) -> None:
    write('self.ids = {"train": ["0", "1", "2"], "val": ["3"], "test": ["4"]}', f"self.ids = {ids}")
    assert said in problem()


def test_no_ids_at_all(write: Write) -> None:
    write('self.ids = {"train": ["0", "1", "2"], "val": ["3"], "test": ["4"]}', "")
    assert "ids raised AttributeError: 'Own' object has no attribute 'ids'" in problem()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("None", "files('0') is None; allowed: a list of text"),
        ("f'{name}.png'", "files('0') is '0.png'; allowed: a list of text"),
        ("[self.root / f'{name}.png']", "files('0'), item 0 is a PosixPath; allowed: text"),
        ("[f'{self.root}/{name}.png']", "allowed: paths below the dataset's folder"),
        ("[f'../{name}.png']", "files('0') gave '../0.png'; allowed: paths below the dataset's folder"),
        ("['']", "files('0') gave ''; allowed: paths below the dataset's folder"),
        ("['a\\0b']", "files('0') gave 'a\\x00b'; allowed: paths below the dataset's folder"),
    ],
)
def test_files(files: str, said: str, write: Write, folder: Path) -> None:
    write('return [f"{name}.png"]', f"return {files}")
    line = problem()
    assert said in line
    # Each sample has the same fault, and the check would list all.
    assert f"(own_faults.py, line {line_of(folder, 'def files')}) (and 4 more; " in line
    problems = open_dataset(NAME, folder).problems
    assert len(problems) == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return Sample(image, ", "return (image, ", "load('0') gave a tuple; allowed: a mtl.datasets.base.Sample"),
        ("Sample(image, ", "Sample(None, ", "sample 0 (0.png): its image is a NoneType; allowed: a uint8 array"),
        ("Sample(image, ", "Sample(image[..., 0], ", "its image is uint8 (6, 8); allowed: uint8 (height, width, 3)"),
        ("Sample(image, ", "Sample(image / 255, ", "its image is float64 (6, 8, 3); allowed: uint8"),
        ("Sample(image, ", "Sample(image[:0], ", "its image is uint8 (0, 8, 3); allowed: one pixel or more"),
        ('{"odd": np.array(int(name) % 2, np.uint8), ', "{", "it has targets for ['part']; allowed: exactly"),
        ('{"odd": np', '{3: 3, "odd": np', "it has targets for ['3', 'odd', 'part']; allowed: exactly"),
        ("np.array(int(name) % 2, np.uint8)", "1", "its odd is a int; allowed: an array"),
        ("np.array(int(name) % 2, np.uint8)", "np.array(1)", "its odd is int64 (); allowed: uint8 ()"),
        ("np.array(int(name) % 2, np.uint8)", "np.array(7, np.uint8)", "its odd holds 7; allowed: 0..1, and 255"),
        ("np.zeros((6, 8), np.uint8)", "np.zeros((6, 8))", "its part is float64 (6, 8); allowed: uint8"),
        ("np.zeros((6, 8), np.uint8)", "np.zeros((0, 8), np.uint8)", "its part is uint8 (0, 8); allowed: one value"),
        ("np.zeros((6, 8), np.uint8)", "None", "its part is a NoneType; allowed: an array"),
        ("np.zeros((6, 8), np.uint8)", "np.zeros((6, 8, 1), np.uint8)", "its part is uint8 (6, 8, 1); allowed"),
        ("np.zeros((6, 8), np.uint8)", "np.full((6, 8), 2, np.uint8)", "its part holds 2; allowed: 0..1"),
    ],
)
def test_samples(old: str, new: str, said: str, write: Write, folder: Path) -> None:
    write(old, new)
    line = problem()
    assert said in line
    assert f"(own_faults.py, line {line_of(folder, 'def load')})" in line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return Sample(", "raise KeyError('oak'); Sample(", "read('train', 0, (6, 8)) raised KeyError: 'oak'"),
        ("return Sample(", "Sample(", "read('train', 0, (6, 8)) gave None; allowed: a mtl.datasets.base.Sample"),
        ("(*image_size, 3)", "(*image_size, 4)", "train sample 0: its image is uint8 (6, 8, 4); allowed"),
        ("return 3", "return '3'", "size('train') gave '3'; allowed: a whole number"),
        ('return "own-1"', "return 1", "fingerprint() is 1; allowed: text"),
    ],
)
def test_a_dataset_without_files(old: str, new: str, said: str, write: Write) -> None:
    write(old, new, source=PLAIN)
    line = problem()
    assert said in line
    assert "(own_faults.py, line " in line


def test_an_error_that_cannot_say_what_it_is(write: Write) -> None:
    write(
        "image = read",
        "raise Mute; image = read",
        more="\nclass Mute(Exception):\n    def __str__(self):\n        return 1 / 0\n",
    )
    assert "load('0') raised Mute (own_faults.py, line " in problem()


def test_an_interrupt_is_none_of_the_users_errors(write: Write, folder: Path) -> None:
    write("image = read", "raise KeyboardInterrupt; image = read")
    with pytest.raises(KeyboardInterrupt):
        load_dataset(NAME, folder).read("train", 0, (6, 8))


def test_the_check_lists_every_sample(write: Write, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("image = read", "image = {'0': 1, '2': 1}[name] and read")
    assert main(["datasets", "check", ".", "--dataset", NAME]) == 2
    lines = capsys.readouterr().err.splitlines()
    place = f"(own_faults.py, line {line_of(folder, 'image = {')})"
    named = [f"problem: dataset {NAME}: load('{number}') raised KeyError: '{number}' {place}" for number in (1, 3, 4)]
    assert lines[:-1] == named
    assert "3 problems in ., the first: " in lines[-1]


def test_the_same_line_is_a_sweeps_and_a_trials(write: Write, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    version = load_dataset(NAME, folder).fingerprint()
    write("super().__init__(root)", "super().__init__(root); {}['oak']")
    said = f"dataset {NAME}: __init__ raised KeyError: 'oak' (own_faults.py, line {line_of(folder, 'oak')})"
    own = ["--data", ".", "--set", f"dataset={NAME}", "--set", "tasks=odd"]
    assert said in refused(["sweep", "rooms", *own, "--dry-run"], capsys)
    trial = config(dataset=NAME, tasks=("odd",), data_version=version, image_size=(16, 16))
    result = run_trial(trial, RunContext("results", "own", ".", threads=1, gpus=0, checkpoint_seconds=60, retries=3))
    assert (result.status, result.error) == ("failed", f"BadInput: {said}")
    # It would be so again: it was not retried.
    assert "tried" not in json.loads(result.to_json())["error"]


SAMPLER = """
from optuna.samplers import BaseSampler

class Own(BaseSampler):
    asked = 0

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        Own.asked += 1
        return distribution.low if Own.asked <= 15 else FAULT
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("{}['oak']", "sample_independent raised KeyError: 'oak'"),
        ("exit(0)", "sample_independent raised SystemExit: 0"),
        ("float('nan')", "sample_independent gave nan for lambda; allowed: "),
        ("10.0**9", "sample_independent gave 1000000000.0 for lambda; allowed: "),
        ("'much'", "sample_independent gave 'much' for lambda; allowed: "),
    ],
)
def test_a_sampler_that_fails_after_it_was_tried_out(
    fault: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    from mtl.vocabulary.objective import Objective
    from search.tuning.samplers import find_sampler
    from tests.support.made_up_search import space

    (folder / "own_faults.py").write_text(SAMPLER.replace("FAULT", fault))
    make = find_sampler(NAME, space(), [Objective("delta_m", "maximize"), Objective("group_sparsity", "maximize")])
    study = optuna.create_study(sampler=make(0))
    with pytest.raises(BadInput) as caught:
        study.ask(space().distributions)
    assert str(caught.value).startswith(f"sampler = {NAME}: {said}")
    assert "(own_faults.py, line " in str(caught.value)

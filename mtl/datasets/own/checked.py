"""A dataset of the user's own as the rest may rely on it: each of its answers checked, each error with its place."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args

import numpy as np

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.file_dataset import FileDataset, at_size
from mtl.errors import BadInput
from mtl.own_code import defined_at, own_code, shown
from mtl.tasks import IGNORE, Kind, Task

MOST_NAME = 64  # characters: a dataset's and a task's names are parts of files' names
MOST_SAMPLES = 10**9
# What a table of targets, and torch's table of heads, call something else.
TAKEN = ("image",)

Out = TypeVar("Out")


class OwnDataset(Dataset):
    """What a user's class gives, checked.

    Raises BadInput, one line with the class, the method, the file and the line, wherever a method of the class raises
    or gives what it must not. What is wrong with single samples of a `FileDataset` is among the `problems`.
    """

    def __init__(self, name: str, make: Callable[..., Dataset], root: Path, options: Mapping[str, Any]) -> None:
        """name: as the recipe has it, my_module:MyDataset. make: the class."""
        self._what, self._class, self._options = f"dataset {name}", make, dict(options)
        with own_code(self._what, "__init__", make):
            self._inner = make(root, **options)
        if isinstance(self._inner, FileDataset) and not hasattr(self._inner, "listing"):
            raise self._bad("__init__", "does not call super().__init__(root); allowed: one that does")
        self.name = self._name()
        self.tasks = self._tasks()
        self.layout = self._text("layout", self._get("layout"))
        self.notes = self._texts("notes", self._get("notes"))
        self.scaled_targets = self._get("scaled_targets") is True
        self.validates_on_train = self._get("validates_on_train") is True
        if isinstance(self._inner, FileDataset):
            self._check_ids(self._get("ids"))
            self._text("variant()", self._call("variant()", self._inner.variant))

    @cached_property
    def problems(self) -> Sequence[str]:  # type: ignore[override]
        """The class's own, or what is wrong with its lists of files, a line each."""
        if isinstance(self._inner, FileDataset):
            self._texts("own_problems()", self._call("own_problems()", self._inner.own_problems))
            self._check_files("shared_files()", self._call("shared_files()", self._inner.shared_files))
            if found := self._listing_problems(self._inner):
                return found
        return self._texts("problems", self._get("problems"))

    def fingerprint(self) -> str:
        """The class's own, and its options where it is given any: they may change what it makes of the same files."""
        found = self._text("fingerprint()", self._call("fingerprint()", self._inner.fingerprint))
        if not found or len(found) > 4 * MOST_NAME or not found.isprintable():
            raise self._bad("fingerprint()", f"gave {found[:MOST_NAME]!r}; allowed: a short line of text")
        if not self._options:
            return found
        options = json.dumps(self._options, sort_keys=True, default=str)
        return f"{found}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"

    def size(self, split: Split) -> int:
        call = f"size({split!r})"
        found = self._call(call, self._inner.size, split)
        if isinstance(found, bool) or not isinstance(found, int | np.integer) or not 0 <= found <= MOST_SAMPLES:
            raise self._bad(call, f"gave {shown(found)}; allowed: a whole number, 0 to {MOST_SAMPLES:,}")
        return int(found)

    def sample_name(self, split: Split, index: int) -> str:
        call = f"sample_name({split!r}, {index})"
        return self._text(call, self._call(call, self._inner.sample_name, split, index))

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        sample = self._checked(split, index, image_size)
        # A class that has a `read` of its own may also leave the size to us.
        return at_size(sample, self.tasks, image_size)

    def read_as_stored(self, split: Split, index: int, generated_size: tuple[int, int]) -> Sample:
        return self._checked(split, index, generated_size)

    def is_complete(self, split: Split, index: int) -> bool:
        try:
            return self._call("files", self._inner.is_complete, split, index)
        except BadInput:  # which is among the problems
            return False

    def _checked(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        if isinstance(self._inner, FileDataset) and type(self._inner).read is FileDataset.read:
            sample_id = self._inner.ids[split][index]
            call, files = f"load({sample_id!r})", f" ({', '.join(self._inner.files(sample_id))})"
            name = f"sample {sample_id}{files}"
            sample = self._call(call, self._inner.load, sample_id)
        else:
            call, name = f"read({split!r}, {index})", f"{split} sample {index}"
            sample = self._call(call, self._inner.read, split, index, image_size)
        if not isinstance(sample, Sample):
            raise self._bad(call, f"gave {shown(sample)}; allowed: a mtl.datasets.base.Sample")
        if wrong := invalidity(sample, self.tasks):
            place = defined_at(self._class, call.partition("(")[0])
            raise BadInput(f"dataset {self.name}: {name}: {wrong}{place}")
        return sample

    def _name(self) -> str:
        name = self._text("name", self._get("name"))
        plain = all(letter.isalnum() or letter in "_-." for letter in name)
        if not plain or not name[:1].isalnum() or len(name) > MOST_NAME:
            allowed = f"letters, digits, _, - and ., at most {MOST_NAME}"
            raise self._bad("name", f"is {name[:MOST_NAME]!r}; allowed: {allowed}")
        return name

    def _tasks(self) -> dict[str, Task]:
        tasks = self._get("tasks")
        if not isinstance(tasks, Mapping) or not tasks:
            raise self._bad("tasks", f"is {shown(tasks)}; allowed: a dict of one mtl.tasks.Task or more, by name")
        for key, task in tasks.items():
            if not isinstance(task, Task):
                raise self._bad("tasks", f"has {shown(task)} for {shown(key)}; allowed: a mtl.tasks.Task")
            if key != task.name:
                raise self._bad("tasks", f"has the Task {shown(task.name)} as {shown(key)}; allowed: its name")
            if wrong := _wrong_name(task.name) or _wrong_classes(task):
                raise self._bad("tasks", wrong)
        return dict(tasks)

    def _check_ids(self, ids: object) -> None:
        if not isinstance(ids, Mapping) or set(ids) != set(SPLITS):
            found = f"has splits {', '.join(map(shown, ids))}" if isinstance(ids, Mapping) else f"is {shown(ids)}"
            raise self._bad("ids", f"{found}; allowed: a dict of {', '.join(SPLITS)}")
        for split in SPLITS:
            for sample_id in self._texts(f"ids[{split!r}]", ids[split]):
                if not sample_id or not sample_id.isprintable():
                    raise self._bad("ids", f"has {shown(sample_id)} in {split}; allowed: text on one line")

    def _listing_problems(self, inner: FileDataset) -> list[str]:
        """What is wrong with the files of each sample; whether they are there is for the base to say."""
        found = []
        for split in SPLITS:
            for sample_id in inner.ids[split]:
                call = f"files({sample_id!r})"
                try:
                    self._check_files(call, self._call(call, inner.files, sample_id))
                except BadInput as error:
                    found.append(str(error).removeprefix(f"{self._what}: "))
        return found

    def _check_files(self, call: str, files: object) -> None:
        for file in self._texts(call, files):
            path = PurePosixPath(file)
            if not file.isprintable() or not path.parts or path.is_absolute() or ".." in path.parts:
                raise self._bad(call, f"gave {shown(file)}; allowed: paths below the dataset's folder")

    def _get(self, attribute: str) -> Any:
        """An attribute of the user's, which may be a property."""
        with own_code(self._what, attribute, self._class):
            return getattr(self._inner, attribute)

    def _call(self, call: str, method: Callable[..., Out], *arguments: Any) -> Out:
        with own_code(self._what, call, self._class):
            return method(*arguments)

    def _text(self, call: str, value: object) -> str:
        if not isinstance(value, str):
            raise self._bad(call, f"is {shown(value)}; allowed: text")
        return value

    def _texts(self, call: str, values: object) -> list[str]:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise self._bad(call, f"is {shown(values)}; allowed: a list of text")
        return [self._text(f"{call}, item {place}", value) for place, value in enumerate(values)]

    def _bad(self, call: str, found: str) -> BadInput:
        method = call.partition("(")[0].partition("[")[0].partition(",")[0]
        return BadInput(f"{self._what}: {call} {found}{defined_at(self._class, method)}")


def _wrong_name(name: object) -> str | None:
    """Tasks' names are joined by +, and are parts of columns' and modules' names."""
    # torch takes its time to import, and only datasets of one's own ask this.
    from torch.nn import ModuleDict

    if not isinstance(name, str) or not name.isidentifier() or len(name) > MOST_NAME:
        return f"has a Task called {shown(name)}; allowed: letters, digits and _, at most {MOST_NAME}"
    if name in TAKEN or hasattr(ModuleDict(), name):
        return f"has a Task called {name!r}, which means something else here; allowed: another name"
    return None


def _wrong_classes(task: Task) -> str | None:
    kinds, classes, named = get_args(Kind), task.classes, task.kind in ("segmentation", "classification")
    if task.kind not in kinds:
        return f"has {task.name!r} of kind {shown(task.kind)}; allowed: {', '.join(kinds)}"
    if not isinstance(classes, tuple | list) or not all(isinstance(one, str) and one.isprintable() for one in classes):
        return f"has {task.name!r} with classes that are not a tuple of names; allowed: such as ('no', 'yes')"
    if not named and classes:
        return f"has {task.name!r}, a {task.kind}, with {len(classes)} classes; allowed: none"
    if named and not 2 <= len(classes) <= IGNORE:
        return f"has {task.name!r}, a {task.kind}, with {len(classes)} classes; allowed: 2 to {IGNORE}"
    if len(set(classes)) < len(classes) or "" in classes:
        return f"has {task.name!r} with a class that is empty or there twice; allowed: each name once"
    return None

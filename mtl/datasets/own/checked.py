"""A dataset of the user's own as the rest may rely on it: each of its answers checked, each error with its place."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args

import numpy as np

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.file_dataset import FileDataset, at_size
from mtl.errors import BadInput
from mtl.own_code import defined_at, own_code, shown
from mtl.tasks import IGNORE, Kind, Task, wrong_fields

MOST_NAME = 64  # characters: a dataset's and a task's names are parts of files' names
MOST_SAMPLES = 10**9
# Names that have another meaning in a table of targets.
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
            raise self._bad("__init__", "does not call super().__init__(root); allowed: a class that calls it")
        self.name = self._get("name", self._name)
        self.tasks = self._get("tasks", self._tasks)
        self.layout = self._get("layout", self._text)
        self.notes = self._get("notes", self._texts)
        self.scaled_targets = self._get("scaled_targets") is True
        self.validates_on_train = self._get("validates_on_train") is True
        if isinstance(self._inner, FileDataset):
            self._get("ids", self._check_ids)
            self._call(self._text, "variant")

    @cached_property
    def problems(self) -> Sequence[str]:  # type: ignore[override]
        """The class's own, or what is wrong with its lists of files, a line each."""
        if isinstance(self._inner, FileDataset):
            self._call(self._texts, "own_problems")
            self._call(self._check_files, "shared_files")
            found = []
            for sample_id in chain.from_iterable(self._inner.ids[split] for split in SPLITS):
                try:
                    self._call(self._check_files, "files", sample_id)
                except BadInput as error:
                    found.append(str(error).removeprefix(f"{self._what}: "))
            if found:  # whether the files are there is for the base to say
                return found
        return self._get("problems", self._texts)

    def fingerprint(self) -> str:
        """The class's own, and its options if there are any, as they may change what it makes of the same files."""
        found = self._call(self._text, "fingerprint")
        if not found or len(found) > 4 * MOST_NAME or not found.isprintable():
            raise self._bad("fingerprint()", f"gave {found[:MOST_NAME]!r}; allowed: a short line of text")
        if not self._options:
            return found
        options = json.dumps(self._options, sort_keys=True, default=str)
        return f"{found}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"

    def size(self, split: Split) -> int:
        return self._call(self._size, "size", split)

    def sample_name(self, split: Split, index: int) -> str:
        return self._call(self._text, "sample_name", split, index)

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        # A class that has a `read` of its own may also leave the size to us.
        return at_size(self.read_as_stored(split, index, image_size), self.tasks, image_size)

    def read_as_stored(self, split: Split, index: int, generated_size: tuple[int, int]) -> Sample:
        inner = self._inner
        if isinstance(inner, FileDataset) and type(inner).read is FileDataset.read:
            sample_id = inner.ids[split][index]
            name = f"sample {sample_id} ({', '.join(inner.files(sample_id))})"
            return self._call(partial(self._sample, name), "load", sample_id)
        return self._call(partial(self._sample, f"{split} sample {index}"), "read", split, index, generated_size)

    def is_complete(self, split: Split, index: int) -> bool:
        try:
            with own_code(self._what, "files", self._class):
                return self._inner.is_complete(split, index)
        except BadInput:  # which is among the problems
            return False

    def _sample(self, name: str, call: str, sample: object) -> Sample:
        if not isinstance(sample, Sample):
            raise self._bad(call, f"gave {shown(sample)}; allowed: a mtl.datasets.base.Sample")
        if wrong := invalidity(sample, self.tasks):
            place = defined_at(self._class, call.partition("(")[0])
            raise BadInput(f"dataset {self.name}: {name}: {wrong}{place}")
        return sample

    # What follows checks the answer to a call, or an attribute, and gives it back.

    def _size(self, call: str, size: object) -> int:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 0 <= size <= MOST_SAMPLES:
            raise self._bad(call, f"gave {shown(size)}; allowed: a whole number, 0 to {MOST_SAMPLES:,}")
        return int(size)

    def _name(self, call: str, value: object) -> str:
        name = self._text(call, value)
        plain = all(letter.isalnum() or letter in "_-." for letter in name)
        if not plain or not name[:1].isalnum() or len(name) > MOST_NAME:
            raise self._bad(call, f"is {name[:MOST_NAME]!r}; allowed: letters, digits, _, - and ., at most {MOST_NAME}")
        return name

    def _tasks(self, call: str, tasks: object) -> dict[str, Task]:
        if not isinstance(tasks, Mapping) or not tasks:
            raise self._bad(call, f"is {shown(tasks)}; allowed: a dict of one mtl.tasks.Task or more, by name")
        for key, task in tasks.items():
            if not isinstance(task, Task):
                raise self._bad(call, f"has {shown(task)} for {shown(key)}; allowed: a mtl.tasks.Task")
            if key != task.name:
                raise self._bad(call, f"has the Task {shown(task.name)} as {shown(key)}; allowed: its name")
            if wrong := _wrong_name(task.name) or _wrong_classes(task):
                raise self._bad(call, wrong)
            if wrong := wrong_fields(task):
                raise self._bad(call, f"has {wrong}")
        return dict(tasks)

    def _check_ids(self, call: str, ids: object) -> None:
        if not isinstance(ids, Mapping) or set(ids) != set(SPLITS):
            found = f"has splits {', '.join(map(shown, ids))}" if isinstance(ids, Mapping) else f"is {shown(ids)}"
            raise self._bad(call, f"{found}; allowed: a dict of {', '.join(SPLITS)}")
        for split in SPLITS:
            for sample_id in self._texts(f"{call}[{split!r}]", ids[split]):
                if not sample_id or not sample_id.isprintable():
                    raise self._bad(call, f"has {shown(sample_id)} in {split}; allowed: text on one line")

    def _check_files(self, call: str, files: object) -> None:
        for file in self._texts(call, files):
            path = PurePosixPath(file)
            if not file.isprintable() or not path.parts or path.is_absolute() or ".." in path.parts:
                raise self._bad(call, f"gave {shown(file)}; allowed: paths below the dataset's folder")

    def _text(self, call: str, value: object) -> str:
        if not isinstance(value, str):
            raise self._bad(call, f"is {shown(value)}; allowed: text")
        return value

    def _texts(self, call: str, values: object) -> list[str]:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise self._bad(call, f"is {shown(values)}; allowed: a list of text")
        return [self._text(f"{call}, item {place}", value) for place, value in enumerate(values)]

    def _get(self, attribute: str, check: Callable[[str, Any], Any] = lambda _, value: value) -> Any:
        """An attribute of the user's, which may be a property, as `check` gives it back."""
        with own_code(self._what, attribute, self._class):
            found = getattr(self._inner, attribute)
        return check(attribute, found)

    def _call(self, check: Callable[[str, Any], Out], method: str, *arguments: object) -> Out:
        """What a method of the user's gives, as `check` gives it back."""
        call = f"{method}({', '.join(map(repr, arguments))})"
        with own_code(self._what, call, self._class):
            found = getattr(self._inner, method)(*arguments)
        return check(call, found)

    def _bad(self, call: str, found: str) -> BadInput:
        method = call.partition("(")[0].partition("[")[0].partition(",")[0]
        return BadInput(f"{self._what}: {call} {found}{defined_at(self._class, method)}")


def _wrong_name(name: object) -> str | None:
    """Tasks' names are joined by +, and are parts of columns' and modules' names."""
    # torch takes its time to import, and only a user's own datasets need it.
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
    if not isinstance(classes, tuple | list) or not all(
        isinstance(name, str) and name.isprintable() for name in classes
    ):
        return f"has {task.name!r} with classes that are not a tuple of names; allowed: such as ('no', 'yes')"
    if not named and classes:
        return f"has {task.name!r}, a {task.kind}, with {len(classes)} classes; allowed: none"
    if named and not 2 <= len(classes) <= IGNORE:
        return f"has {task.name!r}, a {task.kind}, with {len(classes)} classes; allowed: 2 to {IGNORE}"
    if len(set(classes)) < len(classes) or "" in classes:
        return f"has {task.name!r} with a class that is empty or there twice; allowed: each name once"
    return None

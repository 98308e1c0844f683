"""Datasets that lie in a folder: what they share, so that one of your own is a list of ids and a way to load one."""

import hashlib
import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.inspect.content import Listing, digests
from mtl.datasets.own.source import source_digests
from mtl.datasets.resize import resize_image, resize_target
from mtl.errors import BadInput
from mtl.tasks import Task


class FileDataset(Dataset):
    """The base of every dataset kept in files under `root`; a subclass, your own included, gives

        name, tasks                as class attributes, or set in its __init__
        ids                        set in its __init__: for each split the ids of its samples, in order
        files(sample_id)           the files that a sample is read from, relative to `root`, "/" between folders
        load(sample_id)            the sample at the size in which it is stored

    and from these follow the splits' sizes, which files are missing (`problems`), the fingerprint of the content, and
    samples at any size. The constructor raises `BadInput` where `root` is no folder. `options` of a recipe's
    `dataset_options` are keyword arguments of the subclass's __init__, after `root`.
    """

    ids: Mapping[Split, Sequence[str]]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listing = Listing(root)  # remembers each folder that it has listed
        if not root.is_dir():
            raise self.bad(f"{root} is not a directory" if root.exists() else f"{root} does not exist")

    @abstractmethod
    def files(self, sample_id: str) -> Sequence[str]:
        """Every file that `load` reads for this sample, relative to `root`; files shared by samples may repeat."""

    @abstractmethod
    def load(self, sample_id: str) -> Sample:
        """The sample as stored; the image and its targets may differ in size.

        Raises `BadInput`, one line that names the file, where a file is damaged (`mtl.datasets.reading` does).
        """

    def shared_files(self) -> Sequence[str]:
        """Files that decide what the samples are, such as lists and tables, relative to `root`."""
        return ()

    @cached_property
    def problems(self) -> Sequence[str]:  # type: ignore[override]
        """What the subclass found, empty splits, samples that are listed twice, and missing files; one line each."""
        found = [*self.own_problems()]
        found += [f"{self.root}: split {split} is empty" for split in SPLITS if not self.ids[split]]
        first_split: dict[str, Split] = {}
        for split in SPLITS:
            for sample_id in self.ids[split]:
                meant = self.validates_on_train and (first_split.get(sample_id), split) == ("train", "val")
                if sample_id in first_split and not meant:
                    found.append(f"sample {sample_id} is listed in {first_split[sample_id]} and again in {split}")
                first_split.setdefault(sample_id, split)
        found += [f"{self.root / file} is missing" for file in self._all_files if not self.listing.has(file)]
        return found

    def own_problems(self) -> Sequence[str]:
        """What a subclass has found wrong in its lists and tables; one line each, naming the file."""
        return ()

    def fingerprint(self) -> str:
        """Hash of the splits, the tasks, the content of every file, and what the code of a class that is not ours does.

        That is the modules of the class and of its base classes, with the user's modules that these import: all of
        their source but comments, docstrings and formatting, see `mtl.datasets.own.source`. The code and not the
        samples that it makes, as to compare these would be to read every one of them at each start.
        """
        tasks = [task.identity for task in self.tasks.values()]
        content = json.dumps([self.ids, tasks, self._source(), self.variant(), digests(self.listing, self._all_files)])
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def variant(self) -> str:
        """Options that change what `load` gives and neither tasks nor ids; part of the fingerprint."""
        return ""

    def size(self, split: Split) -> int:
        return len(self.ids[split])

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        sample_id = self.ids[split][index]
        sample = self.load(sample_id)
        wrong = invalidity(sample, self.tasks)
        if wrong:
            raise self.bad(f"sample {sample_id} ({', '.join(self.files(sample_id))}): {wrong}")
        return at_size(sample, self.tasks, image_size)

    def read_as_stored(self, split: Split, index: int, generated_size: tuple[int, int]) -> Sample:
        return self.load(self.ids[split][index])

    def is_complete(self, split: Split, index: int) -> bool:
        return all(self.listing.has(file) for file in self.files(self.ids[split][index]))

    def sample_name(self, split: Split, index: int) -> str:
        return self.ids[split][index]

    def bad(self, problem: str) -> BadInput:
        """An error in this dataset's name."""
        return BadInput(f"dataset {self.name}: {problem}")

    def _source(self) -> list[str]:
        """What the code does in the user's own modules that the class and its base classes are in, as hashes."""
        modules = dict.fromkeys(cls.__module__ for cls in type(self).__mro__)
        own = [m for m in modules if not m.startswith("mtl.") and m not in sys.stdlib_module_names]
        try:
            return source_digests(own)
        except (OSError, TypeError, KeyError) as error:
            raise self.bad(f"the source code of {', '.join(own)} cannot be read; allowed: classes in a file") from error

    @cached_property
    def _all_files(self) -> list[str]:
        """Every file that is read, once, in the order of first use."""
        each = (file for split in SPLITS for sample_id in self.ids[split] for file in self.files(sample_id))
        return list(dict.fromkeys([*self.shared_files(), *each]))


def at_size(sample: Sample, tasks: Mapping[str, Task], image_size: tuple[int, int]) -> Sample:
    """A valid sample at (height, width)."""
    targets = {name: resize_target(tasks[name].kind, target, image_size) for name, target in sample.targets.items()}
    return Sample(resize_image(sample.image, image_size), targets)

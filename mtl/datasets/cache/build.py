"""A dataset read once, at one size, and kept on disk as arrays that every trial maps into memory."""

import hashlib
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mtl.cache_root import default_cache_root
from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import IMAGE_FORM, form_of
from mtl.errors import BadInput
from mtl.tasks import Task
from mtl.vocabulary.units import byte_size

# Raise this number whenever a change of a reader, of the resizing or of the files below changes what is stored.
VERSION = 1

# Each holds a decoded sample or two; past this the disk is the limit.
MOST_THREADS = 16

Arrays = dict[Split, dict[str, NDArray]]


def materialise(
    dataset: Dataset,
    image_size: tuple[int, int],
    cache_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Arrays:
    """All samples at `image_size` (height, width), by split: "image", uint8 (N, H, W, 3), and every task's targets.

    Targets have the form that `mtl.tasks` fixes, behind a leading N. The arrays are read-only memory maps of the files

        CACHE_ROOT/NAME-HASH/SPLIT/{image,TASK}.npy

    with the hash of the dataset's fingerprint, the size and `VERSION`. All tasks are stored, whichever a trial learns:
    the trials of a sweep then share one cache, and arrays that are not used are not read. `cache_root` is by default
    $PARSIMONY_CACHE, else $XDG_CACHE_HOME/parsimony, else ~/.cache/parsimony.

    Of several processes that start together a single one builds and the others wait for it. It alone calls
    `progress(done, total)`. Raises `BadInput` where the cache cannot be written or read.
    """
    root = default_cache_root() if cache_root is None else cache_root
    folder = _folder(dataset, image_size, root)
    if not folder.is_dir():
        try:
            root.mkdir(parents=True, exist_ok=True)
            # The operating system frees this lock with its process, however that ends.
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    check_room(dataset, image_size, root)
                    _build(dataset, image_size, folder, progress)
        except OSError as error:  # a dataset reports its own files as BadInput, so these are the cache's
            raise BadInput(
                f"cache {root}: cannot be written ({error}); set PARSIMONY_CACHE to a folder with room"
            ) from error
    return _open(folder, dataset.tasks)


def _open(folder: Path, tasks: Mapping[str, Task]) -> Arrays:
    try:
        return {
            split: {
                key: np.load(folder / split / f"{key}.npy", mmap_mode="r", allow_pickle=False)
                for key in ("image", *tasks)
            }
            for split in SPLITS
        }
    except (OSError, ValueError) as error:
        raise BadInput(f"cache {folder}: cannot be read ({error}); remove this folder and it is built anew") from error


def _build(
    dataset: Dataset, image_size: tuple[int, int], folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Write `folder` under another name and rename it, so that it is whole if it is there; needs the lock."""
    # The lock makes this the only builder of `folder`, so a folder of this name was left by a process that was killed.
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    total = sum(dataset.size(split) for split in SPLITS)
    try:
        written = chain.from_iterable(_write_split(dataset, split, image_size, unfinished / split) for split in SPLITS)
        for done, _ in enumerate(written, start=1):
            if progress:
                progress(done, total)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_split(dataset: Dataset, split: Split, image_size: tuple[int, int], folder: Path) -> Iterator[None]:
    """Write one split's files, a few samples in memory at a time; yields once after each.

    The files are written and not mapped, as a write to a map kills the process where the disk is full.
    """
    folder.mkdir(parents=True)
    forms = _forms(dataset.tasks, image_size)
    with ExitStack() as stack:
        files = {key: stack.enter_context((folder / f"{key}.npy").open("xb")) for key in forms}
        for key, (dtype, shape) in forms.items():
            header = {"descr": dtype.str, "fortran_order": False, "shape": (dataset.size(split), *shape)}
            np.lib.format.write_array_header_1_0(files[key], header)
        for index, sample in enumerate(_read_ahead(dataset, split, image_size)):
            arrays = {"image": sample.image, **sample.targets}
            for key, form in forms.items():
                found = arrays[key].dtype, arrays[key].shape
                if found != form:
                    where = f"dataset {dataset.name}: sample {dataset.sample_name(split, index)}"
                    dtypes = [f"{dtype} {shape}" for dtype, shape in (found, form)]
                    raise BadInput(f"{where} has {key} as {dtypes[0]}; allowed, once resized: {dtypes[1]}")
                files[key].write(arrays[key].tobytes())
            yield
        for file in files.values():  # else a power cut after the rename could leave a whole folder of empty files
            file.flush()
            os.fsync(file.fileno())


def _read_ahead(dataset: Dataset, split: Split, image_size: tuple[int, int]) -> Iterator[Sample]:
    """The samples of a split in order, read by a thread for each core, as decoders release the interpreter."""
    threads = min(MOST_THREADS, max(2, os.cpu_count() or 1))
    ahead: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in range(dataset.size(split)):
                ahead.append(pool.submit(dataset.read, split, index, image_size))
                if len(ahead) == 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def check_room(dataset: Dataset, image_size: tuple[int, int], cache_root: Path | None = None) -> None:
    """Raise BadInput where the disk has no room for the cache that `materialise` would build, before it is begun."""
    root = default_cache_root() if cache_root is None else cache_root
    sample = sum(dtype.itemsize * math.prod(shape) for dtype, shape in _forms(dataset.tasks, image_size).values())
    needed = sample * sum(dataset.size(split) for split in SPLITS)
    there = next((folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir()), root)
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise BadInput(
            f"cache {root}: cannot be reached ({error.strerror}); set PARSIMONY_CACHE to a folder"
        ) from error
    # A cache that exists needs no room. Asked last, as its name is that of a fingerprint, which may read every file.
    if needed > free and not _folder(dataset, image_size, root).is_dir():
        raise BadInput(
            f"cache {root}: has {byte_size(free)} free and dataset {dataset.name} needs {byte_size(needed)} at "
            f"{image_size[0]} x {image_size[1]}; set PARSIMONY_CACHE to a folder with room"
        )


def _folder(dataset: Dataset, image_size: tuple[int, int], root: Path) -> Path:
    key = json.dumps([VERSION, dataset.fingerprint(), image_size])
    return root / f"{dataset.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _forms(tasks: Mapping[str, Task], image_size: tuple[int, int]) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """The dtype and shape of one sample's image and targets, as `mtl.tasks` fixes them."""
    length = dict(zip(("height", "width"), image_size, strict=True))
    forms = {"image": IMAGE_FORM, **{name: form_of(task) for name, task in tasks.items()}}
    return {
        name: (np.dtype(dtype), tuple(axis if isinstance(axis, int) else length[axis] for axis in axes))
        for name, (dtype, axes) in forms.items()
    }

"""What data costs a trial: `python -m benchmarks.data [--json] [--nyuv2 DIR]`.

    wait     a warm epoch of the recipe nyuv2-small at 96 x 128: the share of the time spent waiting for batches
    rate     samples a second from one process, augmentation off, beside a torch DataLoader that decodes the files
    memory   8 processes that read an epoch at once: memory of its own each, as a share of the dataset, beside the same
             arrays loaded into each process; and how many of the 8 built the cache
    index    a folder of 30,000 CelebAMask-HQ images, cold where the page cache may be dropped

DIR is NYU-v2 in any of its layouts. Without it a folder of the same number and form is written, of noise.
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.celebamask_folder import index_seconds, write_folder
from benchmarks.parts import run_parts
from mtl import training
from mtl.datasets.base import SPLITS, Dataset
from mtl.datasets.batches.load import training_batches
from mtl.datasets.cache.build import Arrays, materialise
from mtl.datasets.registry import load_dataset
from mtl.training import Training
from search.recipe import expand
from search.recipe_file import load_recipe

SIZE = (96, 128)
PROCESSES = 8
spawn = multiprocessing.get_context("spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nyuv2", type=Path, metavar="DIR", help="NYU-v2 in any of its layouts")
    parser.add_argument("--celeba-images", type=int, default=30_000)
    parser.add_argument("--only", choices=["wait", "rate", "memory", "index"])
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "image_size": SIZE,
    }
    with tempfile.TemporaryDirectory() as scratch:
        root = options.nyuv2 or write_noise(Path(scratch) / "nyuv2")
        result["nyuv2"] = "real frames" if options.nyuv2 else "noise in the form of NYU-v2"
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "memory": lambda: measure_memory(root, Path(scratch) / "memory"),
            "wait": lambda: measure_wait(*open_cached(root, Path(scratch))),
            "rate": lambda: measure_rate(*open_cached(root, Path(scratch))),
            "index": lambda: measure_index(Path(scratch) / "celeba", options.celeba_images),
        }
        run_parts(result, parts, options.only, options.json)


def open_cached(root: Path, scratch: Path) -> tuple[Dataset, Arrays]:
    dataset = load_dataset("nyuv2", root)
    return dataset, materialise(dataset, SIZE, scratch / "cache")


def measure_wait(dataset: Dataset, arrays: Arrays) -> dict[str, Any]:
    """One epoch to warm up, then one in which every wait for a batch is timed."""
    recipe = load_recipe("nyuv2-small", [f"image_size=[{SIZE[0]},{SIZE[1]}]"])
    config = next(c for c in expand(recipe, dataset.fingerprint()) if len(c.tasks) == 3 and c.strength > 0)
    trial = Training(config, [dataset.tasks[name] for name in config.tasks], arrays, torch.device("cpu"))
    waits: list[float] = []
    ends: list[float] = []

    def timed(*arguments: Any) -> Iterator[Any]:
        batches = training_batches(*arguments)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            ends.append(time.perf_counter())
            if batch is None:
                return
            waits.append(ends[-1] - started)
            yield batch

    trial.run_epoch()
    with mock.patch.object(training, "training_batches", timed):
        trial.run_epoch()
    steps = np.diff(ends)
    return {
        "steps": len(waits),
        "milliseconds_a_step": round(1000 * float(np.median(steps)), 1),
        "milliseconds_of_waiting_a_step": round(1000 * float(np.median(waits)), 2),
        "waiting_share_of_the_epoch": round(sum(waits) / float(steps.sum()), 4),
        "threads": torch.get_num_threads(),
    }


def measure_rate(dataset: Dataset, arrays: Arrays) -> dict[str, Any]:
    """Medians over epochs of the training split."""
    tasks = list(dataset.tasks.values())
    count = len(arrays["train"]["image"])
    batch_size = 16

    def ours() -> None:
        for _ in training_batches(arrays["train"], tasks, batch_size, (), torch.Generator().manual_seed(0)):
            pass

    loader = DataLoader(_Decoded(dataset), batch_size, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1)

    def peer() -> None:
        for _ in loader:
            pass

    used = count // batch_size * batch_size
    ours()
    rate = used / _median_seconds(ours, 5)
    decoding = used / _median_seconds(peer, 1)
    return {
        "samples_a_second": round(rate),
        "samples_a_second_of_a_DataLoader_that_decodes": round(decoding),
        "workers_of_the_DataLoader": os.cpu_count(),
        "times_the_DataLoader": round(rate / decoding, 1),
    }


class _Decoded(torch.utils.data.Dataset):
    """The field's usual reading: every sample decoded and resized anew in each epoch, by worker processes."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return self._dataset.size("train")

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sample = self._dataset.read("train", index, SIZE)
        image = torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255
        return {"image": image} | {name: torch.from_numpy(target) for name, target in sample.targets.items()}


def measure_memory(root: Path, cache_root: Path) -> dict[str, Any]:
    """Processes start together on an empty cache, read an epoch, and report before any of them ends."""
    figures = {}
    for kind in ("mapped", "loaded"):
        barrier, answers = spawn.Barrier(PROCESSES), spawn.Queue()
        processes = [
            spawn.Process(target=_read_epoch, args=(kind, root, cache_root, barrier, answers)) for _ in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        figures[kind] = [answers.get() for _ in processes]
        for process in processes:
            process.join()
    size = figures["mapped"][0].dataset_bytes
    shares = {kind: sorted(f.own_bytes / size for f in of_kind) for kind, of_kind in figures.items()}
    return {
        "dataset_megabytes": round(size / 1e6),
        "processes": PROCESSES,
        "cache_builds": sum(f.built for f in figures["mapped"]),
        "largest_own_share_of_the_dataset": round(shares["mapped"][-1], 4),
        "the_same_where_each_loads_the_arrays": round(shares["loaded"][-1], 4),
    }


@dataclass(frozen=True)
class _Reader:
    own_bytes: int
    dataset_bytes: int
    built: bool


def _read_epoch(kind: str, root: Path, cache_root: Path, barrier: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    dataset = load_dataset("nyuv2", root)
    tasks = list(dataset.tasks.values())
    progress: list[int] = []
    barrier.wait()
    arrays = materialise(dataset, SIZE, cache_root, lambda done, total: progress.append(done))
    # The allocator's own needs, and what building has left behind, are no part of holding the data.
    _one_epoch({key: array[:64] for key, array in arrays["train"].items()}, tasks)
    before = _private_bytes()
    held = arrays if kind == "mapped" else {s: {k: np.array(a) for k, a in arrays[s].items()} for s in SPLITS}
    for split in SPLITS:
        _one_epoch(held[split], tasks)
    # A page counts as a process's own while no other has it mapped: measured while all are there and have read all.
    barrier.wait()
    own = _private_bytes() - before
    barrier.wait()
    size = sum(a.nbytes for split in arrays.values() for a in split.values())
    answers.put(_Reader(own, size, bool(progress)))


def _one_epoch(arrays: dict[str, np.ndarray], tasks: list) -> None:
    for _ in training_batches(arrays, tasks, 16, (), torch.Generator().manual_seed(0)):
        pass


def _private_bytes() -> int:
    """Resident memory that this process shares with no other; pages of a file that several map are shared."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def measure_index(root: Path, images: int) -> dict[str, Any]:
    """Opening the folder, looking for what is missing, and hashing the content, which a second start remembers."""
    files = write_folder(root, images)
    seconds = index_seconds(root)
    first = sum(value for name, value in seconds.items() if isinstance(value, float) and name.startswith("first"))
    return {"images": images, "files": files, "seconds_in_all": round(first, 2), **seconds}


def _median_seconds(call: Callable[[], None], times: int) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def write_noise(root: Path) -> Path:
    """1,449 frames in the NYUD_MT layout at 192 x 256, 795 for training."""
    rng = np.random.default_rng(0)
    size = (192, 256)
    for folder in ("images", "segmentation", "depth", "normals", "gt_sets"):
        (root / folder).mkdir(parents=True)
    names = [f"{k:04d}" for k in range(1449)]
    (root / "gt_sets" / "train.txt").write_text("\n".join(names[:795]))
    (root / "gt_sets" / "val.txt").write_text("\n".join(names[795:]))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(rng.integers(0, 41, size, np.uint8)).save(root / "segmentation" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", rng.uniform(0.5, 10, size).astype(np.float32))
        normals = rng.normal(size=(*size, 3)).astype(np.float32)
        np.save(root / "normals" / f"{name}.npy", normals / np.linalg.norm(normals, axis=-1, keepdims=True))
    return root


if __name__ == "__main__":
    main()

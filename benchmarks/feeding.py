"""Whether a network waits for its data: `python -m benchmarks.feeding [--device cuda] [--json] [--only PART]`.

    share    of a training step's time that is the network's: an epoch against one in which the same batch is there
             from the start, for `nyuv2-small` and for a ResNet-50 at 256 x 256; wanted: 0.95
    rate     samples a second that arrive ready on the device, for each augmentation, with one thread of the CPU;
             beside a torch DataLoader whose workers augment with torchvision.transforms.v2
    crop     the two ways to enlarge a window, in turns: dense products and reading the neighbours
    disk     samples a second from a disk that takes a millisecond a sample, with loader_threads and with a DataLoader's
             worker processes

On made-up frames with the labels of NYU-v2. The functions take a device, and are for other benchmarks too.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.parts import run_parts
from mtl import training
from mtl.config import TrialConfig
from mtl.datasets.batches import enlarge
from mtl.datasets.batches.augmentation import Batch
from mtl.datasets.batches.load import MEAN, STD, evaluation_batches, training_batches
from mtl.passes import run_alone
from mtl.tasks import Task
from mtl.training import Training
from search.recipe import expand
from search.recipe_file import load_recipe

TASKS = (
    Task("segmentation", "segmentation", tuple(f"class{k}" for k in range(13))),
    Task("depth", "depth"),
    Task("normals", "normals"),
)
AUGMENTATIONS: tuple[tuple[str, ...], ...] = (
    (), ("flip",), ("crop",), ("scale_crop",), ("colour",), ("flip", "crop", "colour"),
)  # fmt: skip
RESNET50 = ("backbone=resnet50", "backbone_width=64", "backbone_layers=", "image_size=256", "head_channels=256")
DISK_SECONDS = 1e-3  # a sample: 200 kB at 200 MB a second
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", choices=["share", "rate", "crop", "disk"])
    parser.add_argument("--small", action="store_true", help="a few small frames: whether it runs, and no figures")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of the DataLoader")
    options = parser.parse_args()
    device, side = torch.device(options.device), 32 if options.small else 256
    count = 32 if options.small else 64
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "share": lambda: measure_shares(device, options.small),
        "rate": lambda: measure_rates(frames(count, (side, side)), device, options.workers),
        "crop": lambda: measure_crop(side, device),
        "disk": lambda: measure_disk(frames(count if options.small else 512, (64, 64)), device),
    }
    run_parts(result, parts, options.only, options.json)


def frames(count: int, size: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
    """A split of noise, as the cache holds one."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, *size, 3), np.uint8),
        "segmentation": rng.integers(0, 13, (count, *size), np.uint8),
        "depth": rng.uniform(0.5, 10, (count, *size)).astype(np.float32),
        "normals": rng.standard_normal((count, *size, 3)).astype(np.float32),
    }


def measure_shares(device: torch.device, small: bool = False) -> dict[str, Any]:
    """For both networks; on a CPU the large one takes only a few steps."""
    shares = {}
    for name, sets in (("nyuv2-small", ["image_size=[96,128]"]), ("resnet50 at 256 x 256", list(RESNET50))):
        few = small or (device.type == "cpu" and name != "nyuv2-small")
        if small:
            sets = [*sets, "image_size=32", "backbone_width=8", "head_channels=8", "batch_size=4"]
        gpus = int(device.type == "cuda")
        recipe = load_recipe("nyuv2-small", [*sets, f"gpus_per_trial={gpus}"])
        config = next(one for one in expand(recipe, "made-up") if len(one.tasks) == 3 and one.strength > 0)
        shares[name] = network_share(config, device, steps=2 if few else 20, rounds=1 if few else ROUNDS)
    return shares


def network_share(config: TrialConfig, device: torch.device, steps: int, rounds: int = ROUNDS) -> dict[str, float]:
    """How much of a training's steps is the network's: the median over epochs, fed and unfed, in turns.

    Unfed the same batch, which is on the device already, comes at every step: nothing is read, moved or augmented.
    """
    split = frames(steps * config.batch_size, config.image_size)
    few = frames(2, config.image_size)
    tasks = [task for task in TASKS if task.name in config.tasks]
    trial = Training(config, tasks, {"train": split, "val": few, "test": few}, device)
    batch = next(training_batches(split, tasks, config.batch_size, (), torch.Generator().manual_seed(0), device))

    def unfed(*_: Any) -> Iterator[Batch]:
        return iter([batch] * steps)

    def epoch() -> float:
        # The training alone, whose last act is to bring the losses to the CPU.
        started = time.perf_counter()
        run_alone(trial._train_epoch(0))
        return time.perf_counter() - started

    epoch()  # warms up
    fed, alone = [], []
    for _ in range(rounds):
        fed.append(epoch())
        with mock.patch.object(training, "training_batches", unfed):
            alone.append(epoch())
    share = statistics.median(one / other for one, other in zip(alone, fed, strict=True))
    return {"network_share": round(share, 3), "milliseconds_a_step": round(1e3 * statistics.median(fed) / steps, 1)}


def measure_rates(split: dict[str, np.ndarray], device: torch.device, workers: int) -> dict[str, Any]:
    """Samples a second for each augmentation, ours and a DataLoader's, in turns; one thread of the CPU each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rates: dict[str, Any] = {}
    for names in AUGMENTATIONS:
        ours, peer = batches_of(split, names, device), loader_of(split, names, workers, device)
        best = in_turns([ours, peer], ROUNDS, device)
        mine, theirs = (round(len(split["image"]) / seconds) for seconds in best)
        shown = "+".join(names) or "none"
        rates[f"{shown}, samples a second"] = mine
        rates[f"{shown}, of a DataLoader with {workers} workers"] = theirs
    torch.set_num_threads(threads)
    return rates


def batches_of(
    split: Any, names: Sequence[str], device: torch.device, threads: int = 1, size: int = 16
) -> Callable[[], None]:
    """An epoch of our batches."""

    def epoch() -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in training_batches(split, TASKS, size, names, generator, device, threads):
            pass

    return epoch


class _Samples(torch.utils.data.Dataset):
    """The arrays, sample by sample, each changed on its own by torchvision: normals do not turn, nor depths shrink."""

    def __init__(self, split: dict[str, np.ndarray], names: Sequence[str], seconds: float = 0.0) -> None:
        side = split["image"].shape[1:3]
        steps: list[Any] = []
        if "crop" in names or "scale_crop" in names:
            steps.append(v2.RandomResizedCrop(side, scale=(0.36, 1.0), ratio=(1.0, 1.0), antialias=False))
        if "flip" in names:
            steps.append(v2.RandomHorizontalFlip())
        if "colour" in names:
            steps.append(v2.ColorJitter(0.4, 0.4, 0.4, 0.1))
        steps += [v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]
        steps += [v2.Normalize(MEAN.flatten().tolist(), STD.flatten().tolist())]
        self._split, self._change, self._seconds = split, v2.Compose(steps), seconds

    def __len__(self) -> int:
        return len(self._split["image"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self._seconds:
            time.sleep(self._seconds)
        sample: dict[str, torch.Tensor] = {}
        for name, array in self._split.items():
            x = torch.from_numpy(array[index])
            x = x.permute(2, 0, 1) if x.ndim == 3 else x
            sample[name] = tv_tensors.Image(x) if name == "image" else tv_tensors.Mask(x)
        changed: dict[str, torch.Tensor] = self._change(sample)
        return {name: x.as_subclass(torch.Tensor) for name, x in changed.items()}


def loader_of(
    split: dict[str, np.ndarray], names: Sequence[str], workers: int, device: torch.device, seconds: float = 0.0
) -> Callable[[], None]:
    """An epoch of a DataLoader whose workers live on from one epoch to the next."""
    loader: DataLoader[Any] = DataLoader(
        _Samples(split, names, seconds),
        16,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )

    def epoch() -> None:
        for batch in loader:
            for x in batch.values():
                x.to(device, non_blocking=True)

    return epoch


def measure_crop(side: int, device: torch.device, count: int = 16) -> dict[str, Any]:
    """Milliseconds a sample of both ways, on one thread, and whether their bits agree here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    split = {"image": frames(count, (side, side))["image"]}
    images = next(evaluation_batches(split, (), count, device))[0]
    generator = torch.Generator().manual_seed(0)
    scale, place = 0.6 + 0.4 * torch.rand(count, generator=generator), torch.rand(count, 2, generator=generator)
    windows = [enlarge.window_positions(side, scale.to(device), place[:, axis].to(device)) for axis in (0, 1)]
    ways = [lambda: enlarge.by_products(images, *windows), lambda: enlarge.by_reading(images, *windows)]
    products, reading = in_turns(ways, 3 * ROUNDS, device)
    agree = torch.equal(ways[0](), ways[1]())
    torch.set_num_threads(threads)
    return {
        "milliseconds_a_sample_by_products": round(1e3 * products / count, 3),
        "milliseconds_a_sample_by_reading": round(1e3 * reading / count, 3),
        "times_as_fast": round(products / reading, 1),
        "same_bits": agree,
    }


class _Slow:
    """An array on a disk that takes its time."""

    def __init__(self, array: np.ndarray, seconds_a_batch: float) -> None:
        self._array, self._seconds = array, seconds_a_batch

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        time.sleep(self._seconds)
        return self._array


def measure_disk(split: dict[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    """With so many threads, and with as many worker processes."""
    slow: dict[str, Any] = {**split, "image": _Slow(split["image"], 16 * DISK_SECONDS)}
    counts = (1, 2, 4)
    epochs = [batches_of(slow, (), device, threads) for threads in counts]
    epochs += [loader_of(split, (), processes, device, DISK_SECONDS) for processes in counts]
    seconds = in_turns(epochs, ROUNDS, device)
    names = [f"loader_threads = {threads}, samples a second" for threads in counts]
    names += [f"DataLoader with {processes} workers, samples a second" for processes in counts]
    return {name: round(len(split["image"]) / one) for name, one in zip(names, seconds, strict=True)}


def in_turns(calls: Sequence[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """The median seconds of each call, all called once in every round, after one to warm up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for call, own in zip(calls, seconds, strict=True):
            _wait(device)
            started = time.perf_counter()
            call()
            _wait(device)
            if turn:
                own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in seconds]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()

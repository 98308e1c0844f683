"""Batches are those of the plain way to make them, bit for bit; threads that read ahead end, and tell of errors."""

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.config import TrialConfig
from mtl.datasets.batches import enlarge, same_bits
from mtl.datasets.batches.augmentation import Batch, flip, flip_without_waiting
from mtl.datasets.batches.colour import BRIGHTNESS, CONTRAST, HUE, RGB, SATURATION, YIQ
from mtl.datasets.batches.load import (
    MEAN,
    STD,
    evaluation_batches,
    keeps_resident,
    resident,
    stored_bytes,
    training_batches,
)
from mtl.datasets.batches.prefetch import read_ahead
from mtl.tasks import Task
from mtl.training import Training
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")
AUGMENTATIONS = [(), ("flip",), ("crop",), ("scale_crop",), ("colour",), ("flip", "crop", "colour")]


def random_split(count: int, height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8),
        "segmentation": rng.integers(0, 6, (count, height, width)).astype(np.uint8),
        "depth": rng.random((count, height, width), dtype=np.float32),
        "normals": rng.standard_normal((count, height, width, 3)).astype(np.float32),
        "light": rng.integers(0, 3, count).astype(np.uint8),
        "male": rng.integers(0, 2, count).astype(np.uint8),
    }


def plain_batches(
    split: Mapping[str, np.ndarray], size: int, names: Sequence[str], generator: torch.Generator
) -> Iterator[Batch]:
    """One epoch as it was made before anything was read ahead or moved: each formula written out on whole batches."""
    order = torch.randperm(len(split["image"]), generator=generator).numpy()
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        images = torch.from_numpy(split["image"][chosen]).permute(0, 3, 1, 2).float() / 255
        targets = {task.name: torch.from_numpy(split[task.name][chosen]) for task in TASKS}
        if "crop" in names:
            scale = 0.6 + (1 - 0.6) * torch.rand(size, generator=generator)
            images, targets = plain_crop(images, targets, scale, torch.rand(size, 2, generator=generator))
        if "scale_crop" in names:
            picked = (torch.rand(size, generator=generator) * 3).long().clamp(max=2)
            scale = 1 / torch.tensor([1.0, 1.2, 1.5])[picked]
            images, targets = plain_crop(images, targets, scale, torch.rand(size, 2, generator=generator))
        if "flip" in names:
            flipped = torch.rand(size, generator=generator) < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
            for name in ("segmentation", "depth"):
                targets[name] = torch.where(flipped[:, None, None], targets[name].flip(2), targets[name])
            sign = torch.ones(size, 1, 1, 3)
            sign[..., 0] -= 2 * flipped[:, None, None]
            normals = targets["normals"]
            targets["normals"] = torch.where(flipped[:, None, None, None], normals.flip(2), normals) * sign
        if "colour" in names:
            images = plain_colour(images, torch.rand(size, 4, generator=generator))
        yield (images - MEAN) / STD, targets


def plain_crop(images: Tensor, targets: dict[str, Tensor], scale: Tensor, place: Tensor) -> Batch:
    height, width = images.shape[2:]
    positions = []
    for side, where in ((height, place[:, 0]), (width, place[:, 1])):
        start = where * (1 - scale) * side
        cell = (torch.arange(side) + 0.5) * scale[:, None]
        positions.append((start[:, None] + cell - 0.5).clamp(0, side - 1))
    rows, columns = positions
    down, along = (
        (1 - (where[:, :, None] - torch.arange(side)).abs()).clamp(min=0)[:, None]
        for where, side in ((rows, height), (columns, width))
    )
    cropped = dict(targets)
    sample = torch.arange(len(images))[:, None, None]
    for name in ("segmentation", "depth", "normals"):
        cropped[name] = targets[name][sample, rows.round().long()[:, :, None], columns.round().long()[:, None, :]]
    cropped["depth"] = cropped["depth"] * scale[:, None, None]
    enlarged = down @ images.contiguous() @ along.transpose(2, 3)
    return enlarged.contiguous(memory_format=torch.channels_last), cropped  # the mean luma adds up as it lies


def plain_colour(images: Tensor, draws: Tensor) -> Tensor:
    count, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(count, height * width, 3)
    strengths = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, 2 * np.pi * HUE])
    brightness, contrast, saturation, hue = ((2 * draws - 1) * strengths).unbind(dim=1)
    brightness, contrast, saturation = 1 + brightness, 1 + contrast, 1 + saturation
    chroma = torch.zeros(count, 3, 3)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * hue.cos()
    chroma[:, 1, 2] = saturation * hue.sin()
    chroma[:, 2, 1] = -chroma[:, 1, 2]
    matrix = (brightness * contrast)[:, None, None] * (RGB @ chroma @ YIQ)
    grey = (brightness * (1 - contrast) * (pixels.mean(dim=1) @ YIQ[0])).view(count, 1, 1)
    adjusted = torch.baddbmm(grey, pixels, matrix.transpose(1, 2)).clamp(0, 1)
    return adjusted.view(count, height, width, 3).permute(0, 3, 1, 2)


def equal(one: Batch, other: Batch) -> bool:
    return torch.equal(one[0], other[0]) and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("names", AUGMENTATIONS)
@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 57)])
def test_batches_are_those_of_the_plain_way_bit_for_bit(
    height: int, width: int, names: tuple[str, ...], threads: int
) -> None:
    split = random_split(14, height, width)
    ours = training_batches(split, TASKS, 4, names, torch.Generator().manual_seed(5), CPU, threads)
    plain = plain_batches(split, 4, names, torch.Generator().manual_seed(5))
    pairs = list(zip(ours, plain, strict=True))
    assert len(pairs) == 3
    assert all(equal(one, other) for one, other in pairs)
    assert all(one[0].is_contiguous(memory_format=torch.channels_last) for one, _ in pairs)


def test_trainings_of_one_process_share_what_is_resident_as_long_as_one_reads_it() -> None:
    split = {name: np.array(array) for name, array in arrays()["train"].items()}
    first, second = resident(split, TASKS, CPU), resident(split, TASKS[:1], CPU)
    assert second["image"] is first["image"]
    assert resident({**split, "image": split["image"].copy()}, TASKS, CPU)["image"] is not first["image"]
    place = first["image"].data_ptr()
    del first, second
    changed = {**split, "image": split["image"] + 1}
    del split
    again = resident(changed, TASKS, CPU)
    assert np.array_equal(again["image"].numpy(), changed["image"]), place


@pytest.mark.parametrize("names", AUGMENTATIONS)
def test_batches_of_resident_arrays_are_the_same_bit_for_bit(names: tuple[str, ...]) -> None:
    split = arrays()["train"]
    held = resident(split, TASKS, CPU)
    for one, other in zip(
        training_batches(split, TASKS, 8, names, torch.Generator().manual_seed(1)),
        training_batches(held, TASKS, 8, names, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert equal(one, other)
    assert equal(next(evaluation_batches(split, TASKS, 7)), next(evaluation_batches(held, TASKS, 7)))
    assert torch.equal(held["depth"], torch.from_numpy(split["depth"]))


def test_what_a_gpu_flips_is_what_a_cpu_flips_bit_for_bit() -> None:
    """Also of classes and points that have partners in a mirrored image."""
    eyes = Task("eyes", "regression", values=("lx", "ly", "rx", "ry"), points=(1, 0))
    sides = Task("segmentation", "segmentation", tuple("abcdef"), mirrored=(0, 2, 1, 3, 5, 4))
    tasks = [sides, *TASKS[1:], eyes]
    split = random_split(6, 32, 48)
    split["eyes"] = np.random.default_rng(1).random((6, 4), dtype=np.float32)
    split["eyes"][2, :2] = np.nan
    targets = {task.name: torch.from_numpy(split[task.name]) for task in tasks}
    images = torch.from_numpy(split["image"]).permute(0, 3, 1, 2).float()
    chosen = torch.tensor([True, False, True, True, False, True])
    one, other = (flips(images, targets, tasks, chosen) for flips in (flip, flip_without_waiting))
    assert torch.equal(one[0], other[0])
    for name, target in one[1].items():
        torch.testing.assert_close(target, other[1][name], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one[1]["segmentation"], targets["segmentation"])
    assert torch.equal(one[1]["eyes"][1], targets["eyes"][1])
    assert torch.equal(one[1]["eyes"][0, 0], 1 - targets["eyes"][0, 2])


def test_reading_gives_what_the_products_give_up_to_rounding() -> None:
    """Also where no library agrees with it to the bit: that is how it works on other devices."""
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    scale, place = torch.tensor([0.6, 1.0, 0.83]), torch.tensor([0.0, 1.0, 0.3])
    windows = enlarge.window_positions(40, scale, place), enlarge.window_positions(56, scale, place)
    torch.testing.assert_close(
        enlarge.by_reading(images, *windows), enlarge.by_products(images, *windows), rtol=0, atol=2e-7
    )


def test_a_fast_way_that_rounds_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = enlarge.by_reading
    monkeypatch.setattr(enlarge, "by_reading", lambda *arguments: reading(*arguments).nextafter(torch.tensor(2.0)))
    same_bits._agree.cache_clear()
    split = random_split(4, 32, 48)
    ours = training_batches(split, TASKS, 4, ("crop",), torch.Generator().manual_seed(5))
    plain = plain_batches(split, 4, ("crop",), torch.Generator().manual_seed(5))
    assert equal(next(ours), next(plain))
    same_bits._agree.cache_clear()


def test_nobody_else_s_random_numbers_change() -> None:
    same_bits._agree.cache_clear()
    torch.manual_seed(0)
    list(training_batches(arrays()["train"], TASKS, 8, ("crop", "colour"), torch.Generator().manual_seed(0)))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("parsimony-reader")]


def test_items_are_read_in_order_and_no_further_ahead_than_there_are_threads() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(9):
            taken.append(item)
            yield item

    results = read_ahead(lambda item: 10 * item, items(), threads=2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert list(results) == [10 * item for item in range(1, 9)]
    assert not readers()


def test_the_next_item_is_read_before_it_is_asked_for() -> None:
    read = [threading.Event() for _ in range(3)]
    results = read_ahead(lambda item: read[item].set(), range(3))
    next(results)
    assert read[1].wait(timeout=30)
    results.close()
    assert not readers()


@pytest.mark.parametrize("ending", ["closed", "dropped", "interrupted"])
def test_threads_end_where_a_training_is_broken_off(ending: str) -> None:
    batches = training_batches(arrays()["train"], TASKS, 4, ("flip",), torch.Generator(), CPU, 2)
    next(batches)
    assert readers()
    if ending == "closed":
        batches.close()
    elif ending == "dropped":
        del batches
    else:
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)
    assert not readers()


def test_an_error_of_a_thread_is_the_training_s_and_shows_where_it_was() -> None:
    split = arrays()

    class Failing(dict):
        def __getitem__(self, name: str) -> np.ndarray:
            if name == "depth" and threading.current_thread().name.startswith("parsimony-reader"):
                raise OSError("the disk is gone")
            return super().__getitem__(name)

    training = Training(config(), TASKS, {**split, "train": Failing(split["train"])}, CPU)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        training.run_epoch()
    assert "in __getitem__" in "".join(traceback.format_tb(caught.value.__traceback__))
    del caught
    assert not readers()


def test_a_training_gives_the_same_numbers_with_more_threads() -> None:
    rows = []
    for threads in (1, 4):
        training = Training(config(augmentation=("flip", "crop")), TASKS, arrays(), CPU, loader_threads=threads)
        row = training.run_epoch()
        del row["seconds"]
        rows.append(row)
    assert rows[0] == rows[1]
    assert not readers()


def test_a_dataset_stays_on_a_gpu_unasked_where_a_quarter_of_what_is_free_holds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = arrays().values()
    held = sum(array.nbytes for split in splits for array in split.values())
    assert stored_bytes(splits, TASKS) == held
    assert stored_bytes(splits, TASKS[:1]) < held
    cuda = torch.device("cuda")
    for free, kept in ((4 * held, True), (4 * held - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert keeps_resident("auto", splits, TASKS, cuda) is kept
        assert keeps_resident(True, splits, TASKS, cuda)
        assert not keeps_resident(False, splits, TASKS, cuda)
        assert not any(keeps_resident(wanted, splits, TASKS, CPU) for wanted in ("auto", True, False))


def test_where_a_dataset_is_kept_and_who_reads_it_change_no_trial() -> None:
    ids = {wanted: config(resident=wanted).trial_id for wanted in ("auto", False, True)}
    assert ids["auto"] == ids[False] != ids[True]
    assert config().trial_id == ids[False]
    assert "loader_threads" not in TrialConfig.model_fields

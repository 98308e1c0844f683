"""The cache: the bytes of the dataset, built once whatever else happens."""

import multiprocessing
import os
import resource
import shutil
import threading
from collections.abc import Callable, Mapping
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
import pytest

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache import build as cache
from mtl.datasets.cache.build import materialise
from mtl.errors import BadInput
from mtl.tasks import Task
from tests.support.waiting import DEADLINE_SECONDS

SIZE = (6, 8)
LENGTHS: dict[Split, int] = {"train": 5, "val": 2, "test": 3}
TOTAL = sum(LENGTHS.values())
spawn = multiprocessing.get_context("spawn")


class Noise(Dataset):
    """Random samples with every kind of target; `on_read` is called with the split and index of each."""

    name = "noise"
    tasks: Mapping[str, Task] = {
        "classes": Task("classes", "segmentation", ("a", "b")),
        "depth": Task("depth", "depth"),
        "normals": Task("normals", "normals"),
        "scene": Task("scene", "classification", ("a", "b", "c")),
        "smile": Task("smile", "binary"),
    }

    def __init__(
        self, fingerprint: str = "1", on_read: Callable[[Split, int], None] = lambda split, index: None
    ) -> None:
        self._fingerprint = fingerprint
        self._on_read = on_read

    def fingerprint(self) -> str:
        return self._fingerprint

    def size(self, split: Split) -> int:
        return LENGTHS[split]

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        self._on_read(split, index)
        rng = np.random.default_rng([SPLITS.index(split), index])
        targets = {
            "classes": rng.integers(0, 256, image_size, np.uint8),
            "depth": rng.random(image_size, np.float32),
            "normals": rng.random((*image_size, 3), np.float32),
            "scene": np.array(index % 3, np.uint8),
            "smile": np.array(index % 2, np.uint8),
        }
        return Sample(rng.integers(0, 256, (*image_size, 3), np.uint8), targets)


def log_builds(log: Path) -> Callable[[Split, int], None]:
    """An `on_read` that appends a line to `log` at the first sample of each build."""

    def on_read(split: Split, index: int) -> None:
        if (split, index) == ("train", 0):
            with log.open("a") as file:
                file.write("build\n")

    return on_read


def folders(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()]


def test_stores_what_the_dataset_reads(tmp_path: Path) -> None:
    dataset = Noise()
    arrays = materialise(dataset, SIZE, tmp_path)
    assert set(arrays) == set(SPLITS)
    for split in SPLITS:
        assert set(arrays[split]) == {"image", *dataset.tasks}
        for index in range(LENGTHS[split]):
            sample = dataset.read(split, index, SIZE)
            for key, array in {"image": sample.image, **sample.targets}.items():
                stored = arrays[split][key]
                assert stored.shape == (LENGTHS[split], *array.shape)
                assert stored.dtype == array.dtype
                assert stored[index].tobytes() == array.tobytes()


def test_arrays_are_read_only_maps(tmp_path: Path) -> None:
    array = materialise(Noise(), SIZE, tmp_path)["train"]["depth"]
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_second_call_reads_no_sample_and_reports_no_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    materialise(Noise(on_read=log_builds(tmp_path / "log")), SIZE, tmp_path, lambda *step: steps.append(step))
    materialise(Noise(on_read=log_builds(tmp_path / "log")), SIZE, tmp_path, lambda *step: steps.append(step))
    assert (tmp_path / "log").read_text() == "build\n"
    assert steps == [(done, TOTAL) for done in range(1, TOTAL + 1)]


def test_another_fingerprint_size_or_version_is_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    materialise(Noise("1"), (6, 8), tmp_path)
    materialise(Noise("2"), (6, 8), tmp_path)
    materialise(Noise("1"), (8, 6), tmp_path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    materialise(Noise("1"), (6, 8), tmp_path)
    assert len(folders(tmp_path)) == 4


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("PARSIMONY_CACHE", str(tmp_path / "chosen"))
    materialise(Noise(), SIZE)
    monkeypatch.delenv("PARSIMONY_CACHE")
    materialise(Noise(), SIZE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    materialise(Noise(), SIZE)
    for root in ("chosen", "xdg/parsimony", "home/.cache/parsimony"):
        assert len(folders(tmp_path / root)) == 1


def test_unwritable_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "cache"
    with pytest.raises(BadInput, match="PARSIMONY_CACHE") as caught:
        materialise(Noise(), SIZE, root)
    assert f"cache {root}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))  # files cannot grow past this, as on a full disk
    try:
        with pytest.raises(BadInput, match="PARSIMONY_CACHE"):
            materialise(Noise(), SIZE, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folders(tmp_path) == []


def test_failed_read_leaves_nothing_and_is_passed_on(tmp_path: Path) -> None:
    def on_read(split: Split, index: int) -> None:
        if split == "val":
            raise BadInput("dataset noise: 7.png is damaged")

    with pytest.raises(BadInput, match=r"^dataset noise: 7\.png is damaged$"):
        materialise(Noise(on_read=on_read), SIZE, tmp_path)
    assert folders(tmp_path) == []


def test_target_of_another_form_is_refused(tmp_path: Path) -> None:
    class Doubles(Noise):
        def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
            sample = super().read(split, index, image_size)
            return Sample(sample.image, {**sample.targets, "depth": sample.targets["depth"].astype(np.float64)})

    found = r"sample train 0 has depth as float64 \(6, 8\); allowed, once resized: float32 \(6, 8\)"
    with pytest.raises(BadInput, match=found):
        materialise(Doubles(), SIZE, tmp_path)
    assert folders(tmp_path) == []


def test_damaged_cache_is_named(tmp_path: Path) -> None:
    materialise(Noise(), SIZE, tmp_path)
    folder = tmp_path / folders(tmp_path)[0]
    (folder / "val" / "depth.npy").unlink()
    with pytest.raises(BadInput, match="remove this folder") as caught:
        materialise(Noise(), SIZE, tmp_path)
    assert str(caught.value).startswith(f"cache {folder}:")


class Meet(Noise):
    """Every process has asked for the fingerprint, and so none has built, before one goes on."""

    def __init__(self, log: Path, barrier: Barrier) -> None:
        super().__init__(on_read=log_builds(log))
        self._barrier = barrier

    def fingerprint(self) -> str:
        self._barrier.wait()
        return super().fingerprint()


def build_together(root: Path, barrier: Barrier) -> None:
    materialise(Meet(root / "log", barrier), SIZE, root)


def test_processes_that_start_together_build_once(tmp_path: Path) -> None:
    barrier = spawn.Barrier(2)
    processes = [spawn.Process(target=build_together, args=(tmp_path, barrier), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "build\n"
    assert len(folders(tmp_path)) == 1


def build_and_hang(root: Path, hangs: Event) -> None:
    def on_read(split: Split, index: int) -> None:
        if split == "val":
            hangs.set()
            spawn.Event().wait()

    materialise(Noise(on_read=on_read), SIZE, root)


def test_killed_builder_leaves_the_next_one_free(tmp_path: Path) -> None:
    hangs = spawn.Event()
    process = spawn.Process(target=build_and_hang, args=(tmp_path, hangs), daemon=True)
    process.start()
    assert hangs.wait(DEADLINE_SECONDS)
    (half,) = folders(tmp_path)
    process.kill()
    process.join(DEADLINE_SECONDS)
    (tmp_path / half / "stale").touch()
    arrays = materialise(Noise(), SIZE, tmp_path)
    assert len(arrays["test"]["image"]) == LENGTHS["test"]
    (whole,) = folders(tmp_path)
    assert half == f"{whole}.tmp"
    assert sorted(os.listdir(tmp_path / whole)) == sorted(SPLITS)


def test_samples_keep_their_order_however_long_each_takes(tmp_path: Path) -> None:
    """The first sample is held back until the next one has been asked for, so it ends after it."""
    later = threading.Event()

    def on_read(split: Split, index: int) -> None:
        if split == "train":
            if index:
                later.set()
            else:
                assert later.wait(DEADLINE_SECONDS)

    arrays = materialise(Noise(on_read=on_read), SIZE, tmp_path)
    for index in range(LENGTHS["train"]):
        assert np.array_equal(arrays["train"]["image"][index], Noise().read("train", index, SIZE).image)


def test_disk_without_room_is_refused_before_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(BadInput, match=r"^cache .*: has 100 B free and dataset noise needs .* PARSIMONY_CACHE"):
        materialise(Noise(on_read=log_builds(tmp_path / "log")), SIZE, tmp_path)
    assert not (tmp_path / "log").exists()
    assert folders(tmp_path) == []

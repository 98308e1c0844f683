"""What a trial needs at least, counted without making it, and what is said where it is not there."""

import shutil
from pathlib import Path

import pytest
import torch

from mtl import limits
from mtl.config import LARGEST_WIDTH
from mtl.datasets.cache.build import check_room, materialise
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.limits import bytes_needed, check_memory, machine_memory
from mtl.networks import measurement
from mtl.networks.model import build_model
from mtl.networks.model_size import BLOCKS, count_activations, count_macs, count_parameters, fewest_macs
from mtl.selection.compression import channel_groups
from mtl.tasks import Task
from search import sweep as sweep_module
from search.cli import main
from search.engine.context import RunContext
from search.engine.runner import trials_run_here
from search.engine.trial import run_trial
from tests.support.commands import refused
from tests.support.small import TASKS, config

ROOMS = ["dataset_options.train=4", "dataset_options.val=2", "dataset_options.test=2"]


@pytest.mark.parametrize("backbone", BLOCKS)
@pytest.mark.parametrize(
    ("width", "layers", "channels", "rates", "size"),
    [(8, None, 8, (12, 24, 36), (32, 48)), (3, (1, 2, 1, 3), 5, (1,), (37, 51))],
)
def test_counts_are_those_of_the_network(
    backbone: str, width: int, layers: tuple[int, ...] | None, channels: int, rates: tuple[int, ...], size: tuple
) -> None:
    settings = config(
        backbone=backbone, backbone_width=width, backbone_layers=layers, head_channels=channels, head_rates=rates,
        image_size=size,
    )  # fmt: skip
    with torch.device("meta"):
        model = build_model(settings, TASKS).train()
    assert count_parameters(settings, TASKS) == sum(parameter.numel() for parameter in model.parameters())
    kept = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].numel()))
    model(torch.zeros(2, 3, *size, device="meta"))
    assert 2 * count_activations(settings, TASKS) == sum(kept)
    assert count_macs(settings, TASKS) == measurement.count_macs(model, size)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("tasks", [TASKS, TASKS[1:2], TASKS[-1:]])
def test_the_smallest_network_is_that_of_a_single_channel_in_each_group(backbone: str, tasks: list[Task]) -> None:
    settings = config(backbone=backbone, backbone_width=3, backbone_layers=(1, 2, 1, 1), image_size=(37, 51))
    groups = channel_groups(build_model(settings, tasks), (37, 51))
    assert count_macs(settings, tasks) == groups.macs()
    assert fewest_macs(settings, tasks) == groups.smallest_macs()


def test_what_is_needed_is_a_lower_bound() -> None:
    """The model in its copies and a batch: a small part of what there is, for what runs on any machine."""
    assert bytes_needed(config(), TASKS, 24) < 100e6
    assert bytes_needed(config(batch_size=64), TASKS, 24) == bytes_needed(config(batch_size=24), TASKS, 24)
    published = config(backbone="resnet50", backbone_width=64, backbone_layers=None, head_channels=256)
    assert 1e9 < bytes_needed(published, TASKS, 24) < 5e9


def test_the_line_has_both_numbers() -> None:
    settings = config(backbone_width=64)
    needed = bytes_needed(settings, TASKS, 24)
    check_memory(settings, TASKS, 24, needed)
    check_memory(settings, TASKS, 24, None)
    with pytest.raises(
        BadInput, match=r"backbone_width = 64.* needs at least .* MB of memory; allowed: .* MB of this GPU"
    ):
        check_memory(settings, TASKS, 24, needed, "this GPU", data_bytes=1)


def test_the_memory_is_that_of_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, group = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:       16 kB\nMemFree: 3 kB\nSwapTotal:      4 kB\n")
    monkeypatch.setattr(limits, "MEMORY_INFO", info)
    monkeypatch.setattr(limits, "CGROUP_LIMITS", (tmp_path / "none", group))
    assert machine_memory() == 20 * 1024
    group.write_text("max\n")
    assert machine_memory() == 20 * 1024
    group.write_text("8192\n")
    assert machine_memory() == 8192 + 4 * 1024
    info.unlink()
    assert (machine_memory() or 0) > 0


def test_a_recipe_that_cannot_fit_is_refused_before_anything_is_made(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ["--set", f"backbone_width={LARGEST_WIDTH}", "--set", "backbone=resnet152"]
    for words in (["train", "rooms"], ["sweep", "rooms", "--address", "local", "--dry-run"]):
        line = refused([*words, *huge], capsys)
        assert f"backbone_width = {LARGEST_WIDTH}" in line
        assert "B of memory; allowed: at most the " in line
    images = ["--set", "image_size=16384", "--set", "batch_size=65536", *sets("dataset_options.train=65536")]
    assert "image_size = [16384, 16384]" in refused(["train", "rooms", *images], capsys)
    assert list(empty.iterdir()) == []


def test_a_trial_that_cannot_fit_on_its_node_has_failed_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.engine.trial.machine_memory", lambda: 10**6)
    rooms = Rooms(4, 2, 2)
    trial = config(
        data_version=rooms.fingerprint(), dataset_options={"train": 4, "val": 2, "test": 2}, tasks=("depth",)
    )
    result = run_trial(trial, RunContext(str(tmp_path), "s", None, threads=1, gpus=0, checkpoint_seconds=9, retries=5))
    assert result.status == "failed"
    assert result.error.startswith("BadInput: a trial of resnet18 with backbone_width = 8")
    assert result.error.endswith("allowed: at most the 1.00 MB of this machine")


def test_a_trial_takes_no_more_threads_than_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr("search.engine.trial.machine_memory", lambda: 0)
    run_trial(config(), RunContext(str(tmp_path), "s", None, threads=1024, gpus=0, checkpoint_seconds=9))
    assert asked
    assert max(asked) <= 1024 // 2


def test_data_without_room_are_refused_before_anything_is_made(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARSIMONY_CACHE", str(tmp_path / "cache"))
    line = refused(["sweep", "rooms", "--dry-run", *sets("dataset_options.train=10000000", "image_size=4096")], capsys)
    assert "B free and dataset rooms needs 3,356 TB at " in line
    assert not (tmp_path / "cache").exists()
    # A cache that is there needs no room.
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    with pytest.raises(BadInput, match="set PARSIMONY_CACHE"):
        check_room(Rooms(2, 1, 1), (16, 16))
    monkeypatch.undo()
    monkeypatch.setenv("PARSIMONY_CACHE", str(tmp_path / "cache"))
    materialise(Rooms(2, 1, 1), (16, 16))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    check_room(Rooms(2, 1, 1), (16, 16))


def test_whether_trials_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert trials_run_here(None)
    assert trials_run_here("local")
    assert not trials_run_here("auto")
    assert not trials_run_here("ray://head:10001")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379")
    assert not trials_run_here(None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "other"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert not trials_run_here(None)


def test_a_cluster_may_have_more_memory_than_this_machine(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_module, "machine_memory", lambda: 1)
    words = ["sweep", "rooms", "--dry-run", *sets(*ROOMS)]
    assert main([*words, "--address", "head:6379"]) == 0
    assert main([*words, "--address", "local"]) == 2
    assert "needs at least" in capsys.readouterr().err


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]

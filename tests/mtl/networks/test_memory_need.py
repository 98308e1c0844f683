"""What a trial is said to need is near what a training takes, as torch's own allocator records it."""

from typing import Any, cast

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mtl.networks.memory_need import KEPT_COPIES, MARGIN, OF_PROCESS, LiveBytes, MemoryNeed, memory_need
from mtl.networks.model import MultiTaskModel, build_model, features_and_outputs
from mtl.objectives import losses as objectives
from mtl.objectives.losses import align, loss_settings, task_loss
from tests.support.small import TASKS, arrays, config

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"backbone_width": 32, "backbone_layers": None},
    "mobilenetv3": {"backbone": "timm:mobilenetv3_small_050", "head": "lraspp"},
    "vit": {"backbone": "timm:vit_tiny_patch16_224", "head": "lraspp"},
}
OF_RESNETS = {"backbone_width": 64, "backbone_layers": None, "head_rates": (12, 24, 36)}


def of_network(name: str, **fields: Any) -> Any:
    foreign = OF_RESNETS if "head" in NETWORKS[name] else {}
    return config(**{"image_size": (64, 64), "head_channels": 16} | foreign | NETWORKS[name] | fields)


def measured_peak(settings: Any, batch: int) -> int:
    """Bytes that the allocator has given out at most in a step, besides the weights."""
    model = cast(MultiTaskModel, build_model(settings, TASKS)).train()
    split = arrays(train=batch)["train"]
    targets = {
        task.name: torch.from_numpy(split[task.name].repeat(2, 1).repeat(2, 2)[:, :64, :64])
        if task.dense
        else torch.from_numpy(split[task.name])
        for task in TASKS
    }
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        images = torch.rand(batch, 3, 64, 64)
        _, outputs = features_and_outputs(model, images)
        total = sum(
            task_loss(task, *align(task, outputs[task.name], targets[task.name], "standard"), loss_settings("standard"))
            for task in TASKS
        )
        model.zero_grad()
        cast(torch.Tensor, total).backward()
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    now = peak = 0
    for event in sorted((e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"), key=_start):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def _start(event: Any) -> int:
    return event.start_ns()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tensors_of_a_step_are_counted(name: str) -> None:
    settings = of_network(name)
    need = memory_need(settings, TASKS, 100, "cpu", "float32")
    assert need is not None
    weights = 4 * sum(p.numel() for p in build_model(settings, TASKS).parameters())
    expected = need.fixed + 8 * need.an_image - (KEPT_COPIES + 1) * weights
    assert expected == pytest.approx(measured_peak(settings, 8), rel=0.2)


def test_the_bytes_alive_are_those_of_storages_and_not_of_views() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        view = kept.view(10, 100)[3:]
        dropped = torch.ones(500) + 1  # and the one it is made of
        assert live.now == 4000 + 2000
        assert live.peak == 4000 + 2 * 2000
        del dropped
        assert live.now == 4000
        del kept
        assert live.now == 4000, view
        del view
        assert live.now == 0


def test_a_need_is_linear_in_the_batch_and_half_of_what_autocast_casts() -> None:
    small, large = (of_network("resnet18", batch_size=size) for size in (4, 32))
    one, other = (memory_need(settings, TASKS, 100, "cpu", "float32") for settings in (small, large))
    assert one is not None
    assert other is not None
    assert one.bytes(16) == pytest.approx(other.bytes(16), rel=0.05)
    half = memory_need(large, TASKS, 100, "cuda", "bfloat16")
    assert half is not None
    assert 0.4 * other.an_image < half.an_image < 0.9 * other.an_image
    combined = memory_need(of_network("resnet18", task_weighting="pcgrad"), TASKS, 100, "cpu", "float32")
    assert combined is not None
    assert combined.fixed > one.fixed


def test_the_largest_batch_just_fits() -> None:
    need = MemoryNeed(fixed=1e9, an_image=1e8, device="cuda")
    assert need.bytes(10) == OF_PROCESS["cuda"] + round(MARGIN["cuda"] * 2e9)
    for available in (3 * 10**9, 16 * 10**9):
        batch = need.largest_batch(available)
        assert need.bytes(batch) <= available < need.bytes(batch + 1)
    assert need.largest_batch(10**9) == 0
    assert 8 * need.tensors(4) + need.of_process < 8 * need.bytes(4)


def test_a_training_after_it_finds_no_fake_matrices() -> None:
    objectives._bilinear.cache_clear()
    memory_need(of_network("resnet18", batch_size=3), TASKS, 100, "cpu", "float32")
    assert type(objectives._bilinear(4, 8, torch.device("cpu"), torch.float32)) is torch.Tensor
    assert objectives.enlarge(torch.rand(1, 1, 4, 4), (8, 8)).isfinite().all()


def test_random_numbers_stay_where_they_were() -> None:
    before = torch.random.get_rng_state()
    memory_need(of_network("resnet18", batch_size=5), TASKS, 100, "cpu", "float32")
    assert torch.equal(before, torch.random.get_rng_state())

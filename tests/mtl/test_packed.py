"""Several trainings at once: each comes to the numbers that it comes to alone, whatever the others do."""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl import training as training_module
from mtl.errors import TrialFailed
from mtl.objectives.losses import align
from mtl.packed import Pack
from mtl.passes import run_alone
from mtl.stacked import Stack, own_tensors, separate, structure
from mtl.training import Training, set_deterministic
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _deterministic() -> None:
    set_deterministic()


# Adam divides gradients by their own size: where they are next to nothing it makes steps of their rounding, and at a
# high rate two trainings that round differently drift apart.
LR = 3e-4


def make(**fields: Any) -> Training:
    chosen = config(**{"tasks": ("segmentation", "depth"), "lr": LR, "epochs": 2} | fields)
    return Training(chosen, [task for task in TASKS if task.name in chosen.tasks], arrays(), CPU)


def alone(*fields: dict[str, Any]) -> list[Training]:
    trainings = [make(**one) for one in fields]
    for training in trainings:
        while not training.done:
            training.run_epoch()
    return trainings


def packed(pack: Pack, *trainings: Training) -> list[Training]:
    while left := [one for one in trainings if not one.done]:
        pack.run([one.epoch() for one in left])
    return list(trainings)


def apart(some: list[Training], others: list[Training], names: str = "") -> float:
    """The largest difference between two lists of histories, relative where numbers are above 1."""
    pairs = [
        (value, b[name])
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one.history, other.history, strict=True)
        for name, value in a.items()
        if name != "seconds" and name.endswith(names)
    ]
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in pairs)


@pytest.fixture
def said() -> list[str]:
    return []


DIFFERENT = (
    {"strength": 1e-2, "lr": 1e-3, "seed": 0},
    {"strength": 0.0, "lr": 3e-3, "seed": 1, "task_weighting": "rlw", "weight_decay": 0.1},
    {"strength": 1e-1, "seed": 2, "task_weighting": "imtl_l", "metric": "euclidean", "lr_schedule": "constant"},
)


def test_in_float64_trainings_in_a_pack_are_those_alone(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def doubled(batches: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def double(*given: Any) -> Iterator[Any]:
            for images, targets in batches(*given):
                yield images.double(), {n: t.double() if t.is_floating_point() else t for n, t in targets.items()}

        return double

    def aligned(self: Training, task: Any, outputs: Any, targets: Any, stride: int = 1) -> tuple[Tensor, Tensor]:
        return align(task, outputs[task.name], targets[task.name], self.config.protocol, stride)

    for name in ("training_batches", "evaluation_batches"):
        monkeypatch.setattr(training_module, name, doubled(getattr(training_module, name)))
    monkeypatch.setattr(Training, "_aligned", aligned)
    torch.set_default_dtype(torch.float64)
    try:
        pack = Pack(said.append)
        together = packed(pack, *(make(**one) for one in DIFFERENT))
        singly = alone(*DIFFERENT)
        assert apart(singly, together) < 1e-12
        tests = pack.run([one.testing() for one in together])
        for one, result in zip(singly, tests, strict=True):
            assert result == pytest.approx(one.test(), rel=1e-9, abs=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)
    # All but the first pass of each kind: three steps and an evaluation in two epochs, and the test of ten images.
    assert (pack.fused, pack.alone, said) == (3 * (2 * 4 - 2), 3 * 3, [])


def test_trainings_in_a_pack_are_those_alone(said: list[str]) -> None:
    """In float32, with one whose channels go, and one whose weighting looks at gradients."""
    fields = [
        {"strength": 1.0, "lr": 1e-4, "seed": 33},  # for which no channel is so near to going that rounding tips it
        {"strength": 0.0, "seed": 1, "compressor": "selection", "target_macs": 0.3, "task_weighting": "dwa"},
        {"strength": 3e-3, "seed": 2, "task_weighting": "equal"},
        {"strength": 1e-3, "seed": 4, "task_weighting": "famo"},
        {"strength": 1e-3, "seed": 5, "task_weighting": "pcgrad"},
    ]
    fields = [one | {"tasks": tuple(task.name for task in TASKS), "epochs": 3} for one in fields]
    pack = Pack(said.append)
    together = packed(pack, *(make(**one) for one in fields))
    assert apart(alone(*fields), together, "_loss") < 1e-4
    assert said == []
    # Selection has taken channels by the end of the second epoch, and pcgrad trains alone: evaluations are for all.
    assert pack.fused >= 3 * (3 * 3 - 1)
    assert 0 < together[0].history[-1]["group_sparsity"] < 1
    assert together[1].history[-1]["group_sparsity"] > 0.2


def test_in_bfloat16_a_pack_rounds_where_autocast_does(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [{"strength": 1e-3, "seed": seed, "precision": "bfloat16"} for seed in range(2)]
    pack = Pack(said.append)
    together = packed(pack, *(make(**one) for one in fields))
    # float32 is as far from bfloat16 as the gradients' roundings, a quarter of their size, take it.
    assert apart(alone(*fields), together, "_loss") < 2e-3
    assert pack.fused
    assert said == []
    monkeypatch.setattr("mtl.packed.Autocast", lambda device: contextlib.nullcontext())
    packed(Pack(said.append), *(make(**one) for one in fields))
    assert "their numbers would be 0." in said[0], "within vmap torch.autocast does nothing, nor does this then"


@pytest.mark.parametrize("name", ["uncertainty", "equal", "dwa", "imtl_l"])
def test_weightings_of_one_kind_are_batched_too(name: str, said: list[str]) -> None:
    fields = [{"strength": 0.0, "seed": seed, "epochs": 3, "task_weighting": name} for seed in range(2)]
    together = packed(Pack(said.append), *(make(**one) for one in fields))
    singly = alone(*fields)
    assert apart(singly, together, "_loss") < 1e-4
    for one, other in zip(singly, together, strict=True):
        assert one.weighting.pure
        for a, b in zip(one.weighting.state_dict().values(), other.weighting.state_dict().values(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert said == []


def test_a_second_training_goes_alone_and_a_pack_may_shrink(said: list[str]) -> None:
    fields = (
        {"strength": 1e-1, "lr": 1e-4, "retraining": "fine_tune", "seed": 1},
        {"strength": 1e-1, "lr": 1e-4, "retraining": "fine_tune", "epochs": 1, "seed": 2},
        {"strength": 1e-3},
    )
    pack = Pack(said.append)
    together = packed(pack, *(make(**one) for one in fields))
    assert apart(alone(*fields), together, "_loss") < 1e-4
    assert said == []


def test_each_has_the_random_numbers_that_it_has_alone() -> None:
    """Heads have dropout, and rlw draws its weights: one seed gives one training, whatever stands beside it."""
    same = {"task_weighting": "rlw", "seed": 7}
    pack = Pack()
    first, other, twin = packed(pack, make(**same), make(seed=1, task_weighting="rlw"), make(**same))
    assert apart([first], [twin], "_loss") < 1e-5 < 1e-3 < apart([first], [other], "_loss")
    assert pack.fused


def test_a_training_goes_on_in_a_pack_from_a_checkpoint_of_its_own(said: list[str]) -> None:
    """With others that have taken other numbers of steps; also the counts of batches and steps are its own."""
    fields = [{"seed": seed, "epochs": 3, "strength": 1e-3 * seed, "lr": LR / (1 + seed)} for seed in range(3)]
    trainings = [make(**one) for one in fields]
    for training, epochs in zip(trainings, (2, 1, 0), strict=True):
        for _ in range(epochs):
            training.run_epoch()
    resumed = [make(**one) for one in fields]
    for training, before in zip(resumed, trainings, strict=True):
        training.load_state_dict(torch.load(io.BytesIO(_bytes(before)), weights_only=True))
    pack, singly = Pack(said.append), alone(*fields)
    packed(pack, *resumed)
    assert apart(singly, resumed, "_loss") < 1e-4
    for one, other in zip(singly, resumed, strict=True):
        counted = [name for name, value in one.model.state_dict().items() if not value.is_floating_point()]
        assert counted
        assert all(torch.equal(one.model.state_dict()[name], other.model.state_dict()[name]) for name in counted)
        steps = [
            [float(state["step"]) for state in each.optimizer.state_dict()["state"].values()] for each in (one, other)
        ]
        assert steps[0] == steps[1]
    assert pack.fused
    assert said == []


def test_an_optimizer_that_is_listened_to_steps_by_itself(said: list[str]) -> None:
    trainings, seen = [make(seed=seed, epochs=1) for seed in range(2)], []
    trainings[1].optimizer.register_step_post_hook(lambda *_: seen.append(1))
    packed(Pack(said.append), *trainings)
    assert len(seen) == 3
    assert apart(alone({"seed": 0, "epochs": 1}, {"seed": 1, "epochs": 1}), trainings, "_loss") < 1e-4


def test_an_error_of_the_steps_fails_all_that_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left half done is nobody's: each goes back to its checkpoint."""

    def scarce(optimizers: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mtl.packed.step_together", scarce)
    trainings, ended = [make(seed=seed, epochs=1) for seed in range(2)], []

    def watched(training: Training) -> Any:
        try:
            return (yield from training.epoch())
        except torch.OutOfMemoryError:
            ended.append(training)
            raise

    with pytest.raises(torch.OutOfMemoryError):
        Pack().run([watched(one) for one in trainings])
    assert ended == trainings


def test_a_checkpoint_of_a_training_in_a_pack_is_its_own_and_goes_on_alone() -> None:
    fields = [{"seed": seed, "epochs": 3} for seed in range(3)]
    trainings = [make(**one) for one in fields]
    sizes = [len(_bytes(one)) for one in trainings]
    pack = Pack()
    pack.run([one.epoch() for one in trainings])
    pack.run([one.epoch() for one in trainings])
    saved = [_bytes(one) for one in trainings]
    # Adam's two moments and the best model have come: not three times that.
    assert max(saved_size / size for saved_size, size in zip(map(len, saved), sizes, strict=True)) < 6
    resumed = []
    for one, state in zip(fields, saved, strict=True):
        training = make(**one)
        training.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        resumed += [training]
        while not training.done:
            training.run_epoch()
    assert apart(alone(*fields), resumed, "_loss") < 1e-4


def _bytes(training: Training) -> bytes:
    buffer = io.BytesIO()
    torch.save(training.state_dict(), buffer)
    return buffer.getvalue()


def test_one_that_fails_does_not_change_the_others(said: list[str]) -> None:
    fields = ({"seed": 1}, {"seed": 2}, {"seed": 3})
    trainings = [make(**one) for one in fields]
    with torch.no_grad():
        next(trainings[1].model.heads["depth"].parameters()).fill_(float("inf"))
    pack = Pack(said.append)
    with pytest.raises(TrialFailed, match="not finite"):
        pack.run([one.epoch() for one in trainings])
    others = [trainings[0], trainings[2]]
    packed(pack, *others)
    assert apart(alone(fields[0], fields[2]), others, "_loss") < 1e-4


class Noisy(nn.Module):
    """Draws in a way that no rule is known for."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-3 * torch.randn_like(x)


def test_what_cannot_run_as_one_runs_alone_and_is_said_once(said: list[str]) -> None:
    def noisy(**fields: Any) -> Training:
        training = make(**fields)
        training.model.backbone.relu = nn.Sequential(training.model.backbone.relu, Noisy())
        return training

    pack, fields = Pack(said.append), [{"seed": 1}, {"seed": 2}]
    together = packed(pack, *(noisy(**one) for one in fields))
    singly = [noisy(**one) for one in fields]
    for one in singly:
        while not one.done:
            run_alone(one.epoch())
    assert apart(singly, together) == 0
    assert [line.partition(": ")[0] for line in said] == 2 * [
        "2 trials of a pack train one after the other, as one they cannot"
    ]
    assert all("random" in line for line in said)


def test_a_batched_pass_of_other_numbers_is_not_trusted(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Stack.forward

    def wrong(self: Stack, *arguments: Any) -> Any:
        return {name: 1.5 * value for name, value in forward(self, *arguments).items()}

    monkeypatch.setattr(Stack, "forward", wrong)
    pack, fields = Pack(said.append), [{"seed": 1}, {"seed": 2}]
    assert apart(alone(*fields), packed(pack, *(make(**one) for one in fields))) == 0
    assert pack.fused == 0
    assert "their numbers would be 0.5 apart, relative to their size" in said[0]


def test_where_memory_runs_out_fewer_run_as_one(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a step, of which nothing must be left, such as a batch in the running means."""
    fields = [{"seed": seed, "task_weighting": "rlw"} for seed in range(4)]
    hand_out, calls = Stack.hand_out_gradients, [0]

    def scarce(self: Stack) -> None:
        calls[0] += 1
        if len(self._networks) > 2 and calls[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        hand_out(self)

    monkeypatch.setattr(Stack, "hand_out_gradients", scarce)
    pack = Pack(said.append)
    together = packed(pack, *(make(**one) for one in fields))
    assert apart(alone(*fields), together, "_loss") < 1e-4
    assert said == ["4 trials of a pack do not fit into memory as one; they train 2 at a time"]
    assert pack.alone == 4 + 2, "of each kind of pass, to know that it can be batched"


def test_the_seconds_of_a_pack_are_shared_out() -> None:
    pack = Pack()
    trainings = [make(seed=seed, epochs=1) for seed in range(3)]
    for training in trainings:
        training.clock = pack.clock
    times = iter(float(second) for second in range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtl.packed.time.perf_counter", lambda: next(times))
        pack._mark = next(times)
        packed(pack, *trainings)
        wall = next(times)
    seconds = sum(one.history[0]["seconds"] for one in trainings)
    assert 0 < seconds <= wall, "and not three times as much"


def stackable() -> list[nn.Module]:
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        for _ in range(3)
    ]
    return [model.to(memory_format=torch.channels_last) for model in models]


def test_a_stack_is_the_networks_own_memory() -> None:
    models = stackable()
    before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
    tensors = [list(model.parameters()) for model in models]
    stack = Stack(models)
    for model, state, own in zip(models, before, tensors, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert all(a is b for a, b in zip(model.parameters(), own, strict=True)), "as the optimizer holds them"
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        models[1][0].weight.add_(1)
    assert torch.equal(stack.parameters["0.weight"][1], before[1]["0.weight"] + 1)
    assert all(
        tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in own_tensors(models[1].state_dict()).values()
    )
    separate(models[1])
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in models[1].state_dict().values())
    with torch.no_grad():
        models[1][0].weight.sub_(1)
    assert torch.equal(stack.parameters["0.weight"][1], before[1]["0.weight"] + 1)


def _changed(change: Callable[[nn.Sequential], object]) -> nn.Module:
    model = stackable()[0]
    assert isinstance(model, nn.Sequential)
    change(model)
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.__setitem__(1, nn.BatchNorm2d(4, eps=1e-3)),
        lambda model: model.__setitem__(0, nn.Conv2d(3, 4, 3, bias=False)),
        lambda model: model.__setitem__(0, nn.Conv2d(3, 4, 3, padding=1)),
        lambda model: model[0].weight.requires_grad_(False),
        lambda model: model.to(memory_format=torch.contiguous_format),
        lambda model: model.double(),
    ],
)
def test_networks_that_differ_are_not_stacked(change: Callable[[nn.Sequential], object]) -> None:
    assert structure(stackable()[0]) == structure(stackable()[1])
    assert structure(stackable()[0]) != structure(_changed(change))


def test_a_training_begun_anew_is_not_taken_for_the_one_before() -> None:
    """As a trial is that is tried again, which may even lie in the same place in memory."""
    pack, trainings = Pack(), [make(seed=1), make(seed=2)]
    pack.run([one.epoch() for one in trainings])
    numbers = [one.network_number for one in trainings]
    trainings[1] = make(seed=2)
    assert trainings[1].network_number not in numbers
    packed(pack, trainings[1])
    packed(pack, *trainings)
    assert apart(alone({"seed": 1}, {"seed": 2}), trainings, "_loss") < 1e-4

"""One trial's training: it learns, it is the same twice, it goes on where it stopped, and it says when it fails."""

import io
import math

import numpy as np
import pytest
import torch

from mtl.chosen_epoch import validation_score
from mtl.errors import TrialFailed
from mtl.passes import run_alone
from mtl.task_weighting.registry import TASK_WEIGHTINGS
from mtl.training import Training, epoch_seed, make_optimizer, set_deterministic
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _deterministic() -> None:
    set_deterministic()


def trained(**fields: object) -> Training:
    chosen = config(**fields)
    training = Training(chosen, [task for task in TASKS if task.name in chosen.tasks], arrays(), CPU)
    while not training.done:
        training.run_epoch()
    return training


def numbers(training: Training) -> list[dict[str, float]]:
    """The history without what a clock says."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in training.history]


def test_training_learns_and_the_test_is_of_the_best_epoch() -> None:
    training = trained(epochs=30, lr=1e-2, strength=0.0)
    assert training.history[-1]["train_depth_loss"] < 0.7 * training.history[0]["train_depth_loss"]
    scores = [validation_score(TASKS, row) for row in training.history]
    assert training.best_epoch == int(np.argmax(scores))
    metrics = training.test()
    assert metrics["val_depth_mae"] == training.history[training.best_epoch]["val_depth_mae"]
    # Tested in eval mode with the best weights: evaluating again on val gives the best epoch's very numbers.
    assert training._evaluate("val")["val_depth_mae"] == metrics["val_depth_mae"]
    assert not training.model.training
    assert set(metrics) >= {"test_segmentation_miou", "test_normals_cos", "test_light_accuracy", "test_male_accuracy"}
    assert "group_sparsity" in metrics


@pytest.mark.parametrize(("metric", "protocol"), [("adaptive", "standard"), ("euclidean", "paper")])
def test_two_runs_of_one_trial_are_equal(metric: str, protocol: str) -> None:
    first, second = (trained(metric=metric, protocol=protocol) for _ in range(2))
    assert numbers(first) == numbers(second)
    assert first.test() == second.test()


@pytest.mark.parametrize("name", ["mse", "log_rmse", "scale_invariant"])
def test_the_chosen_depth_loss_is_trained_and_validated(name: str) -> None:
    chosen, default = (numbers(trained(epochs=1, **fields))[0] for fields in ({"depth_loss": name}, {}))
    for column in ("train_depth_loss", "val_depth_loss"):
        assert math.isfinite(chosen[column])
        assert chosen[column] != default[column]


def test_label_smoothing_is_trained_and_validated() -> None:
    smoothed, default = (numbers(trained(epochs=1, label_smoothing=share))[0] for share in (0.3, None))
    for task in ("segmentation", "light"):
        assert smoothed[f"val_{task}_loss"] > default[f"val_{task}_loss"]
    assert smoothed["train_male_loss"] == pytest.approx(default["train_male_loss"], rel=0.2)


def test_seed_and_strength_change_the_trial() -> None:
    base = numbers(trained())
    assert numbers(trained(seed=1)) != base
    assert numbers(trained(strength=0.0)) != base


RESUMED = [("constant", "uncertainty"), ("halved", "equal"), *(("one_cycle", name) for name in TASK_WEIGHTINGS)]


@pytest.mark.parametrize(("lr_schedule", "task_weighting"), RESUMED)
@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_is_unbroken(lr_schedule: str, task_weighting: str, stop: int) -> None:
    chosen = config(epochs=5, lr_schedule=lr_schedule, task_weighting=task_weighting)
    whole = trained(epochs=5, lr_schedule=lr_schedule, task_weighting=task_weighting)
    broken = Training(chosen, TASKS, arrays(), CPU)
    for _ in range(stop):
        broken.run_epoch()
    buffer = io.BytesIO()
    torch.save(broken.state_dict(), buffer)
    torch.manual_seed(987)  # another process has another state of everything
    resumed = Training(chosen, TASKS, arrays(), CPU)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    while not resumed.done:
        resumed.run_epoch()
    assert numbers(resumed) == numbers(whole)
    assert resumed.test() == whole.test()


def test_famo_sees_each_batch_again_after_its_step_which_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(config(task_weighting="famo"), TASKS, arrays(), CPU)
    passes: list[bool] = []
    training.model.backbone.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    run_alone(training._train_epoch(0))
    assert passes == [True, False] * (len(passes) // 2)
    assert training.weighting.get_buffer("steps") == len(passes) // 2 == 3
    assert training.weighting.get_buffer("logits").abs().min() > 0
    # With weights that stay it comes to the very numbers that it has without the second pass.
    monkeypatch.setattr("mtl.task_weighting.famo.LEARNING_RATE", 0.0)
    looking = numbers(trained(task_weighting="famo"))
    blind = Training(config(task_weighting="famo"), TASKS, arrays(), CPU)
    blind.weighting.looks_again = False
    while not blind.done:
        blind.run_epoch()
    assert numbers(blind) == looking


@pytest.mark.parametrize(("epochs", "whole"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_halved_is_lr_and_half_of_it_from_half_of_the_epochs_on(epochs: int, whole: int) -> None:
    training = Training(config(epochs=epochs, lr_schedule="halved", lr=0.01), TASKS, arrays(), CPU)
    rates: list[float] = []
    training.optimizer.register_step_pre_hook(lambda one, *_: rates.append(one.param_groups[0]["lr"]))
    while not training.done:
        training.run_epoch()
    steps = len(rates) // epochs
    assert rates == [0.01] * whole * steps + [0.005] * (epochs - whole) * steps


@pytest.mark.parametrize("task_weighting", TASK_WEIGHTINGS)
def test_two_tasks_learn_under_every_weighting(task_weighting: str) -> None:
    training = trained(task_weighting=task_weighting, tasks=("segmentation", "depth"), epochs=15, lr=1e-2, strength=0.0)
    first, last = training.history[0], training.history[-1]
    assert last["train_depth_loss"] < 0.8 * first["train_depth_loss"]
    assert last["train_segmentation_loss"] < 0.95 * first["train_segmentation_loss"]


def test_weightings_train_differently() -> None:
    runs = {name: numbers(trained(task_weighting=name)) for name in TASK_WEIGHTINGS}
    assert all(runs[name] != runs[other] for name in runs for other in runs if name != other)


@pytest.mark.parametrize("task_weighting", sorted(set(TASK_WEIGHTINGS) - {"equal", "uncertainty"}))
def test_one_task_is_trained_plainly(task_weighting: str) -> None:
    plain = numbers(trained(task_weighting="equal", tasks=("depth",), epochs=4))
    assert numbers(trained(task_weighting=task_weighting, tasks=("depth",), epochs=4)) == plain


def test_best_model_is_kept_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later epochs must not change the weights that were best."""
    monkeypatch.setattr("mtl.training.takes_over", lambda tasks, row, best: best is None)
    training = Training(config(epochs=4, lr=0.05, lr_schedule="constant"), TASKS, arrays(), CPU)
    training.run_epoch()
    best = {name: value.clone() for name, value in training.best_model.items()}
    training.run_epoch()
    assert training.best_epoch == 0
    assert all(torch.equal(best[name], value) for name, value in training.best_model.items())
    assert any(not torch.equal(best[name], value) for name, value in training.model.state_dict().items())


def test_patience_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl.training.takes_over", lambda tasks, row, best: best is None)
    training = Training(config(epochs=50, patience=2, lr_schedule="constant"), TASKS, arrays(), CPU)
    epochs = 0
    while not training.done:
        training.run_epoch()
        epochs += 1
    assert epochs == 3


def test_log_variances_come_to_their_optimum_though_the_network_learns_slowly() -> None:
    """At the optimum of exp(-s) L + s, s = log L."""
    training = trained(epochs=25, batch_size=4, lr=1e-4, lr_schedule="constant", strength=0.0)
    last = training.history[-1]
    for name, value in training.weighting.log_variances.items():
        # The losses fall meanwhile, so that it is always a little behind.
        assert value.item() == pytest.approx(math.log(last[f"train_{name}_loss"]), abs=0.25)
    optimised = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    everything = [*training.model.parameters(), *training.weighting.parameters()]
    assert optimised == {id(p) for p in everything}


def test_the_rate_of_the_task_weights_follows_the_schedule_in_proportion() -> None:
    training = Training(config(epochs=5, lr=1e-3, weighting_lr=0.02, lr_schedule="one_cycle"), TASKS, arrays(), CPU)
    rates = []
    for _ in range(5 * 3):
        rates.append([group["lr"] for group in training.optimizer.param_groups])
        training.optimizer.step()
        assert training.scheduler is not None
        training.scheduler.step()
    own, weights = np.array(rates)[:, :-1], np.array(rates)[:, -1:]
    np.testing.assert_allclose(weights / own, 20)
    assert own.max() == pytest.approx(1e-3, rel=0.01)
    assert own[0].max() < own.max() / 10


def test_penalty_is_on_the_backbones_convolutions_alone() -> None:
    training = Training(config(strength=1e4), TASKS, arrays(), CPU)
    penalised = training.optimizer.param_groups[0]
    names = {id(p): name for name, p in training.model.named_parameters()}
    assert {names[id(p)] for p in penalised["params"]} == {
        name for name, p in training.model.named_parameters() if name.startswith("backbone.") and p.ndim == 4
    }
    training.run_epoch()
    assert training.history[0]["group_sparsity"] == 1.0
    assert all((p != 0).any() for p in training.model.heads.parameters() if p.ndim > 1)


def test_same_optimizer_at_every_strength() -> None:
    settings = []
    for strength in (0.0, 1.0):
        training = Training(config(strength=strength), TASKS, arrays(), CPU)
        groups = make_optimizer(training.model, training.weighting, training.config).param_groups
        settings.append([{k: v for k, v in group.items() if k not in ("params", "penalty")} for group in groups])
    assert settings[0] == settings[1]


@pytest.mark.parametrize("task_weighting", TASK_WEIGHTINGS)
def test_nan_loss_fails_and_names_the_task(task_weighting: str) -> None:
    data = arrays()
    data["train"]["depth"][:] = np.inf
    data["train"]["segmentation"][:] = 0
    training = Training(config(task_weighting=task_weighting), TASKS, data, CPU)
    with pytest.raises(TrialFailed, match="task depth became not finite in epoch 0, step 0"):
        training.run_epoch()


def test_epoch_seeds_are_distinct() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(20) for epoch in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("task_weighting", TASK_WEIGHTINGS)
def test_two_runs_on_a_gpu_are_equal(task_weighting: str) -> None:
    runs = []
    for _ in range(2):
        training = Training(config(task_weighting=task_weighting), TASKS, arrays(), torch.device("cuda"))
        while not training.done:
            training.run_epoch()
        runs.append((numbers(training), training.test()))
    assert runs[0] == runs[1]

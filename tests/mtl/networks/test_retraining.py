"""Second trainings: what they start from, resuming in either, and what the rows say of the original network."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.compute.missing import missing_table
from analysis.compute.settings import settings_table
from analysis.read.load import load_sweep
from mtl.compaction import certify
from mtl.errors import TrialFailed
from mtl.networks.backbones import DilatedResNet
from mtl.networks.checkpoint import load_checkpoint
from mtl.networks.costs import model_costs
from mtl.networks.measurement import count_macs
from mtl.networks.model import build_model
from mtl.networks.retraining import end_first_training, new_compact_model, sparsities
from mtl.passes import Passes
from mtl.sparsity import measure_sparsity
from mtl.training import Training
from mtl.vocabulary.objective import COSTS
from search.cli import main
from search.engine.trial import RunContext, TrialRun
from tests.support.checkpoints import sparse_model, time_nothing
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")


def training(**fields: Any) -> Training:
    """Of a penalty that leaves some groups after an epoch, of two."""
    settings = {"epochs": 2, "strength": 0.5, "lr": 3e-3, "lr_schedule": "constant"} | fields
    return Training(config(**settings), TASKS, arrays(), CPU)


def saved(one: Training) -> bytes:
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    return buffer.getvalue()


def without_clock(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("retraining", ["scratch", "fine_tune"])
def test_resumed_after_any_epoch_it_comes_to_the_same_numbers(retraining: str) -> None:
    whole = training(retraining=retraining)
    states = []
    while not whole.done:
        whole.run_epoch()
        states.append(saved(whole))
    metrics = whole.test()
    assert [row["epoch"] for row in whole.history] == [0, 1, 2, 3]
    assert whole.first is not None
    assert whole.best_epoch >= 2
    for state in states:
        resumed = training(retraining=retraining)
        resumed.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        while not resumed.done:
            resumed.run_epoch()
        assert resumed.test() == metrics
        assert without_clock(resumed.history) == without_clock(whole.history)
        assert {k: v.tolist() for k, v in resumed.survivors.items()} == {
            k: v.tolist() for k, v in whole.survivors.items()
        }


def test_the_first_training_is_that_of_a_trial_without_a_second_and_the_sparsity_stays() -> None:
    plain, again = training(), training(retraining="fine_tune")
    for one in (plain, again):
        while not one.done:
            one.run_epoch()
    assert without_clock(again.history[:2]) == without_clock(plain.history)
    alone, both = plain.test(), again.test()
    best = plain.history[plain.best_epoch]
    assert 0.1 < best["group_sparsity"] < 1
    for row in again.history[2:]:
        assert row["group_sparsity"] >= best["group_sparsity"]
        assert row["group_sparsity"] < best["group_sparsity"] + 0.2
        assert row["parameter_sparsity"] > best["parameter_sparsity"] - 1e-9
    assert (both["macs"], both["active_parameters"]) == (alone["macs"], alone["active_parameters"])
    for name, alive in plain.survivors.items():
        np.testing.assert_array_equal(alive, again.survivors[name])


def test_fine_tuning_starts_from_the_models_outputs_and_scratch_from_new_weights() -> None:
    settings = config()
    model = sparse_model(settings, TASKS, 0.5, 0)
    assert isinstance(model.backbone, DilatedResNet)
    first, state = end_first_training(model, settings, epochs=3)  # type: ignore[arg-type]
    torch.manual_seed(0)
    compact = new_compact_model(first.plan, settings, TASKS)
    fresh = {name: value.clone() for name, value in compact.state_dict().items()}
    compact.load_state_dict(state)
    certify(model, compact, [torch.randn(4, 3, 32, 48)], 1e-5)
    assert sum(p.numel() for p in compact.parameters()) < sum(p.numel() for p in model.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in compact.backbone.modules())
    # Outputs have no zero weights left by construction, and none of the old ones.
    assert measure_sparsity(compact).group_sparsity == 0
    convolutions = [name for name, m in compact.backbone.named_modules() if isinstance(m, nn.Conv2d)]
    for name in convolutions:
        new, old = fresh[f"backbone.{name}.weight"], state[f"backbone.{name}.weight"]
        assert (new != old).all()
        fan_out = new.shape[0] * new.shape[2] * new.shape[3]
        if new.numel() > 2000:
            assert float(new.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    shares = sparsities(compact, first)
    groups = sum(layer.groups for layer in measure_sparsity(compact).layers)
    assert shares["group_sparsity"] == pytest.approx(1 - groups / first.groups)
    assert shares["group_sparsity"] >= measure_sparsity(model).group_sparsity


def test_the_second_training_has_no_penalty() -> None:
    one = training(retraining="fine_tune")
    while not one.done:
        one.run_epoch()
    assert [group["penalty"].strength for group in one.optimizer.param_groups if group["penalty"]] == [0.0]


def test_patience_counts_in_each_training(monkeypatch: pytest.MonkeyPatch) -> None:
    better = iter([True, True, False, False, False, True, False, False])
    monkeypatch.setattr("mtl.training.takes_over", lambda tasks, row, best: next(better))
    one = training(retraining="scratch", epochs=6, patience=2)
    while not one.done:
        one.run_epoch()
    assert one.first is not None
    assert (one.first.epochs, one.epochs_run, one.best_epoch) == (4, 8, 5)


@pytest.mark.parametrize(("retraining", "goes_on"), [("fine_tune", True), ("scratch", False)])
def test_the_second_training_starts_where_its_kind_says(
    retraining: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training(retraining=retraining)
    one.run_epoch()
    one.run_epoch()
    best = one.history[one.best_epoch]

    def nothing(self: Training, epoch: int) -> Passes[dict[str, float]]:
        yield from ()
        return {}

    monkeypatch.setattr(Training, "_train_epoch", nothing)
    start = one.run_epoch()
    losses = [name for name in best if name.startswith("val_") and name.endswith("_loss")]
    assert np.allclose([start[name] for name in losses], [best[name] for name in losses], rtol=1e-5) == goes_on


@pytest.mark.parametrize("weighting", ["gradnorm", "pcgrad"])
def test_every_weighting_trains_a_compact_model(weighting: str) -> None:
    one = training(retraining="scratch", epochs=1, task_weighting=weighting)
    while not one.done:
        one.run_epoch()
    assert one.test()["group_sparsity"] < 1


def test_an_empty_backbone_is_retrained_and_gradnorm_says_what_it_lacks() -> None:
    one = training(retraining="scratch", epochs=1, strength=1e4)
    while not one.done:
        one.run_epoch()
    assert one.test()["group_sparsity"] > 0.9
    empty = new_compact_model([*_input_and_output()], config(), TASKS)
    with pytest.raises(TrialFailed, match="gradnorm"):
        _ = empty.last_shared


def _input_and_output() -> list[dict[str, Any]]:
    return [
        {"name": "x", "op": "input", "inputs": [], "settings": {"channels": 3}},
        {"name": "output", "op": "output", "inputs": ["x"], "settings": {"structure": "x"}},
    ]


def test_costs_by_hand() -> None:
    model = build_model(config(tasks=("depth",)), [TASKS[1]]).eval()
    assert isinstance(model.backbone, DilatedResNet)
    dense = model_costs(model, (32, 32))
    assert set(dense) == {"model_macs", "model_parameters", "macs", "active_parameters"}
    assert dense["model_macs"] == count_macs(model, (32, 32))
    assert dense["macs"] == count_macs(model.backbone, (32, 32))
    with torch.no_grad():
        for channel in range(4):
            model.backbone.layer1[0].conv2.weight[:, channel] = 0
    sparse = model_costs(model, (32, 32))
    # Four filters of layer1.0.conv1, with their biases, and the four groups of conv2 that read them, at 8 x 8.
    weights = 4 * 8 * 9 + 8 * 4 * 9
    for name in ("macs", "model_macs"):
        assert dense[name] - sparse[name] == weights * 8 * 8
    for name in ("active_parameters", "model_parameters"):
        assert dense[name] - sparse[name] == weights + 4
    timed = model_costs(model, (32, 32), latency=True)
    assert min(timed["model_latency_ms"], timed["latency_ms"]) > 0


def test_a_sweep_compares_retrainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` runs each of the recipe's trials into one sweep, and analysis keeps them apart."""
    monkeypatch.setattr(
        "search.engine.trial.trial_data", lambda c, data: ([t for t in TASKS if t.name in c.tasks], arrays())
    )
    monkeypatch.setattr("mtl.networks.costs.LATENCY_SECONDS", 0.0)
    time_nothing(monkeypatch)
    context = RunContext(str(tmp_path), "s", None, threads=1, gpus=0, checkpoint_seconds=1e9)
    fields = {"tasks": ("depth",), "epochs": 1, "measure_latency": True}
    configs = [config(**fields, strength=0.0)]
    configs += [config(**fields, strength=0.5, retraining=one) for one in ("none", "scratch", "fine_tune")]
    results = []
    for one in configs:
        run = TrialRun(one, context)
        while run.result is None:
            run.step()
        assert run.result.error == ""
        results.append(run.result)
    assert len({one.trial_id for one in configs}) == 4
    for one in configs:
        checkpoint = load_checkpoint(tmp_path / "s" / "trials" / one.trial_id / "model.pt")
        assert checkpoint.model(torch.zeros(1, 3, 32, 48))["depth"].shape == (1, 1, 4, 6)
    retrained = tmp_path / "s" / "trials" / configs[2].trial_id
    assert main(["compact", str(retrained)]) == 0
    one, small = (load_checkpoint(retrained / name).model for name in ("model.pt", "compact.pt"))
    certify(one, small, [torch.randn(3, 3, 32, 48)], 1e-5)
    assert not [module for module in small.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    _check_analysis(tmp_path / "s", results)


def _check_analysis(folder: Path, results: list[Any]) -> None:
    from mtl.objectives.metrics import metric_infos
    from mtl.vocabulary.metric import Metric
    from search.store.tables import results_table

    task = TASKS[1]
    infos = metric_infos(task, "standard")
    table = results_table(results, infos, {task.name: Metric("depth_mae", "", "", "minimize")})
    assert list(table["retraining"]) == ["none", "none", "scratch", "fine_tune"]
    for column in COSTS:
        assert (table[column] > 0).all()
    assert table["delta_m"].notna().all()
    table.to_parquet(folder / "results.parquet")
    recipe = {"tasks": ["depth"], "combinations": "all", "lambdas": [0, 0.5], "seeds": 2, "penalty": "group_lasso"}
    info = {
        "schema": 1,
        "name": "s",
        "recipe": recipe | {"retraining": ["none", "scratch", "fine_tune"]},
        "trials_planned": 8,
        "objectives": [{"column": "delta_m", "direction": "maximize"}, {"column": "macs", "direction": "minimize"}],
        "tasks": {"depth": {"primary": "depth_mae"}},
        "metrics": {name: {"direction": info.direction} for name, info in infos.items()},
    }
    (folder / "sweep.json").write_text(json.dumps(info))
    sweep = load_sweep(folder)
    settings = settings_table(sweep)
    assert list(settings["trials"]) == [1, 1, 1, 1]
    assert set(settings["method"]) == {"group_lasso", "group_lasso + scratch", "group_lasso + fine_tune"}
    missing = missing_table(sweep)
    assert list(missing["seed"]) == [1, 1, 1, 1]
    assert sorted(zip(missing["lambda"], missing["method"], strict=True)) == [
        *((0, "group_lasso"), (0.5, "group_lasso")),
        *((0.5, "group_lasso + fine_tune"), (0.5, "group_lasso + scratch")),
    ]
    assert isinstance(sweep.results, pd.DataFrame)

"""Costs and gains beside the dense model of the same tasks, recomputed from what sweeps wrote; who is ours."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from analysis.compute.costs import SHARES, sides, strategies, targets, with_costs
from analysis.compute.everything import Computed
from mtl.config import Compressor
from mtl.vocabulary.compressors import ALTERNATIVES, OURS, side_of
from mtl.vocabulary.objective import COSTS, WHOLE_COSTS


def test_each_trial_is_compared_with_the_dense_model_of_its_tasks_and_seed(small: Computed) -> None:
    done = small.sweep.trials("done")
    dense = done[(done["lambda"] == 0) & (done["settings"] == "")].set_index(["tasks", "seed"])
    lower_is_better = {"depth": "depth_mae", "normals": "normals_mean_angle"}
    for row in done.to_dict("records"):
        own = dense.loc[(row["tasks"], row["seed"])]
        for split, column in (("val", "over_dense"), ("test", "test_over_dense")):
            names = [f"{split}_{lower_is_better[task]}" for task in row["tasks"].split("+")]
            assert row[column] == pytest.approx(np.mean([1 - row[name] / own[name] for name in names]))
        full = dense.loc[row["tasks"]]
        for cost in ("model_macs", "model_parameters"):
            assert row[SHARES[cost]] == pytest.approx(row[cost] / full[cost].mean())
    single = done[~done["tasks"].str.contains("+", regex=False)]
    np.testing.assert_allclose(single["test_over_dense"], single["test_delta_m"])
    # It was not timed.
    assert SHARES["model_latency_ms"] not in done


def test_latency_of_the_whole_model_is_in_the_results_and_its_share(merged: Computed) -> None:
    done = merged.sweep.trials("done")
    assert (done[["model_latency_ms", "latency_ms"]] > 0).all(axis=None)
    dense = done[done["lambda"] == 0].groupby("tasks")["model_latency_ms"].mean()
    expected = done["model_latency_ms"] / done["tasks"].map(dense)
    np.testing.assert_allclose(done["model_latency_share"], expected)


def test_without_a_dense_model_nothing_is_known_of_shares(small: Computed) -> None:
    results = small.sweep.results
    left = results[(results["settings"] != "") | (results["lambda"] > 0)].drop(columns=list(SHARES.values())[:2])
    rows = with_costs(replace(small.sweep, results=left)).results
    assert rows[["over_dense", "test_over_dense", "model_macs_share"]].isna().all(axis=None)


def test_strategies_and_sides() -> None:
    cases = [
        ("group_lasso", 0.0, "none", "", "dense", "dense"),
        ("group_lasso", 0.1, "none", "", "group_lasso", "ours"),
        ("l1", 0.1, "fine_tune", "lr=0.01", "l1 + fine_tune", "ours"),
        ("group_lasso", 0.0, "longer", "", "dense, 2 × epochs", "alternative"),
        ("group_lasso", 0.0, "none", "backbone_width=8", "dense, other settings", "alternative"),
        ("group_lasso", 0.0, "none", "compressor=selection target_macs=0.25", "selection", "ours"),
        ("group_lasso", 0.0, "none", "lr=0.1 compressor=narrow target_macs=0.5", "narrow", "alternative"),
        ("group_lasso", 0.0, "none", "compressor=torch_pruning_taylor target_macs=0.5", "torch_pruning_taylor",
         "alternative"),
        ("group_lasso", 0.0, "none", "compressor=unheard_of target_macs=0.5", "unheard_of", "alternative"),
    ]  # fmt: skip
    columns = ["penalty", "lambda", "retraining", "settings", "strategy", "side"]
    rows = pd.DataFrame(cases, columns=columns, index=range(3, 12))
    assert strategies(rows).tolist() == rows["strategy"].tolist()
    assert sides(rows).tolist() == rows["side"].tolist()
    assert targets(rows).dropna().tolist() == [0.25, 0.5, 0.5, 0.5]


def test_every_compressor_is_of_one_side() -> None:
    assert set(get_args(Compressor)) <= {*OURS, *ALTERNATIVES}
    assert not set(OURS) & set(ALTERNATIVES)
    assert (side_of("penalty"), side_of("narrow"), side_of("nobody knows")) == ("ours", "alternative", "alternative")


def test_the_whole_models_costs_are_costs() -> None:
    assert set(WHOLE_COSTS) < set(COSTS)
    assert set(COSTS.values()) == {"minimize"}

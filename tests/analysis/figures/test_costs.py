"""Performance against cost: percentages of the dense model's, recomputed from what a sweep wrote, and none without."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.compute.everything import Computed
from analysis.figures.costs import ABSENT, cost_figure, cost_panels


def test_each_setting_stands_at_its_cost_with_its_change_over_the_dense_model(merged: Computed) -> None:
    panels = {panel.title: panel.rows for panel in cost_panels(merged.sweep)}
    assert set(panels) == set(merged.sweep.results["tasks"])
    results = merged.sweep.trials("done").set_index(["tasks", "lambda", "seed"])
    rows = panels["depth+normals"].set_index("lambda")
    assert rows.loc[0, ["cost_percent", "change_percent_mean"]].tolist() == [100, 0]
    assert set(rows["strategy"]) == {"group_lasso"}
    for strength in rows.index.drop(0):
        costs, changes = [], []
        for seed in (0, 1):
            own, dense = (results.loc["depth+normals", one, seed] for one in (strength, 0))
            costs.append(own["model_macs"])
            less = {"test_depth_mae": -1, "test_normals_mean_angle": -1}
            changes.append(np.mean([sign * (own[name] / dense[name] - 1) for name, sign in less.items()]))
        full = results.loc["depth+normals", 0, 0]["model_macs"]
        assert rows.loc[strength, "cost_percent"] == pytest.approx(100 * np.mean(costs) / full)
        assert rows.loc[strength, "change_percent_mean"] == pytest.approx(100 * np.mean(changes))
        assert rows.loc[strength, "change_percent_std"] == pytest.approx(100 * np.std(changes, ddof=1))


def test_compressors_are_strategies_of_their_own(merged: Computed) -> None:
    results = merged.sweep.results.copy()
    chosen = results["lambda"] == 1
    results.loc[chosen, "lambda"] = 0
    results.loc[chosen, ["settings", "method"]] = ["compressor=narrow target_macs=0.5", "narrow target_macs=0.5"]
    panels = cost_panels(replace(merged.sweep, results=results))
    for panel in panels:
        narrow = panel.rows[panel.rows["strategy"] == "narrow"]
        assert len(narrow) == 1
        assert narrow["lambda"].tolist() == [0]


def test_without_costs_or_a_dense_model_it_says_so(merged: Computed) -> None:
    results = merged.sweep.results
    for left in (results.drop(columns="model_macs"), results[results["lambda"] > 0]):
        assert cost_figure(replace(merged.sweep, results=left), merged.marked) == ABSENT

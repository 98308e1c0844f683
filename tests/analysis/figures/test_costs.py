"""Performance against cost: the settings' own numbers, the front over all methods, ticks, and none without costs."""

import numpy as np
import pytest

from analysis.compute.everything import Computed
from analysis.figures.costs import (
    ABSENT,
    LATENCY,
    MACS,
    NO_LATENCY,
    PARAMETERS,
    Cost,
    cost_figure,
    cost_panels,
    log_ticks,
)
from analysis.figures.drawing import Drawing, style
from analysis.figures.looks import strategy_looks


@pytest.mark.parametrize("cost", [MACS, PARAMETERS])
def test_each_setting_stands_at_its_cost_and_performance(small: Computed, cost: Cost) -> None:
    panels = {panel.title: panel.rows for panel in cost_panels(small.marked, cost)}
    assert set(panels) == set(small.marked["tasks"])
    done = small.sweep.trials("done")
    for combination, rows in panels.items():
        assert len(rows) == 1 + 1 + 2 * 2
        trials = done[done["tasks"] == combination]
        column = {"cost": "model_macs", "cost_parameters": "model_parameters"}[cost.name]
        full = trials.loc[(trials["lambda"] == 0) & (trials["settings"] == ""), column].mean()
        for row in rows.to_dict("records"):
            own = trials[(trials["method"] == row["method"]) & (trials["lambda"] == row["lambda"])]
            assert row["cost_mean"] == pytest.approx(100 * own[column].mean() / full)
            assert row["measure_mean"] == pytest.approx(100 * own["test_delta_m"].mean())
            assert row["measure_std"] == pytest.approx(100 * own["test_delta_m"].std())
        dense = rows[rows["strategy"] == "dense"]
        assert dense["cost_mean"].tolist() == [100]


def test_the_front_of_the_first_figure_is_that_of_the_tables(small: Computed) -> None:
    for panel in cost_panels(small.marked):
        settings = small.marked[small.marked["tasks"] == panel.title].set_index(["method", "lambda"])
        front = panel.rows.set_index(["method", "lambda"])["on_front"]
        assert front.to_dict() == settings["on_cost_front"].to_dict()


def test_latency_is_drawn_where_it_was_measured(small: Computed, merged: Computed) -> None:
    with style():
        assert cost_figure(small.marked, LATENCY) == NO_LATENCY
        drawing = cost_figure(merged.marked, LATENCY)
    assert isinstance(drawing, Drawing)
    done = merged.sweep.trials("done")
    own = done[(done["tasks"] == "depth") & (done["lambda"] == 0)]["model_latency_ms"].mean()
    rows = drawing.data[(drawing.data["tasks"] == "depth") & (drawing.data["strategy"] == "dense")]
    assert rows["cost_mean"].tolist() == pytest.approx([own])


def test_without_single_task_models_it_is_over_the_dense_model(small: Computed) -> None:
    marked = small.marked.assign(delta_m_mean=np.nan, test_delta_m_mean=np.nan)
    for panel in cost_panels(marked):
        assert set(panel.rows["measure"]) == {"test_over_dense"}
        assert panel.rows.loc[panel.rows["strategy"] == "dense", "measure_mean"].tolist() == [0]


def test_without_costs_it_says_so(small: Computed) -> None:
    assert cost_figure(small.marked.drop(columns="model_macs_share_mean")) == ABSENT


def test_ours_are_solid_and_alternatives_broken_and_no_two_look_alike(small: Computed) -> None:
    looks = strategy_looks(small.marked)
    assert list(looks) == ["dense", "group_lasso", "selection", "narrow"]
    assert [look.line for look in looks.values()] == ["", "-", "-", "--"]
    assert len({look.color for look in looks.values()}) == len({look.marker for look in looks.values()}) == 4


@pytest.mark.parametrize(
    ("low", "high"), [(4, 110), (92, 101), (0.31, 0.33), (99.9, 100.1), (1e-3, 1e4), (1e-12, 1e12), (45, 130), (6, 90)]
)
def test_every_axis_has_some_round_ticks_within(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))

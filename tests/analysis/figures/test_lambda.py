"""Figures 3(a) to 3(d): metrics, sparsity and latency against λ, and sparsity over epochs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.compute.everything import Computed
from analysis.compute.text_table import shown_metrics
from analysis.figures.curves import Look, looks_of
from analysis.figures.dynamics import draw_dynamics, dynamics_figure, dynamics_panels, shown_strengths, strength_looks
from analysis.figures.lambda_curves import draw_metric, metric_panels, metrics_figure, sparsity_figure, sparsity_panels
from analysis.figures.latency import PROPORTIONAL, draw_latency, latency_figure, latency_panels
from analysis.figures.strength_axis import strength_axis
from analysis.read.load import Sweep

MINE = ["depth", "depth+normals", "segmentation+depth+normals"]


def depth_trials(merged: Computed, **columns: Any) -> Sweep:
    """The trials of depth alone at λ = 0 and 1, two seeds of each, with these columns."""
    results = merged.sweep.results
    results = results[(results["tasks"] == "depth") & results["lambda"].isin([0, 1])]
    return replace(merged.sweep, results=results.sort_values(["lambda", "seed"], ignore_index=True).assign(**columns))


def test_metric_panels_have_a_curve_for_each_combination_with_the_task(merged: Computed) -> None:
    panels = {panel.rows["metric"].iloc[0]: panel for panel in metric_panels(merged.sweep, merged.marked)}
    assert list(panels) == [metric.name for metric in shown_metrics(merged.sweep)]
    depth = panels["depth_mae"]
    assert depth.rows["tasks"].unique().tolist() == MINE
    assert depth.y_label == "depth MAE [m], lower is better"
    rows = merged.marked[merged.marked["tasks"] == "depth"]
    curve = depth.rows[depth.rows["tasks"] == "depth"]
    assert curve["lambda"].tolist() == [0, 3e-2, 1]
    np.testing.assert_array_equal(curve["test_mean"], rows["test_depth_mae_mean"])
    np.testing.assert_array_equal(curve["test_std"], rows["test_depth_mae_std"])


def test_every_metric_has_the_constant_predictor_as_a_line(merged: Computed) -> None:
    looks = dict.fromkeys(merged.marked["tasks"], Look("k", "o"))
    for panel in metric_panels(merged.sweep, merged.marked):
        constant = merged.sweep.constant_predictor[panel.rows["metric"].iloc[0]]
        ax = Figure().add_subplot()
        draw_metric(panel.rows, ax, looks)
        assert any(list(line.get_ydata()) == [constant, constant] for line in ax.lines)
        assert len(ax.lines) == 1 + 2 * panel.rows["tasks"].nunique()
    drawing = metrics_figure(merged.sweep, merged.marked)
    assert "constant predictor" in drawing.svg
    constants = drawing.data.loc[drawing.data["metric"] == "depth_mae", "constant_predictor"]
    assert set(constants) == {merged.sweep.constant_predictor["depth_mae"]}


def test_sparsity_panels_are_in_percent(merged: Computed) -> None:
    panel = sparsity_panels(merged.marked)[0]
    assert panel.title == "segmentation"
    np.testing.assert_allclose(panel.rows["groups_gone_percent_mean"], 100 * merged.marked["group_sparsity_mean"][:3])
    data = sparsity_figure(merged.marked).data
    np.testing.assert_allclose(data["weights_gone_percent_std"], 100 * merged.marked["parameter_sparsity_std"])


def test_methods_and_setups_have_curves_of_their_own(merged: Computed) -> None:
    other = merged.marked.assign(method="l1")
    panels = sparsity_panels(pd.concat([merged.marked, other], ignore_index=True))
    assert [panel.title for panel in panels[:2]] == ["segmentation, group_lasso", "depth, group_lasso"]
    assert len(panels) == 10


def test_dynamics_are_means_over_seeds_and_a_trial_that_ended_keeps_its_value(merged: Computed) -> None:
    sweep = depth_trials(merged)
    dense, _, first, second = sweep.results["trial_id"]
    rows = [(first, epoch, share) for epoch, share in ((1, 0.1), (2, 0.4), (3, 0.6))]
    rows += [(second, epoch, share) for epoch, share in ((1, 0.3), (2, 0.2))]
    rows += [(dense, 1, 0.0)]
    history = pd.DataFrame(rows, columns=["trial_id", "epoch", "group_sparsity"])
    (panel,) = dynamics_panels(replace(sweep, history=history), merged.marked)
    assert panel.title == "depth"
    assert panel.rows[["lambda", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [1, 3]]
    np.testing.assert_allclose(panel.rows["group_sparsity_percent_mean"], [20, 30, 40])
    np.testing.assert_allclose(panel.rows["group_sparsity_percent_std"], np.array([20, 20, 40]) / np.sqrt(2))
    ax = Figure().add_subplot()
    draw_dynamics(panel.rows, ax, strength_looks([1.0]))
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata()), [20, 30, 40])
    assert len(ax.collections) == 1


def test_dynamics_show_at_most_six_strengths_and_say_so(merged: Computed) -> None:
    strengths = [0.0, *np.logspace(-6, -3, 16)]
    assert len(shown_strengths(strengths)) == 6
    assert (shown_strengths(strengths)[0], shown_strengths(strengths)[-1]) == (1e-6, pytest.approx(1e-3))
    assert shown_strengths([0.0]) == []
    sweep = depth_trials(merged)
    trial = sweep.results[sweep.results["lambda"] == 1].head(1)
    ids = [f"{trial['trial_id'].iloc[0]}-{place}" for place in range(16)]
    many = pd.concat([trial] * 16).assign(**{"lambda": strengths[1:], "trial_id": ids})
    history = pd.DataFrame({"trial_id": ids, "epoch": 1, "group_sparsity": 0.5})
    marked = many[["tasks", "lambda"]].assign(trials=1)
    drawing = dynamics_figure(replace(sweep, results=many, history=history), marked)
    assert not isinstance(drawing, str)
    assert "6 of 16 λ are shown. One seed per setting, so no bands." in drawing.caption
    assert drawing.data["lambda"].nunique() == 6


def test_without_a_history_the_reason_is_given(merged: Computed) -> None:
    assert dynamics_figure(replace(merged.sweep, history=None), merged.marked) == (
        "The sweep has no history of a trial with λ > 0, so there are no curves of sparsity against epochs."
    )


def test_latency_is_measured_and_in_proportion_to_macs(merged: Computed) -> None:
    shares = [0.0, 0.0, 0.7, 0.8]
    sweep = depth_trials(merged, latency_ms=[40, 44, 20, 24], macs=[1e9, 1e9, 2.5e8, 2.5e8], group_sparsity=shares)
    (panel,) = latency_panels(sweep)
    np.testing.assert_allclose(panel.rows["latency_ms_mean"], [42, 22])
    np.testing.assert_allclose(panel.rows["latency_ms_std"], [8**0.5, 8**0.5])
    np.testing.assert_allclose(panel.rows[PROPORTIONAL], [42, 10.5])
    drawing = latency_figure(sweep, merged.marked)
    assert not isinstance(drawing, str)
    assert list(drawing.data) == [
        *("tasks", "method", "lambda", "latency_ms_mean", "latency_ms_std", "group_sparsity_mean", PROPORTIONAL)
    ]
    for by_sparsity, xs in ((False, [0, 1]), (True, [0, 75])):
        ax = Figure().add_subplot()
        draw_latency(panel.rows, ax, by_sparsity=by_sparsity)
        assert ax.get_ylim()[0] == 0
        measured = next(line for line in ax.lines if line.get_marker() == "o")
        np.testing.assert_allclose(measured.get_xydata(), np.transpose([xs, [42, 22]]))
        joined = next(line for line in ax.lines if line.get_linestyle() == "--")
        assert len(joined.get_xydata()) == (2 if by_sparsity else 1)
    beside = latency_figure(sweep, merged.marked, by_sparsity=True)
    assert not isinstance(beside, str)
    assert "group sparsity" in beside.svg


def test_latencies_of_retrained_trials_are_not_averaged_with_those_of_others(merged: Computed) -> None:
    sweep = depth_trials(merged, latency_ms=[40, 44, 20, 24])
    again = sweep.results[sweep.results["lambda"] > 0].assign(
        latency_ms=[10, 12], retraining="scratch", method="group_lasso + scratch"
    )
    sweep = replace(sweep, results=pd.concat([sweep.results, again], ignore_index=True))
    panels = latency_panels(sweep)
    assert [panel.title for panel in panels] == ["depth, group_lasso", "depth, group_lasso + scratch"]
    np.testing.assert_allclose([panel.rows["latency_ms_mean"] for panel in panels], [[42, 22], [42, 11]])
    drawing = latency_figure(sweep, merged.marked)
    assert not isinstance(drawing, str)
    assert list(drawing.data["method"].unique()) == ["group_lasso", "group_lasso + scratch"]


def test_without_latency_there_is_a_line_instead_and_without_macs_no_proportional_one(merged: Computed) -> None:
    assert "measure_latency=true" in str(latency_figure(depth_trials(merged, latency_ms=np.nan), merged.marked))
    (panel,) = latency_panels(depth_trials(merged, macs=np.nan))
    assert PROPORTIONAL not in panel.rows


@pytest.mark.parametrize(
    ("strengths", "labels"),
    [
        ([0, 1e-6, 1e-4], ["0", "1e-6", "1e-4"]),
        ([0, 1e-6, 1e-5, 1e-4, 1e-3], ["0", "1e-6", "1e-5", "1e-4", "1e-3"]),
        ([0], ["0"]),
        ([3e-5], ["3e-5"]),
        (np.logspace(-6.5, -1.5, 30).tolist(), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2"]),
    ],
)
def test_strength_axis_places_zero_left_of_all(strengths: list[float], labels: list[str]) -> None:
    ax = Figure().add_subplot()
    strength_axis(ax, strengths)
    places = ax.transAxes.inverted().transform(ax.transData.transform([(value, 0) for value in strengths]))[:, 0]
    assert np.all(np.diff(places) > 0)
    assert 0.02 < places[0] < 0.51
    assert 0.49 < places[-1] < 0.98
    assert [label.get_text() for label in ax.get_xticklabels()] == labels
    if len(strengths) == 5:
        # The decades are equally wide, and 0 is 0.84 of them left of the smallest λ.
        np.testing.assert_allclose(np.diff(places) / np.diff(places)[1], [0.84, 1, 1, 1])


def test_combinations_differ_in_colour_and_methods_in_their_lines() -> None:
    rows = [(tasks, method, f"{tasks}, {method}") for tasks in ("depth", "normals") for method in ("group_lasso", "l1")]
    settings = pd.DataFrame(rows, columns=["tasks", "method", "label"]).assign(setup="one")
    looks = looks_of(settings)
    assert len(set(looks.values())) == 4
    for method in ("group_lasso", "l1"):
        assert looks[f"depth, {method}"].line == looks[f"normals, {method}"].line
    assert looks["depth, l1"].line != looks["depth, group_lasso"].line
    assert looks["depth, l1"].color == looks["depth, group_lasso"].color != looks["normals, l1"].color

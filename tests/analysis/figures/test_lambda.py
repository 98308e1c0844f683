"""Figures 3(a) to 3(d): metrics, sparsity and latency against λ, and sparsity over epochs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.compute.everything import Computed, compute
from analysis.figures.dynamics import draw_dynamics, dynamics_figure, dynamics_panels, looks_of, shown_strengths
from analysis.figures.lambda_curves import (
    draw_metric,
    metric_panels,
    metrics_figure,
    sparsity_figure,
    sparsity_panels,
)
from analysis.figures.latency import (
    draw_against_sparsity,
    draw_latency,
    latency_figure,
    latency_panels,
    latency_sparsity_figure,
)
from analysis.figures.strength_axis import StrengthAxis
from tests.support.fake_sweep import results_table, write_sweep


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return compute(write_sweep(tmp_path_factory.mktemp("rooms")))


def depth_results(**columns: list[float]) -> pd.DataFrame:
    """Two λ and two seeds of depth alone, with these columns."""
    results = results_table(["depth"], [0.0, 1e-4], [0, 1], {"depth": "depth_mae"}, ["depth_mae"])
    return results.assign(**columns)


def test_metric_panels_have_a_curve_for_each_combination_with_the_task(rooms: Computed) -> None:
    panels = {panel.name: panel for panel in metric_panels(rooms.sweep, rooms.marked)}
    assert list(panels) == ["segmentation_miou", "segmentation_iou_micro", "depth_mae", "normals_cos"]
    depth = panels["depth_mae"]
    assert [curve.label for curve in depth.curves] == [
        *("depth", "segmentation+depth", "depth+normals", "segmentation+depth+normals")
    ]
    assert depth.y_label == "depth MAE [m], lower is better"
    np.testing.assert_array_equal(depth.curves[0].strengths, [0, 1e-6, 1e-5, 1e-4, 1e-3])
    rows = rooms.marked[rooms.marked["tasks"] == "depth"]
    np.testing.assert_array_equal(depth.curves[0].mean, rows["test_depth_mae_mean"])
    np.testing.assert_array_equal(depth.curves[0].std, rows["test_depth_mae_std"])


def test_every_metric_has_the_constant_predictor_as_a_line(rooms: Computed) -> None:
    axis = StrengthAxis(rooms.marked["lambda"].tolist())
    for panel in metric_panels(rooms.sweep, rooms.marked):
        constant = rooms.sweep.constant_predictor[panel.name]
        ax = Figure().add_subplot()
        draw_metric(panel, ax, axis)
        assert any(list(line.get_ydata()) == [constant, constant] for line in ax.lines)
    drawing = metrics_figure(rooms.sweep, rooms.marked)
    assert "constant predictor" in drawing.svg
    assert set(drawing.data.loc[drawing.data["metric"] == "depth_mae", "constant_predictor"]) == {0.98}


def test_sparsity_panels_are_in_percent(rooms: Computed) -> None:
    panel = sparsity_panels(rooms.marked)[0]
    np.testing.assert_allclose(panel.groups.mean, 100 * rooms.marked["group_sparsity_mean"].head(5))
    np.testing.assert_allclose(panel.parameters.std, 100 * rooms.marked["parameter_sparsity_std"].head(5))
    data = sparsity_figure(rooms.marked).data
    np.testing.assert_allclose(data["weights_gone_percent_mean"], 100 * rooms.marked["parameter_sparsity_mean"])


def test_dynamics_are_means_over_seeds_and_a_trial_that_ended_keeps_its_value(tmp_path: Path) -> None:
    results = depth_results()
    folder = write_sweep(tmp_path, combinations=["depth"], lambdas=[0, 1e-4], results=results)
    rows = [("depth-0.0001-0", epoch, share) for epoch, share in ((1, 0.1), (2, 0.4), (3, 0.6))]
    rows += [("depth-0.0001-1", epoch, share) for epoch, share in ((1, 0.3), (2, 0.2))]
    rows += [("depth-0-0", 1, 0.0)]
    pd.DataFrame(rows, columns=["trial_id", "epoch", "group_sparsity"]).to_parquet(folder / "history.parquet")
    computed = compute(folder)
    (panel,) = dynamics_panels(computed.sweep, computed.marked)
    (curve,) = panel.curves
    assert curve.strength == 1e-4
    np.testing.assert_array_equal(curve.epochs, [1, 2, 3])
    np.testing.assert_allclose(curve.mean, [20, 30, 40])
    np.testing.assert_allclose(curve.std, np.array([20, 20, 40]) / np.sqrt(2))
    ax = Figure().add_subplot()
    draw_dynamics(panel, ax, looks_of([1e-4]))
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata()), [20, 30, 40])
    assert len(ax.collections) == 1


def test_dynamics_show_at_most_six_strengths_and_say_so(tmp_path: Path) -> None:
    strengths = [0.0, *np.logspace(-6, -3, 16)]
    assert len(shown_strengths(strengths)) == 6
    assert shown_strengths(strengths)[0] == 1e-6
    assert shown_strengths(strengths)[-1] == pytest.approx(1e-3)
    computed = compute(write_sweep(tmp_path, combinations=["depth"], lambdas=strengths, seeds=[0]))
    drawing = dynamics_figure(computed.sweep, computed.marked)
    assert not isinstance(drawing, str)
    assert "6 of 16 λ are shown." in drawing.caption
    assert drawing.data["lambda"].nunique() == 6


def test_without_a_history_the_reason_is_given(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path, combinations=["depth"], history=False))
    assert dynamics_figure(computed.sweep, computed.marked) == (
        "The sweep has no history of a trial with λ > 0, so there are no curves of sparsity against epochs."
    )


def test_latency_is_measured_and_in_proportion_to_macs(tmp_path: Path) -> None:
    results = depth_results(latency_ms=[40, 44, 20, 24], macs=[1e9, 1e9, 2.5e8, 2.5e8])
    computed = compute(write_sweep(tmp_path, combinations=["depth"], lambdas=[0, 1e-4], results=results))
    (panel,) = latency_panels(computed.sweep)
    np.testing.assert_allclose(panel.measured.mean, [42, 22])
    np.testing.assert_allclose(panel.measured.std, [8**0.5, 8**0.5])
    assert panel.proportional is not None
    np.testing.assert_allclose(panel.proportional.mean, [42, 10.5])
    ax = Figure().add_subplot()
    draw_latency(panel, ax, StrengthAxis([0, 1e-4]))
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylabel() == "backbone latency [ms]"
    drawing = latency_figure(computed.sweep, computed.marked)
    assert not isinstance(drawing, str)
    np.testing.assert_allclose(drawing.data["proportional_to_macs_ms"], [42, 10.5])
    beside = Figure().add_subplot()
    draw_against_sparsity(panel, beside)
    line = next(line for line in beside.lines if line.get_linestyle() == "--")
    sparsity = results.groupby("lambda")["group_sparsity"].mean()
    np.testing.assert_allclose(np.asarray(line.get_xydata()), [[0, 42], [100 * sparsity.loc[1e-4], 10.5]])
    drawing = latency_sparsity_figure(computed.sweep, computed.marked)
    assert not isinstance(drawing, str)
    assert "group sparsity" in drawing.svg


def test_latencies_of_retrained_trials_are_not_averaged_with_those_of_others(tmp_path: Path) -> None:
    first = depth_results(latency_ms=[40, 44, 20, 24], macs=[1e9, 1e9, 2.5e8, 2.5e8], retraining="none")
    again = first[first["lambda"] > 0].assign(latency_ms=[10, 12], retraining="scratch")
    again["trial_id"] += "-scratch"
    results = pd.concat([first, again], ignore_index=True)
    computed = compute(write_sweep(tmp_path, combinations=["depth"], lambdas=[0, 1e-4], results=results))
    panels = latency_panels(computed.sweep)
    assert [panel.title for panel in panels] == ["depth, group_lasso", "depth, group_lasso + scratch"]
    np.testing.assert_allclose([panel.measured.mean for panel in panels], [[42, 22], [42, 11]])
    drawing = latency_figure(computed.sweep, computed.marked)
    assert not isinstance(drawing, str)
    assert list(drawing.data["method"].unique()) == ["group_lasso", "group_lasso + scratch"]


def test_without_latency_there_is_a_line_instead_and_without_macs_no_proportional_one(tmp_path: Path) -> None:
    plain = compute(write_sweep(tmp_path / "plain", combinations=["depth"]))
    assert "measure_latency=true" in str(latency_figure(plain.sweep, plain.marked))
    results = depth_results(latency_ms=[40, 44, 20, 24])
    timed = compute(write_sweep(tmp_path / "timed", combinations=["depth"], lambdas=[0, 1e-4], results=results))
    assert latency_panels(timed.sweep)[0].proportional is None


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
    axis, ax = StrengthAxis(strengths), Figure().add_subplot()
    axis.prepare(ax)
    places = axis.positions(np.array(strengths))
    assert np.all(np.diff(places) > 0)
    low, high = ax.get_xlim()
    assert low < places[0]
    assert places[-1] < high
    assert [label.get_text() for label in ax.get_xticklabels()] == labels

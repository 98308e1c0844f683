"""The fronts and the attainment surfaces: what they show, and that it is what is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.compute.everything import Computed, compute
from analysis.figures.attainment import attained, attainment_figure, attainment_panels, draw_attainment
from analysis.figures.curves import Look
from analysis.figures.drawing import Drawing
from analysis.figures.fronts import draw_front, front_figure, front_panels
from analysis.figures.labels import place_labels
from analysis.figures.palette import GROUND

COLOR, OTHER = "#0072b2", "#d55e00"


def surfaces() -> pd.DataFrame:
    """Two corners at half of the seeds, one more at a quarter; three quarters attain one."""
    rows = [(25, 0.2, 0.05), (25, 0.9, -0.1), (50, 0.1, 0.04), (50, 0.6, -0.2), (75, 0.3, -0.05)]
    table = pd.DataFrame(rows, columns=["level", "group_sparsity", "test_delta_m"])
    return table.assign(tasks="depth", seeds=4, objectives="test_delta_m+group_sparsity")


def test_front_panels_hold_percentages_of_the_test_split(merged: Computed) -> None:
    panels = front_panels(merged.sweep, merged.marked)
    assert [panel.title for panel in panels] == merged.marked["tasks"].unique().tolist()
    rows = merged.marked[merged.marked["tasks"] == "depth"].sort_values("group_sparsity_mean")
    panel = next(panel for panel in panels if panel.title == "depth")
    assert panel.y_label == "test Δm [%], higher is better"
    np.testing.assert_allclose(panel.rows["groups_gone_percent_mean"], 100 * rows["group_sparsity_mean"])
    np.testing.assert_allclose(panel.rows["measure_mean"], 100 * rows["test_delta_m_mean"])
    np.testing.assert_allclose(panel.rows["measure_std"], 100 * rows["test_delta_m_std"])
    assert panel.rows["on_front"].tolist() == rows["on_front"].tolist()
    assert panel.rows["best"].tolist() == rows["best"].tolist()


def front_rows(measure: str = "test_delta_m") -> pd.DataFrame:
    """Three settings: on the front, dominated, and on the front and the best."""
    about = {
        "tasks": "depth",
        "strategy": ["dense", "narrow", "path"],
        "measure": measure,
        "groups_gone_percent_mean": [0.0, 20.0, 50.0],
    }
    values = {
        "lambda": [0.0, 1e-3, 1e-2],
        "measure_mean": [0.0, -9.0, -2.0],
        "on_front": [True, False, True],
        "best": [False, False, True],
    }
    return pd.DataFrame(about | values | {"groups_gone_percent_std": np.nan, "measure_std": 1.0})


def drawn_front(rows: pd.DataFrame, constant: float | None = None, *, joined: bool = True) -> list[Line2D]:
    ax = Figure().add_subplot()
    draw_front(rows, ax, Look(COLOR, "o"), constant, joined=joined)
    return list(ax.lines)


def test_dominated_points_stay_and_are_hollow() -> None:
    lines = drawn_front(front_rows())
    (hollow,) = [line for line in lines if line.get_marker() == "o" and line.get_markerfacecolor() == GROUND.light]
    np.testing.assert_array_equal(hollow.get_xydata(), [[20, -9]])
    (ring,) = [line for line in lines if line.get_markerfacecolor() == "none"]
    np.testing.assert_array_equal(ring.get_xydata(), [[50, -2]])
    (line,) = [line for line in lines if line.get_linestyle() == "-"]
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0], [50, -2]])
    # At 30 % the front has what its point at 50 % has, not something between.
    assert line.get_drawstyle() == "steps-pre"
    assert not [line for line in drawn_front(front_rows(), joined=False) if line.get_linestyle() == "-"]


def test_strengths_stand_at_the_fronts_points_where_there_is_room() -> None:
    rows = front_rows().assign(on_front=True, groups_gone_percent_mean=[0.0, 40.0, 55.0])
    for places in ([0.0, 40.0, 55.0], [0.0, 20.0, 90.0]):
        figure = Figure(figsize=(6, 4))
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        draw_front(rows.assign(groups_gone_percent_mean=places), ax, Look(COLOR, "o"), None, joined=True)
        assert [one.get_text() for one in place_labels(ax, 7)] == ["λ=1e-3", "λ=1e-2"]


def test_each_way_to_a_small_model_has_its_colour_and_the_front_joins_them() -> None:
    looks = {"dense": Look(COLOR, "*"), "narrow": Look(OTHER, "s"), "path": Look(OTHER, "^")}
    ax = Figure().add_subplot()
    draw_front(front_rows(), ax, Look("#000000", "o"), None, joined=True, looks=looks)
    marked = {
        line.get_marker(): (line.get_color(), line.get_xydata().tolist())
        for line in ax.lines
        if line.get_marker() in ("*", "s", "^")
    }
    assert marked == {"*": (COLOR, [[0, 0]]), "s": (OTHER, [[20, -9]]), "^": (OTHER, [[50, -2]])}
    (line,) = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert (line.get_color(), line.get_xydata().tolist()) == ("#000000", [[0, 0], [50, -2]])


def test_the_figure_names_every_way_where_there_are_several(small: Computed, merged: Computed) -> None:
    several, one = (front_figure(found.sweep, found.marked).svg for found in (small, merged))
    assert all(name in several for name in ("selection", "narrow"))
    assert "group_lasso" not in one


def test_dense_models_and_the_constant_predictor_are_lines() -> None:
    assert [list(line.get_ydata()) for line in drawn_front(front_rows()) if line.get_linestyle() == "--"] == [[0, 0]]
    lines = drawn_front(front_rows("test_depth_mae"), 0.98)
    assert [list(line.get_ydata()) for line in lines if line.get_linestyle() == "--"] == [[0.98, 0.98]]


def test_without_baselines_there_is_a_panel_for_each_metric(storage: Path) -> None:
    computed = compute(storage / "l1")
    panels = front_panels(computed.sweep, computed.marked)
    assert [panel.y_label for panel in panels] == [
        *("depth MAE [m], lower is better", "normals mean angle [°],\nlower is better")
    ]
    drawing = front_figure(computed.sweep, computed.marked)
    assert drawing.data["measure"].tolist() == ["test_depth_mae", "test_normals_mean_angle"]
    assert "constant predictor" in drawing.svg
    assert "dense single-task" not in drawing.svg


def test_the_front_and_its_data_agree(merged: Computed) -> None:
    data = front_figure(merged.sweep, merged.marked).data
    assert len(data) == len(merged.marked)
    assert data["on_front"].sum() == merged.marked["on_front"].sum()


def test_a_surface_attains_each_corner_up_to_its_sparsity() -> None:
    corners = pd.DataFrame({"groups_gone_percent": [10.0, 60.0], "measure": [4.0, -20.0]})
    found = attained(corners, np.array([0, 10, 10.1, 60, 60.1]))
    np.testing.assert_array_equal(found, [4, 4, -20, -20, np.nan])


def test_attainment_is_drawn_by_level(merged: Computed) -> None:
    (panel,) = attainment_panels(merged.sweep, merged.marked, surfaces())
    assert panel.rows["seeds"].tolist() == [4] * 5
    half = panel.rows[panel.rows["attained_by_percent_of_seeds"] == 50]
    np.testing.assert_allclose(half[["groups_gone_percent", "measure"]], [[10, 4], [60, -20]])
    ax = Figure().add_subplot()
    draw_attainment(panel.rows, ax, COLOR)
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_xdata()), [0, 10, 60, 60])
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata())[:3], [4, 4, -20])
    (band,) = ax.collections
    assert to_hex(np.asarray(band.get_facecolor())[0]) == COLOR
    # Up to 20 % gone a quarter attains +5, to 90 % −10; three quarters attain −5 up to 30 %.
    corners = band.get_paths()[0].vertices
    assert {(20.0, 5.0), (90.0, -10.0), (30.0, -5.0)} <= {(round(x, 6), round(y, 6)) for x, y in np.asarray(corners)}


def test_attainment_data_holds_every_corner_and_one_seed_is_no_surface(merged: Computed) -> None:
    drawing = attainment_figure(merged.sweep, merged.marked, surfaces())
    assert isinstance(drawing, Drawing)
    assert drawing.data["attained_by_percent_of_seeds"].tolist() == [25, 25, 50, 50, 75]
    alone = attainment_figure(merged.sweep, merged.marked, surfaces().assign(seeds=1))
    assert alone == "There is one seed, so an attainment surface would be that seed's front."

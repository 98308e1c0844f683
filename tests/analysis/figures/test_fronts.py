"""The fronts and the attainment surfaces: what they show, and that it is what is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.compute.everything import Computed, compute
from analysis.figures.attainment import Staircase, attainment_figure, attainment_panels, draw_attainment
from analysis.figures.drawing import Drawing
from analysis.figures.fronts import draw_front, front_figure, front_panels
from analysis.figures.palette import GROUND
from tests.support.fake_sweep import write_sweep


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    return compute(write_sweep(tmp_path_factory.mktemp("rooms")))


def surfaces() -> pd.DataFrame:
    """Two corners at half of the seeds, one more at a quarter; three quarters attain one."""
    rows = [(25, 0.2, 0.05), (25, 0.9, -0.1), (50, 0.1, 0.04), (50, 0.6, -0.2), (75, 0.3, -0.05)]
    table = pd.DataFrame(rows, columns=["level", "group_sparsity", "test_delta_m"])
    return table.assign(tasks="depth", seeds=4, objectives="test_delta_m+group_sparsity")


def test_front_panels_hold_percentages_of_the_test_split(rooms: Computed) -> None:
    panels = front_panels(rooms.sweep, rooms.marked)
    assert len(panels) == 7
    rows = rooms.marked[rooms.marked["tasks"] == "depth"].sort_values("group_sparsity_mean")
    panel = next(panel for panel in panels if panel.combination == "depth")
    np.testing.assert_allclose(panel.groups_gone, 100 * rows["group_sparsity_mean"])
    np.testing.assert_allclose(panel.performance, 100 * rows["test_delta_m_mean"])
    np.testing.assert_allclose(panel.performance_std, 100 * rows["test_delta_m_std"])
    assert panel.on_front.tolist() == rows["on_front"].tolist()
    assert panel.best.tolist() == rows["best"].tolist()
    assert panel.best.sum() == 1
    assert panel.joined
    assert panel.dense == 0
    assert len({panel.color for panel in panels}) == 7


def test_dominated_points_stay_and_are_hollow(rooms: Computed) -> None:
    panel = next(panel for panel in front_panels(rooms.sweep, rooms.marked) if not panel.on_front.all())
    ax = Figure().add_subplot()
    draw_front(panel, ax)
    hollow = [line for line in ax.lines if line.get_marker() == "o" and line.get_markerfacecolor() == GROUND.light]
    np.testing.assert_array_equal(np.asarray(hollow[0].get_xdata()), panel.groups_gone[~panel.on_front])
    ring = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    np.testing.assert_array_equal(np.asarray(ring[0].get_ydata()), panel.performance[panel.best])


def test_without_baselines_there_is_a_panel_for_each_metric_with_its_constant(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path, combinations=["segmentation+depth"]))
    panels = front_panels(computed.sweep, computed.marked)
    assert [panel.y_label for panel in panels] == ["mean IoU, higher is better", "depth MAE [m], lower is better"]
    assert [panel.constant for panel in panels] == [0.04, 0.98]
    assert not any(panel.joined for panel in panels)
    assert all(panel.dense is None for panel in panels)
    ax = Figure().add_subplot()
    draw_front(panels[1], ax)
    assert any(list(line.get_ydata()) == [0.98, 0.98] for line in ax.lines)


def test_the_front_and_its_data_agree(rooms: Computed) -> None:
    data = front_figure(rooms.sweep, rooms.marked).data
    assert len(data) == len(rooms.marked)
    assert data["on_front"].sum() == rooms.marked["on_front"].sum()
    one = data[(data["tasks"] == "depth") & (data["lambda"] == 1e-4)].iloc[0]
    same = rooms.marked[(rooms.marked["tasks"] == "depth") & (rooms.marked["lambda"] == 1e-4)].iloc[0]
    assert one["measure_mean"] == pytest.approx(100 * same["test_delta_m_mean"])


def test_a_staircase_attains_each_corner_up_to_its_sparsity() -> None:
    stairs = Staircase(np.array([10.0, 60.0]), np.array([4.0, -20.0]))
    np.testing.assert_array_equal(stairs.at(np.array([0, 10, 10.1, 60, 60.1])), [4, 4, -20, -20, np.nan])


def test_attainment_is_drawn_by_level(rooms: Computed) -> None:
    (panel,) = attainment_panels(rooms.sweep, rooms.marked, surfaces())
    assert panel.seeds == 4
    np.testing.assert_allclose(panel.surfaces[50].x, [10, 60])
    np.testing.assert_allclose(panel.surfaces[50].y, [4, -20])
    ax = Figure().add_subplot()
    draw_attainment(panel, ax)
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_xdata()), [0, 10, 60, 60])
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata())[:3], [4, 4, -20])
    (band,) = ax.collections
    assert to_hex(np.asarray(band.get_facecolor())[0]) == panel.color
    # Up to 20 % gone a quarter attains +5, to 90 % −10; three quarters attain −5 up to 30 %.
    corners = band.get_paths()[0].vertices
    assert {(20.0, 5.0), (90.0, -10.0), (30.0, -5.0)} <= {(round(x, 6), round(y, 6)) for x, y in np.asarray(corners)}


def test_attainment_data_holds_every_corner_and_one_seed_is_no_surface(rooms: Computed) -> None:
    drawing = attainment_figure(rooms.sweep, rooms.marked, surfaces())
    assert isinstance(drawing, Drawing)
    assert drawing.data["attained_by_percent_of_seeds"].tolist() == [25, 25, 50, 50, 75]
    alone = attainment_figure(rooms.sweep, rooms.marked, surfaces().assign(seeds=1))
    assert alone == "There is one seed, so an attainment surface would be that seed's front."

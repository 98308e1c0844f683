"""What the figures show is computed apart from drawing them; the drawing itself is the same every time."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.drawing import StrengthAxis
from analysis.figures import draw_all, front_panels, metric_panels, sparsity_panels
from analysis.fronts import with_fronts
from analysis.load import Sweep, load_sweep
from analysis.settings import settings_table
from tests.fake_sweep import write_sweep


def prepared(folder: Path) -> tuple[Sweep, pd.DataFrame]:
    sweep = load_sweep(folder)
    return sweep, with_fronts(sweep, settings_table(sweep))


def test_front_panels_hold_percentages_of_the_test_split(tmp_path: Path) -> None:
    sweep, marked = prepared(write_sweep(tmp_path))
    panels = front_panels(sweep, marked)
    assert len(panels) == 7
    rows = marked[marked["tasks"] == "depth"].sort_values("group_sparsity_mean")
    panel = next(panel for panel in panels if panel.title == "depth")
    np.testing.assert_allclose(panel.groups_gone, 100 * rows["group_sparsity_mean"])
    np.testing.assert_allclose(panel.performance, 100 * rows["test_delta_m_mean"])
    np.testing.assert_allclose(panel.performance_std, 100 * rows["test_delta_m_std"])
    assert panel.on_front.tolist() == rows["on_front"].tolist()
    assert panel.joined
    assert panel.dense == 0
    assert panel.overall is not None
    assert len({panel.color for panel in panels}) == 7


def test_without_baselines_there_is_a_panel_for_each_metric_and_no_line(tmp_path: Path) -> None:
    panels = front_panels(*prepared(write_sweep(tmp_path, combinations=["segmentation+depth"])))
    assert [panel.y_label for panel in panels] == ["mean IoU, higher is better", "depth MAE [m], lower is better"]
    assert not any(panel.joined for panel in panels)
    assert all(panel.dense is None for panel in panels)


def test_metric_panels_have_a_curve_for_each_combination_with_the_task(tmp_path: Path) -> None:
    sweep, marked = prepared(write_sweep(tmp_path))
    panels = metric_panels(sweep, marked)
    assert [panel.title for panel in panels] == ["segmentation", "depth", "normals"]
    assert [curve.label for curve in panels[1].curves] == [
        *("depth", "segmentation+depth", "depth+normals", "segmentation+depth+normals")
    ]
    assert panels[1].constant == 0.98
    assert panels[1].y_label == "depth MAE [m], lower is better"
    np.testing.assert_array_equal(panels[1].curves[0].strengths, [0, 1e-6, 1e-5, 1e-4, 1e-3])


def test_sparsity_panels_are_in_percent(tmp_path: Path) -> None:
    _, marked = prepared(write_sweep(tmp_path))
    groups, parameters = sparsity_panels(marked)[0].curves
    np.testing.assert_allclose(groups.mean, 100 * marked["group_sparsity_mean"].head(5))
    np.testing.assert_allclose(parameters.std, 100 * marked["parameter_sparsity_std"].head(5))


@pytest.mark.parametrize(
    ("strengths", "labels"),
    [
        ([0, 1e-6, 1e-4], ["0", "1e-6", "1e-4"]),
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


def test_drawings_are_whole_alike_and_keep_text_as_text(tmp_path: Path) -> None:
    prepared_sweep = prepared(write_sweep(tmp_path, combinations=["segmentation", "depth"], lambdas=[0, 1e-4]))
    drawings, again = draw_all(*prepared_sweep), draw_all(*prepared_sweep)
    assert [drawing.name for drawing in drawings] == ["front", "fig3a", "fig3b"]
    assert drawings == again
    for drawing in drawings:
        assert drawing.png.startswith(b"\x89PNG")
        texts = {
            element.text for element in ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")
        }
        assert any(text and "sample standard deviation over 2 seeds" in text for text in texts)


def test_one_seed_says_that_there_are_no_error_bars(tmp_path: Path) -> None:
    drawings = draw_all(*prepared(write_sweep(tmp_path, combinations=["depth"], seeds=[0])))
    assert all("One seed a setting, so no error bars" in drawing.svg for drawing in drawings)

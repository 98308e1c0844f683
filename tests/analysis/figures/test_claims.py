"""The forest plot of the claims and the affinity matrix, on tables with known answers."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.compute.claims import Claim
from analysis.compute.intervals import Interval
from analysis.figures.affinity import affinity_figure, affinity_panels, draw_affinity
from analysis.figures.claims import OVER_ALL, claims_figure, draw_forest, forest_panels
from analysis.figures.drawing import Drawing


def claim(effect: float = 0.02, low: float = 0.01, part: str = "", rows: tuple[float, ...] = (0.01, 0.03)) -> Claim:
    data = pd.DataFrame({"tasks": ["depth", "normals"], "setup": "rooms", "penalty": "group_lasso", "part": part})
    data = data.assign(effect=rows, low=[value - 0.01 for value in rows], high=[value + 0.01 for value in rows])
    interval = Interval(effect, low, 2 * effect - low, 0.01, 0.0, 3)
    return Claim("gains", "Multi-task gains.", "how", data, interval, 3, -0.01, 0.03, "holds", "why")


def affinity() -> pd.DataFrame:
    rows = [
        (0.0, "depth", "normals", 0.05, 0.01),
        (0.0, "normals", "depth", -0.02, 0.3),
        (1e-4, "depth", "normals", 0.01, math.nan),
        (1e-4, "depth", "segmentation+normals", -0.08, 0.02),
    ]
    table = pd.DataFrame(rows, columns=["lambda", "task", "partners", "gain", "adjusted_p"])
    return table.assign(setup="rooms", method="group_lasso")


def test_a_forest_has_each_unit_and_the_mean_in_percent() -> None:
    (panel,) = forest_panels([claim()])
    assert panel.title == "Multi-task gains.\nVerdict: holds"
    assert panel.rows["label"].tolist() == ["depth", "normals", OVER_ALL]
    np.testing.assert_allclose(panel.rows[["effect", "low", "high"]], [[1, 0, 2], [3, 2, 4], [2, 1, 3]])
    assert set(panel.rows["margin"]) == {-1}


def test_a_forest_is_drawn_from_the_top_with_bars_from_low_to_high() -> None:
    (panel,) = forest_panels([claim()])
    ax = Figure().add_subplot()
    draw_forest(panel.rows, ax)
    bars = [line for line in ax.lines[1:] if len(np.atleast_1d(line.get_xdata())) == 2]
    np.testing.assert_allclose([np.asarray(bar.get_xdata()) for bar in bars], [[0, 2], [2, 4], [1, 3]])
    np.testing.assert_allclose([np.asarray(bar.get_ydata())[0] for bar in bars], [2, 1, 0])
    assert list(ax.lines[0].get_xdata()) == [-1, -1]


def test_parts_have_a_panel_each_and_the_mean_stands_with_the_one_it_is_of() -> None:
    rise, fall = claim(part="rise"), claim(part="fall", rows=(0.5, 0.7))
    both = replace(rise, data=pd.concat([fall.data, rise.data]))
    panels = forest_panels([both])
    assert [panel.rows["label"].iloc[-1] for panel in panels] == ["normals", OVER_ALL]


def test_one_seed_has_no_bars_and_nothing_tested_has_no_forest() -> None:
    alone = claim(low=math.nan)
    alone.data[["low", "high"]] = math.nan
    drawing = claims_figure([alone])
    assert isinstance(drawing, Drawing)
    assert "One seed per setting, so no intervals" in drawing.caption
    ax = Figure().add_subplot()
    draw_forest(forest_panels([alone])[0].rows, ax)
    assert len(ax.lines) == 1 + 3
    assert isinstance(claims_figure([claim(effect=math.nan)]), str)


def test_the_data_of_the_forest_names_claim_margin_and_verdict() -> None:
    drawing = claims_figure([claim()])
    assert isinstance(drawing, Drawing)
    assert drawing.data["tasks"].tolist() == ["depth", "normals", OVER_ALL]
    assert set(drawing.data["verdict"]) == {"holds"}
    assert drawing.data["effect"].tolist() == [0.01, 0.03, 0.02]


def test_affinity_has_a_row_for_partners_and_a_column_for_each_task() -> None:
    first, second = affinity_panels(affinity())
    assert (first.title, second.title) == ("λ = 0", "λ = 1e-4")
    ax = Figure().add_subplot()
    draw_affinity(second.rows, ax, ["depth", "normals"], ["depth", "normals", "segmentation+normals"], 8)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["depth", "normals"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        *("with depth", "with normals", "with segmentation+normals")
    ]
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    assert cells == {(0.5, 1.5): "+1.0", (0.5, 2.5): "\N{MINUS SIGN}8.0*"}


def test_affinity_is_written_with_its_sign_and_a_star_where_it_is_sure() -> None:
    rows = affinity_panels(affinity())[0].rows
    ax = Figure().add_subplot()
    draw_affinity(rows, ax, ["depth", "normals"], ["depth", "normals", "segmentation+normals"], 8)
    assert [text.get_text() for text in ax.texts] == ["\N{MINUS SIGN}2.0", "+5.0*"]
    red, blue = np.asarray(ax.collections[0].get_facecolor())
    assert red[0] > red[2]
    assert blue[2] > blue[0]


@pytest.mark.parametrize("known", [True, False])
def test_affinity_without_joint_models_says_so(known: bool) -> None:
    figure = affinity_figure(affinity() if known else affinity().head(0), ["segmentation", "depth", "normals"])
    assert isinstance(figure, Drawing) == known

"""Where channels survive and which groups tasks share, on tables with known answers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from analysis.figures.curves import Look
from analysis.figures.drawing import Drawing
from analysis.figures.heat import draw_cells, mark_stages
from analysis.figures.layers import (
    draw_groups,
    draw_survival,
    groups_figure,
    groups_panels,
    survival_figure,
    survival_panels,
)
from analysis.figures.overlap import draw_overlap, overlap_figure, overlap_panels

SETTING = {"setup": "rooms", "method": "group_lasso"}


@pytest.fixture
def marked() -> pd.DataFrame:
    """Dense, and two λ of which the first is the best, of two combinations in an order not alphabetical."""
    rows = [
        {**SETTING, "tasks": tasks, "lambda": strength, "best": strength == 1e-4, "trials": 2}
        for tasks in ("normals", "depth")
        for strength in (0.0, 1e-4, 1e-2)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def survival() -> pd.DataFrame:
    """Three layers in two stages; at 1e-4 a half, a quarter and all of their groups are alive."""
    layers = (("conv1", 0, "conv1", 4), ("layer1.0.conv1", 1, "layer1", 8), ("layer1.0.conv2", 2, "layer1", 16))
    alive = {0.0: (1.0, 1.0, 1.0), 1e-4: (0.5, 0.25, 1.0), 1e-2: (0.0, 0.0, 0.125)}
    rows = [
        {**SETTING, "tasks": tasks, "lambda": strength, "layer": layer, "position": position, "stage": stage}
        | {"groups": groups, "alive_mean": share, "alive_std": 0.0, "seeds": 2}
        for tasks in ("depth", "normals")
        for strength, shares in alive.items()
        for (layer, position, stage, groups), share in zip(layers, shares, strict=True)
    ]
    return pd.DataFrame(rows)


def overlap() -> pd.DataFrame:
    rows = [
        (1e-4, seed, task, other, stage, share, 0.2)
        for seed, share in ((0, 0.4), (1, 0.6))
        for task in ("depth", "normals")
        for other in ("depth+normals", "normals")
        for stage in ("all", "layer1")
    ]
    columns = ["lambda", "seed", "task", "other", "stage", "jaccard", "expected"]
    return pd.DataFrame(rows, columns=columns).assign(**SETTING)


def test_groups_before_and_after_are_those_of_the_best(marked: pd.DataFrame, survival: pd.DataFrame) -> None:
    panels = groups_panels(marked, survival)
    assert [panel.title for panel in panels] == ["normals, λ = 1e-4", "depth, λ = 1e-4"]
    np.testing.assert_array_equal(panels[0].rows[["groups", "left_mean"]], [[4, 2], [8, 2], [16, 16]])
    ax = Figure().add_subplot()
    draw_groups(panels[0].rows, ax)
    assert [bar.get_height() for bar in ax.patches] == [4, 8, 16, 2, 2, 16]


def test_where_the_best_is_dense_the_smallest_strength_is_shown(marked: pd.DataFrame, survival: pd.DataFrame) -> None:
    dense = marked.assign(best=marked["lambda"] == 0)
    assert [panel.title for panel in groups_panels(dense, survival)] == ["normals, λ = 1e-4", "depth, λ = 1e-4"]


def test_survival_has_a_row_a_strength_and_a_column_a_layer(marked: pd.DataFrame, survival: pd.DataFrame) -> None:
    panels = survival_panels(marked, survival.sample(frac=1, random_state=0), "convolution")
    assert [panel.title for panel in panels] == ["normals", "depth"]
    assert panels[0].rows["convolution"].unique().tolist() == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert panels[0].rows["lambda"].tolist() == [0.0, 1e-4, 1e-2] * 3
    np.testing.assert_array_equal(panels[0].rows["alive_percent"], [100, 50, 0, 100, 25, 0, 100, 100, 12.5])
    ax = Figure().add_subplot()
    draw_survival(panels[0].rows, ax, "convolution", written=True)
    assert [text.get_text() for text in ax.texts[3:6]] == ["50", "25", "100"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1e-4", "1e-2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv1", "layer1"]


def test_many_strengths_are_thinned_out_to_those_that_fit(marked: pd.DataFrame, survival: pd.DataFrame) -> None:
    strengths = np.logspace(-6, -2, 40)
    many = pd.concat([survival[survival["lambda"] == 1e-4].assign(**{"lambda": value}) for value in strengths])
    shown = survival_panels(marked, many, "convolution")[0].rows["lambda"].unique()
    assert (len(shown), shown[0], shown[-1]) == (12, strengths[0], strengths[-1])


def test_cells_are_coloured_by_their_value_and_readable() -> None:
    ax = Figure().add_subplot()
    draw_cells(ax, np.array([[0.0, 100.0], [np.nan, 50.0]]), ["a", "b"], (0, 100), "gray", [["0", "100"], ["", "50"]])
    (cells,) = ax.collections
    assert [tuple(color) for color in np.asarray(cells.get_facecolor())[:2]] == [to_rgba("black"), to_rgba("white")]
    assert [path.vertices[0].tolist() for path in cells.get_paths()] == [[0, 0], [1, 0], [1, 1]]  # type: ignore[index]
    assert [sum(to_rgba(text.get_color())[:3]) > 1.5 for text in ax.texts[:2]] == [True, False]


def test_each_stage_is_named_once() -> None:
    ax = Figure().add_subplot()
    mark_stages(ax, ["conv1", *["layer1"] * 9, *["layer2"] * 10])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["", "layer1", "layer2"]
    assert [line.get_xdata()[0] for line in ax.lines] == [1, 10]  # type: ignore[index]


def test_figures_of_layers_hold_their_data(marked: pd.DataFrame, survival: pd.DataFrame) -> None:
    groups, layers = groups_figure(marked, survival), survival_figure(marked, survival, "layers")
    assert isinstance(groups, Drawing)
    assert groups.data["left_mean"].tolist() == [2, 2, 16, 2, 2, 16]
    assert isinstance(layers, Drawing)
    assert layers.data["alive_percent"].sum() == 2 * (300 + 175 + 12.5)


def test_overlap_is_of_joint_models_over_the_whole_backbone() -> None:
    (panel,) = overlap_panels(overlap())
    assert panel.title == "depth+normals"
    assert panel.rows["task"].tolist() == ["depth", "normals"]
    found = panel.rows[["common_percent_mean", "common_percent_std", "expected_percent"]]
    np.testing.assert_allclose(found.iloc[0], [50, 20 / 2**0.5, 20])
    ax = Figure().add_subplot()
    draw_overlap(panel.rows, ax, {"depth": Look("k", "o"), "normals": Look("r", "s")})
    assert {float(np.asarray(line.get_ydata())[0]) for line in ax.lines} == {20, 50}
    drawing = overlap_figure(overlap(), ["depth", "normals"])
    assert isinstance(drawing, Drawing)
    assert drawing.data["expected_percent"].tolist() == [20, 20]

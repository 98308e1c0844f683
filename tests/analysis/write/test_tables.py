"""The tables: numbers by hand, and how they are written."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import text
from analysis.compute.best import find_best, with_best
from analysis.compute.everything import Computed
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.compute.text_table import TextTable
from analysis.read.load import Sweep, load_sweep
from analysis.write.tables import best_table, front_table, results_table, written_results, written_trade_offs
from tests.support.fake_sweep import write_sweep


def prepared(*folders: Path) -> tuple[Sweep, pd.DataFrame]:
    sweep = load_sweeps(folders)
    return sweep, with_best(sweep, with_fronts(sweep, settings_table(sweep)))[0]


def known_answer(folder: Path) -> Path:
    """Depth alone, dense and sparse, three seeds each."""
    results = load_sweep(
        write_sweep(folder / "source", combinations=["depth"], lambdas=[0, 1e-4], seeds=[0, 1, 2])
    ).results
    results["test_depth_mae"] = [0.3, 0.4, 0.5, 0.6, 0.6, 0.6]
    results["group_sparsity"] = [0, 0, 0, 0.6, 0.7, 0.8]
    results["parameter_sparsity"] = [0, 0, 0, 0.9, 0.9, 0.9]
    results["delta_m"] = [0, 0, 0, -0.1, -0.1, -0.1]
    results["test_delta_m"] = [0, 0, 0, -0.2, -0.1, -0.3]
    return write_sweep(folder / "known", combinations=["depth"], lambdas=[0, 1e-4], seeds=[0, 1, 2], results=results)


def test_numbers_with_the_constant_predictor_below(tmp_path: Path) -> None:
    table = results_table(*prepared(known_answer(tmp_path)))
    assert table["tasks"].tolist() == ["depth", "depth", "constant predictor"]
    dense, sparse, constant = (table.iloc[place] for place in range(3))
    assert (dense["test_depth_mae_mean"], dense["test_depth_mae_std"]) == pytest.approx((0.4, 0.1))
    assert (sparse["group_sparsity_mean"], sparse["group_sparsity_std"]) == pytest.approx((0.7, 0.1))
    assert (sparse["test_delta_m_mean"], sparse["test_delta_m_std"]) == pytest.approx((-0.2, 0.1))
    assert constant["test_depth_mae_mean"] == 0.98
    assert (constant["test_normals_cos_mean"], constant["test_segmentation_miou_mean"]) == (0.72, 0.04)
    assert constant.drop(["tasks", "test_depth_mae_mean", "test_segmentation_miou_mean", "test_normals_cos_mean",
                          "test_segmentation_iou_micro_mean"]).isna().all()  # fmt: skip


def test_written_as_the_paper_writes_them(tmp_path: Path) -> None:
    table = written_results(*prepared(known_answer(tmp_path)))
    dense, sparse, constant = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert (dense["λ"], dense["trials"], dense["depth MAE [m] ↓"]) == ("0", "3", "0.400 ± 0.100")
    assert dense["Δm [%] ↑"] == "+0.0 ± 0.0"
    assert (sparse["λ"], sparse["groups gone [%]"], sparse["Δm [%] ↑"]) == ("1e-4", "70.0 ± 10.0", "−20.0 ± 10.0")
    assert (constant["depth MAE [m] ↓"], constant["Δm [%] ↑"], constant["λ"]) == ("0.980", "", "")
    assert table.marked == (True, True, False)


def test_one_seed_has_no_deviation_and_the_note_says_so(storage: Path) -> None:
    table = written_results(*prepared(storage / "first"))
    assert not any("±" in cell for row in table.rows for cell in row)
    assert "a value without ± comes from one trial" in table.note


def test_markdown_has_one_line_a_row_and_the_same_cells(merged: Computed) -> None:
    table = written_results(merged.sweep, merged.marked)
    lines = table.markdown().splitlines()
    cells = [[cell.strip().strip("*") for cell in line.split("|")[1:-1]] for line in lines[: 2 + 15 + 1]]
    assert cells[0] == list(table.header)
    assert cells[2:] == [list(row) for row in table.rows]
    assert lines[-1] == table.note


def test_markdown_escapes_its_own_separator_marks_rows_and_keeps_numbers_as_written() -> None:
    table = TextTable.of({"x": ["a|b", "1e-4"], "y": ["0.500", ""]}, marked=[False, True])
    lines = [line.split() for line in table.markdown().splitlines()]
    assert (lines[2], lines[3]) == (["|", "a\\|b", "|", "0.500", "|"], ["|", "**1e-4**", "|", "|"])


def test_front_table_is_complete_and_survives_csv(merged: Computed) -> None:
    table = front_table(merged.sweep, merged.marked)
    for column in ("tasks", "lambda", "seeds", "objectives", "on_front", "delta_m_mean", "test_delta_m_std",
                   "group_sparsity_std", "parameter_sparsity_mean", "test_depth_mae_mean"):  # fmt: skip
        assert column in table
    assert {"delta_m_all_mean", "test_delta_m_all_std"} <= set(table)
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype={"settings": str}).fillna({"settings": ""})
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_tasks_and_units_it_has_never_heard_of(tmp_path: Path) -> None:
    tasks = {"male": {"kind": "binary", "primary": "male_accuracy"}}
    metrics = {"male_accuracy": {"direction": "maximize", "unit": "%", "label": "accuracy"}}
    sweep, marked = prepared(write_sweep(tmp_path, tasks=tasks, metrics=metrics))
    table = written_results(sweep, marked)
    assert "accuracy [%] ↑" in table.header
    assert table.rows[-1][table.header.index("accuracy [%] ↑")] == "58.0"


def test_several_penalties_get_a_column(storage: Path) -> None:
    table = written_results(*prepared(storage / "first", storage / "l1"))
    assert table.header[:3] == ("tasks", "method", "λ")
    assert [row[1] for row in table.rows if row[0] == "depth+normals"] == ["group_lasso"] * 3 + ["l1"]
    assert table.rows[-1][1] == ""


def test_the_model_to_use_of_each_combination(tmp_path: Path) -> None:
    sweep, marked = prepared(known_answer(tmp_path))
    table = written_trade_offs(marked, find_best(sweep, marked), hypervolume_table(sweep, marked))
    # The sparse one loses far more than 5 %: the dense model it is. The constant predictor's MAE is 0.98, the dense
    # models' are 0.3, 0.4 and 0.5; the sparse one's box is 0.7 · (mean (0.98 - dense) / dense - 0.2).
    box = 0.7 * (np.mean([0.68 / 0.3, 0.58 / 0.4, 0.48 / 0.5]) - 0.2)
    row = ("depth", "0", "0.0 ± 0.0", "+0.0 ± 0.0", "0.0", "depth-0-2", "2 of 2", f"{box:.3g}")
    assert (table.rows, table.header[4]) == ((row,), "loss [%]")
    written = best_table(sweep, marked, find_best(sweep, marked)).iloc[0]
    assert written[["lambda", "seeds", "loss", "trial_id"]].tolist() == [0, 3, 0, "depth-0-2"]
    assert written["model"].endswith("known/trials/depth-0-2/model.pt")


def test_combinations_without_a_model_to_use_are_empty_and_unknown_corners_starred(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "source", combinations=["depth"])).results.assign(group_sparsity=1.0)
    info = {"constant_predictor": {}}
    sweep, marked = prepared(write_sweep(tmp_path / "known", combinations=["depth"], results=results, info=info))
    table = written_trade_offs(marked, find_best(sweep, marked), hypervolume_table(sweep, marked))
    assert len(table.rows) == 1
    assert table.rows[0][-1].endswith("*")
    assert table.rows[0][1:6] == ("", "", "", "", "")
    assert "* An objective for which the constant predictor is not known" in table.note


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (1e-4, "1e-4"), (0.5, "0.5"), (3.1623e-05, "3.16e-5"), (2, "2"), (1e-10, "1e-10")],
)
def test_strength(value: float, written: str) -> None:
    assert text.strength(value) == written


def test_mean_std() -> None:
    assert text.mean_std(0.4123, 0.0126, 3) == "0.412 ± 0.013"
    assert text.mean_std(-0.4, np.nan, 1) == "−0.4"
    assert text.mean_std(-0.04, np.nan, 1) == "0.0"
    assert text.mean_std(np.nan, np.nan, 1) == ""
    assert text.percent(0.021, 0.004, signed=True) == "+2.1 ± 0.4"


def test_costs_stand_next_to_group_sparsity(small: Computed) -> None:
    written = written_results(small.sweep, small.marked)
    place = written.header.index("weights gone [%]")
    assert written.header[place + 1 : place + 3] == ("MACs [% of dense]", "parameters [% of dense]")
    marks = [row[written.header.index("cost front")] for row in written.rows[: len(small.marked)]]
    assert [mark == "●" for mark in marks] == small.marked["on_cost_front"].tolist()
    table = front_table(small.sweep, small.marked)
    names = ["model_macs_mean", "model_macs_share_mean", "model_parameters_share_std", "test_over_dense_mean"]
    assert {*names, "on_cost_front", "strategy", "side"} <= set(table)
    best = best_table(small.sweep, small.marked, small.bests)
    assert {"model_macs", "model_macs_share", "rival_method", "rival_test_delta_m"} <= set(best)

"""The front over all methods: against its definition, and its hypervolume against closed forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.cost_fronts import quality_of
from analysis.compute.everything import Computed
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.read.load import Sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import METRICS, TASKS, results_table, write_sweep

PRIMARY = {task: about["primary"] for task, about in TASKS.items()}
STRENGTHS = [0.0, 1e-5, 1e-4, 1e-3]


def made(folder: Path, macs: list[float], val: list[float], test: list[float], **info: object) -> Sweep:
    """Depth alone, one seed: what each λ costs, and its Δm on both splits."""
    results = results_table(["depth"], STRENGTHS[: len(macs)], [0], PRIMARY, list(METRICS))
    for split, changes in (("val", val), ("test", test)):
        results[f"{split}_depth_mae"] = 0.4 * (1 - np.array(changes))
    results = results.assign(model_macs=macs, delta_m=val, test_delta_m=test)
    about = {"constant_predictor": {"depth_mae": 0.8}} | info
    return load_sweeps([write_sweep(folder, results=results, combinations=["depth"], info=about)])


def marked_of(sweep: Sweep) -> pd.DataFrame:
    return with_fronts(sweep, settings_table(sweep))


def test_it_is_chosen_on_validation_among_all_methods(small: Computed) -> None:
    assert set(small.marked["strategy"]) == {"dense", "group_lasso", "selection", "narrow"}
    for _, rows in small.marked.groupby("tasks"):
        gain, macs = rows["delta_m_mean"].to_numpy(), rows["model_macs_mean"].to_numpy()
        for place, on_front in enumerate(rows["on_cost_front"]):
            beaten = (gain >= gain[place]) & (macs <= macs[place]) & ((gain > gain[place]) | (macs < macs[place]))
            assert on_front == (not beaten.any())
    assert set(small.marked["cost_objectives"]) == {"delta_m+model_macs"}


def test_volume_in_closed_form(tmp_path: Path) -> None:
    # The third is dominated on validation, however good on test. Costs are 1, 1/2, 3/4 and 1/8 of the dense model's.
    sweep = made(tmp_path, [800, 400, 600, 100], [0, -0.1, -0.2, -0.5], [0, -0.05, 0.3, -0.4])
    marked = marked_of(sweep)
    assert marked["on_cost_front"].tolist() == [True, True, False, True]
    row = hypervolume_table(sweep, marked).iloc[0]
    # The constant predictor's MAE is twice the dense model's: its Δm is -1. In halvings of the cost: 1 and 3.
    assert row["cost_reference_value"] == pytest.approx(-1)
    assert row["cost_hypervolume"] == pytest.approx(1 * 0.95 + 2 * 0.6)
    assert (row["cost_reference"], row["cost_reference_model_macs"]) == ("constant predictor", 800)
    assert (row["cost_objectives"], row["points_on_cost_front"]) == ("test_delta_m+model_macs", 3)


def test_a_stronger_penalty_adds_only_what_it_dominates(tmp_path: Path) -> None:
    """The reference point stays: one that is as bad as the constant predictor adds nothing, however cheap."""
    rows = []
    for name, worst in (("without", []), ("with", [-1.0])):
        macs, values = [800.0, 400, *[50.0 for _ in worst]], [0, -0.1, *worst]
        sweep = made(tmp_path / name, macs, values, values)
        rows.append(hypervolume_table(sweep, marked_of(sweep)).iloc[0])
    for column in ("cost_hypervolume", "cost_reference_value", "cost_reference_model_macs"):
        assert rows[0][column] == pytest.approx(rows[1][column])
    assert rows[1]["points_on_cost_front"] == rows[0]["points_on_cost_front"] + 1


def test_without_a_constant_predictor_it_is_the_worst_observed(tmp_path: Path) -> None:
    sweep = made(tmp_path, [800, 400], [0, -0.1], [0, -0.25], constant_predictor={})
    row = hypervolume_table(sweep, marked_of(sweep)).iloc[0]
    assert (row["cost_reference"], row["cost_reference_value"]) == ("worst observed", -0.25)


def test_without_single_task_models_the_dense_model_of_the_same_tasks_is_the_measure(
    small: Computed, tmp_path: Path
) -> None:
    results = small.sweep.results[small.sweep.results["tasks"] == "depth+normals"]
    sweep = load_sweeps([write_sweep_of(small, results, tmp_path)])
    marked = marked_of(sweep)
    assert quality_of(marked) == "over_dense"
    assert set(marked["cost_objectives"]) == {"over_dense+model_macs"}
    row = hypervolume_table(sweep, marked).iloc[0]
    dense = results[(results["lambda"] == 0) & (results["settings"] == "")]
    constants = sweep.constants("test")
    names = ("depth_mae", "normals_mean_angle")
    expected = np.mean([1 - constants[name] / dense[f"test_{name}"] for name in names])
    assert row["cost_reference_value"] == pytest.approx(expected)
    assert row["cost_hypervolume"] > 0


def write_sweep_of(computed: Computed, results: pd.DataFrame, folder: Path) -> Path:
    """The sweep with these results alone and no Δm."""
    (folder / "sweep.json").write_bytes((computed.sweep.folder / "sweep.json").read_bytes())
    drop = [name for name in results if name.endswith("_share") or "over_dense" in name or name in ("method", "setup")]
    results.assign(delta_m=np.nan, test_delta_m=np.nan).drop(columns=drop).to_parquet(folder / "results.parquet")
    return folder


def test_files_without_costs_have_no_such_front(tmp_path: Path) -> None:
    sweep = load_sweeps([write_sweep(tmp_path)])
    marked = marked_of(sweep)
    assert not marked["on_cost_front"].any()
    volumes = hypervolume_table(sweep, marked)
    assert volumes["cost_hypervolume"].isna().all()
    assert volumes["hypervolume"].notna().all()


def test_trials_that_do_not_know_their_cost_are_on_no_such_front(tmp_path: Path) -> None:
    sweep = made(tmp_path, [800, np.nan, 600, 100], [0, 0.5, -0.2, -0.5], [0, 0.5, -0.2, -0.4])
    assert marked_of(sweep)["on_cost_front"].tolist() == [True, False, True, True]


@pytest.mark.parametrize(("macs", "said"), [(0, "is not above 0 in"), (np.inf, "is infinite in"), (-5, "not above 0")])
def test_costs_that_cannot_be_are_refused(tmp_path: Path, macs: float, said: str) -> None:
    with pytest.raises(BadInput, match=f"column model_macs .*{said}"):
        made(tmp_path, [800, macs], [0, 0], [0, 0])

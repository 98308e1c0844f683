"""The model to use: on settings made up so that the answer is plain, and against its definition on random ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import text
from analysis.compute.answer import answer
from analysis.compute.best import TOLERANCE, Best, asked_for, find_best, losses
from analysis.compute.everything import Computed, compute
from analysis.compute.fronts import with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.compute.summary import findings
from analysis.read.load import Sweep, load_sweep
from mtl.vocabulary.objective import COSTS, Objective
from tests.support.fake_sweep import METRICS, TASKS, results_table, write_sweep

PRIMARY = {task: about["primary"] for task, about in TASKS.items()}
LAMBDAS = [0.0, 1e-6, 1e-5, 1e-4, 1e-3]
# Of depth: the dense model has an MAE of 0.4, the constant predictor one of 0.9.
DENSE, CONSTANT = 0.4, 0.9


def made_sweep(folder: Path, mae: list[float], groups: list[float], **info: Any) -> Sweep:
    """A sweep of depth with two seeds, whose λ have these errors on both splits."""
    results = results_table(["depth"], LAMBDAS[: len(mae)], [0, 1], PRIMARY, list(METRICS))
    spread = np.tile([-0.001, 0.001], len(mae))
    for split in ("val", "test"):
        results[f"{split}_depth_mae"] = np.repeat(mae, 2) + spread
    results["group_sparsity"] = np.repeat(groups, 2)
    for column in ("delta_m", "test_delta_m"):
        results[column] = -(np.repeat(mae, 2) - mae[0]) / mae[0]
    about = {"constant_predictor": {"depth_mae": CONSTANT}, "constant_predictor_val": {"depth_mae": CONSTANT}} | info
    return load_sweep(write_sweep(folder, results=results, combinations=["depth"], info=about))


def chosen(sweep: Sweep) -> tuple[Best, pd.DataFrame]:
    marked = with_fronts(sweep, settings_table(sweep))
    (best,) = find_best(sweep, marked)
    return best, marked


@pytest.mark.parametrize(
    ("mae", "groups", "strength", "why"),
    [
        # 5 % of the 0.5 between dense and constant are 0.025.
        ([0.4, 0.41, 0.424, 0.43, 0.5], [0, 0.2, 0.5, 0.7, 0.9], 1e-5, "the cheapest that loses at most 5 %"),
        ([0.4, 0.38, 0.5, 0.6, 0.7], [0, 0.4, 0.5, 0.7, 0.9], 1e-6, "the cheapest that loses at most 5 %"),
        ([0.4, 0.41, 0.405, 0.43, 0.5], [0, 0.5, 0.5, 0.7, 0.9], 1e-5, "the cheapest that loses at most 5 %"),
        # Worse than the constant predictor, however small; or with no channel left, however good.
        ([0.4, 0.91, 0.92, 0.93, 0.95], [0, 0.4, 0.5, 0.7, 0.9], 0.0, "the best in delta_m, as the front has no knee"),
        # No cheaper one is near the dense one.
        ([0.4, 0.45, 0.5, 0.7, 0.89], [0, 0.5, 0.6, 0.8, 0.9], 1e-5, "the knee of the front, as none that is cheaper"),
        ([0.4, 0.4, 0.4, 0.4, 0.9], [0, 0.4, 0.5, 0.7, 1.0], 1e-4, "the cheapest that loses at most 5 %"),
    ],
)
def test_the_cheapest_within_the_tolerance(
    tmp_path: Path, mae: list[float], groups: list[float], strength: float, why: str
) -> None:
    best, marked = chosen(made_sweep(tmp_path, mae, groups))
    assert best.why.startswith(why)
    assert marked.loc[best.row, "lambda"] == strength
    expected = (mae[LAMBDAS.index(strength)] - DENSE) / (CONSTANT - DENSE)
    assert best.loss == pytest.approx(expected)
    assert best.trial_id == f"depth-{strength:g}-0"  # the seed with the smaller error


def test_no_model_is_named_where_none_is_worth_using(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, [1.0, 1.1, 1.2, 1.3, 1.4], [0, 0.4, 0.5, 0.7, 0.9])
    best, _ = chosen(sweep)
    assert best.row is None
    (line,) = [one for one in answer(tmp_path) if "depth" in one and "worth" in one]
    assert line == (
        "No model of depth is worth using: every model is worse than the constant predictor on some task, or has no "
        "channel left."
    )


def test_without_a_dense_model_it_is_the_knee_of_those_that_will_do(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, [0.4, 0.42, 0.44, 0.6, 0.95], [0.1, 0.5, 0.7, 0.8, 0.9])
    results = sweep.results.assign(**{"lambda": sweep.results["lambda"] + 1e-7})
    write_sweep(tmp_path / "again", results=results, combinations=["depth"], info=sweep.info)
    best, marked = chosen(load_sweep(tmp_path / "again"))
    # Of (0.1, 0.4), (0.5, 0.42), (0.7, 0.44) and (0.8, 0.6) the third is farthest above the line of the ends.
    assert marked.loc[best.row, "group_sparsity_mean"] == pytest.approx(0.7)
    assert best.why == "the knee of the front, as no dense model is known to compare with"
    assert np.isnan(best.loss)


@pytest.mark.parametrize(
    ("search", "strength", "why"),
    [
        ({"constraints": ["group_sparsity>=0.6"]}, 1e-4, "the best in delta_m with group_sparsity >= 0.6"),
        ({"constraints": ["delta_m>=-0.3"]}, 1e-3, "the cheapest with delta_m >= -0.3"),
        ({"objectives": ["delta_m"]}, 0.0, "the best in delta_m"),
        ({"objectives": ["delta_m", "group_sparsity"]}, 1e-5, "the cheapest that loses at most 5 %"),
        ({"constraints": ["group_sparsity>=0.95"]}, None, "no model has group_sparsity >= 0.95"),
        ({}, 1e-5, "the cheapest that loses at most 5 %"),
    ],
)
def test_what_a_search_was_asked_for_counts(
    tmp_path: Path, search: dict[str, Any], strength: float | None, why: str
) -> None:
    sweep = made_sweep(tmp_path, [0.4, 0.41, 0.424, 0.43, 0.5], [0, 0.2, 0.5, 0.7, 0.9], search=search)
    best, marked = chosen(sweep)
    assert best.why.startswith(why)
    assert (None if best.row is None else marked.loc[best.row, "lambda"]) == strength


def test_a_model_without_a_channel_is_never_named_however_cheap(tmp_path: Path) -> None:
    search = {"constraints": ["delta_m>=-2"]}
    best, marked = chosen(made_sweep(tmp_path, [0.4, 0.5, 0.6, 0.7, 0.8], [0, 0.2, 0.5, 0.7, 1.0], search=search))
    assert marked.loc[best.row, "lambda"] == 1e-4


def test_the_trial_keeps_the_constraints_itself_where_one_of_the_seeds_does(tmp_path: Path) -> None:
    """The setting's mean keeps the bound; its better seed does not."""
    search = {"constraints": ["group_sparsity>=0.5"]}
    sweep = made_sweep(tmp_path, [0.4, 0.41, 0.42, 0.6, 0.7], [0, 0.2, 0.5, 0.7, 0.9], search=search)
    seed = sweep.results["lambda"] == 1e-5
    results = sweep.results.assign(group_sparsity=sweep.results["group_sparsity"].where(~seed, [0.45, 0.55] * 5))
    write_sweep(tmp_path / "again", results=results, combinations=["depth"], info=sweep.info)
    best, marked = chosen(load_sweep(tmp_path / "again"))
    assert marked.loc[best.row, "lambda"] == 1e-5
    assert best.trial_id == "depth-1e-05-1"


def test_the_loss_is_0_of_the_dense_and_1_of_the_constant_predictor(tmp_path: Path) -> None:
    """Over three tasks, whatever the metrics' units and directions."""
    sweep = load_sweep(write_sweep(tmp_path))
    settings = settings_table(sweep)
    rows = settings[settings["tasks"] == "segmentation+depth+normals"].copy()
    for primary in sweep.tasks.values():
        dense = rows[f"val_{primary}_mean"].iloc[0]
        rows[f"val_{primary}_mean"] = dense + np.array([0, 1, 0.5, 0.5, 2]) * (sweep.constants("val")[primary] - dense)
    assert losses(sweep, settings, rows).tolist() == pytest.approx([0, 1, 0.5, 0.5, 2])


def test_where_the_sweep_has_an_all_zero_model_that_is_what_there_is_to_lose(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, [0.4, 0.41, 0.424, 0.43, 0.6], [0, 0.2, 0.5, 0.7, 1.0])
    settings = settings_table(sweep)
    assert losses(sweep, settings, settings).tolist() == pytest.approx([0, 0.05, 0.12, 0.15, 1])
    best, marked = chosen(sweep)
    assert (marked.loc[best.row, "lambda"], best.loss) == (1e-6, pytest.approx(0.05))


def test_combinations_without_a_dense_model_are_held_against_the_single_task_models(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    joint = (results["tasks"] == "depth+normals") & (results["lambda"] == 0)
    sweep = load_sweep(write_sweep(tmp_path / "rest", results=results[~joint]))
    settings = settings_table(sweep)
    rows = settings[settings["tasks"] == "depth+normals"].iloc[:1]
    single = settings[settings["lambda"] == 0].set_index("tasks")
    gained = to_lose = 0.0
    for task, sign in (("depth", -1), ("normals", 1)):
        primary = sweep.tasks[task]
        reference = single.loc[task, f"val_{primary}_mean"]
        gained += sign * (rows[f"val_{primary}_mean"].iloc[0] - reference) / reference
        to_lose += sign * (sweep.constant_predictor[primary] - reference) / reference
    assert losses(sweep, settings, rows)[0] == pytest.approx(gained / to_lose)


def test_the_first_lines_are_of_the_tasks_asked_for(tmp_path: Path) -> None:
    """Not of the single task that is the easiest."""
    assert asked_for(["depth", "depth+normals", "segmentation+depth"]) == [*("depth+normals", "segmentation+depth")]
    write_sweep(tmp_path)
    lines = answer(tmp_path, "s3://bucket/rooms")
    assert [line.partition(":")[0] for line in lines if line.startswith("Model")] == [
        "Model to use for segmentation+depth+normals"
    ]
    computed = compute(tmp_path)
    best = next(one for one in computed.bests if one.tasks.count("+") == 2)
    assert lines[0].endswith(f"parsimony compact s3://bucket/rooms/trials/{best.trial_id}/model.pt")
    assert best.loss <= TOLERANCE
    assert computed.marked.loc[computed.marked["best"], "tasks"].tolist() == [one.tasks for one in computed.bests]


def test_a_model_that_is_worse_than_the_constant_on_test_says_so(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, [0.4, 0.41, 0.7, 0.8, 0.85], [0, 0.2, 0.5, 0.7, 0.9])
    results = sweep.results.assign(test_depth_mae=0.95)
    write_sweep(tmp_path / "again", results=results, combinations=["depth"], info=sweep.info)
    assert "On the test split it is worse than the constant predictor on depth." in answer(tmp_path / "again")[0]


def costed(folder: Path, search: dict[str, Any] | None = None, **more: list[Any]) -> Sweep:
    """Depth by five ways, two seeds each: dense, the penalty, selection, and narrow ones of a little more and less."""
    whole = made_sweep(folder / "whole", [0.4, 0.43, 0.41, 0.405, 0.415], [0, 0.9, 0.1, 0, 0])
    settings = ["", "", *(f"compressor={name}" for name in ("selection", "narrow", "narrow"))]
    targets = ["", "", " target_macs=0.25", " target_macs=0.5", " target_macs=0.25"]
    columns: dict[str, list[Any]] = {
        "lambda": [0, 1e-3, 0, 0, 0],
        "settings": [first + second for first, second in zip(settings, targets, strict=True)],
        "model_macs": [1000, 700, 240, 480, 250],
        "model_parameters": [100, 60, 30, 40, 20],
    } | more
    results = whole.results.drop(columns=["method", "setup", "sweep"])
    results = results.assign(**{name: np.repeat(np.array(values), 2) for name, values in columns.items()})
    info = {"recipe": whole.info["recipe"] | {"compressors": ["penalty", "selection"], "targets": [0.25]}}
    about = whole.info | info | ({"search": search} if search else {})
    return load_sweeps([write_sweep(folder / "costed", results=results, combinations=["depth"], info=about)])


def test_the_cheapest_is_by_the_whole_models_macs_among_all_methods(tmp_path: Path) -> None:
    """By group sparsity it were the penalty's, with 90 % of the groups and 30 % of the MACs gone."""
    best, marked = chosen(costed(tmp_path))
    assert (marked.loc[best.row, "strategy"], best.why) == ("selection", "the cheapest that loses at most 5 %")
    # Of both narrow ones the better costs twice as much; a twentieth more is no more.
    assert best.rival is not None
    assert marked.loc[best.rival, "settings"] == "compressor=narrow target_macs=0.25"


def test_files_that_do_not_know_all_costs_go_by_group_sparsity(tmp_path: Path) -> None:
    best, marked = chosen(
        costed(tmp_path, group_sparsity=[0, 0.2, 0.1, 0, 0], model_macs=[1000, np.nan, 240, 480, 250])
    )
    assert marked.loc[best.row, "strategy"] == "selection"
    assert best.rival is None
    best, marked = chosen(costed(tmp_path / "b", val_depth_mae=[0.4, 0.41, 0.41, 0.4, 0.4], model_macs=[np.nan] * 5))
    assert marked.loc[best.row, "strategy"] == "group_lasso"


@pytest.mark.parametrize(
    ("search", "settings"),
    [
        ({"constraints": ["model_macs<=500"]}, "compressor=narrow target_macs=0.5"),
        ({"objectives": ["delta_m", "model_parameters"]}, "compressor=narrow target_macs=0.25"),
        ({"constraints": ["delta_m>=-0.02"]}, "compressor=narrow target_macs=0.5"),
    ],
)
def test_costs_of_the_whole_model_in_a_search(tmp_path: Path, search: dict[str, Any], settings: str) -> None:
    sweep = costed(tmp_path, search, delta_m=[0, -0.1, -0.03, -0.01, -0.03])
    named = search.get("objectives", ["delta_m", "group_sparsity"])
    objectives = tuple(Objective(name, "minimize" if name in COSTS else "maximize") for name in named)
    best, marked = chosen(replace(sweep, objectives=objectives))
    assert marked.loc[best.row, "settings"] == settings


def test_beside_an_alternative_stands_the_best_of_ours(tmp_path: Path) -> None:
    best, marked = chosen(costed(tmp_path, model_macs=[1000, 700, 200, 480, 150]))
    assert marked.loc[best.row, "settings"] == "compressor=narrow target_macs=0.25"
    assert best.rival is None
    best, marked = chosen(costed(tmp_path / "b", model_macs=[1000, 700, 155, 480, 150]))
    assert marked.loc[best.rival, "strategy"] == "selection"


def test_the_first_lines_name_costs_and_what_a_user_would_do_instead(tmp_path: Path) -> None:
    folder = costed(tmp_path, test_delta_m=[0, -0.1, -0.02, -0.01, -0.04]).folder
    use, beside, front = answer(folder)
    assert use.startswith(
        "Model to use for depth: selection to 25 % of the MACs: 24 % of the dense model's MACs and 30 % of its "
        "parameters, Δm −2.0 ± 0.0 % against dense single-task models (test split, "
    )
    assert beside == (
        "At no more cost, the best of what a user would do instead is narrow to 25 % of the MACs: 25 % of the dense "
        "model's MACs and 20 % of its parameters, Δm −4.0 ± 0.0 % against dense single-task models."
    )
    assert front.startswith("The front of depth over all methods (")
    assert " runs from 100 % to 24 % of the dense model's MACs; its hypervolume over Δm × log2 MACs is " in front


def test_where_there_is_no_alternative_the_first_lines_say_how_to_get_one(tmp_path: Path) -> None:
    folder = costed(tmp_path, model_macs=[1000, 700, 240, 480, 300]).folder
    assert answer(folder)[1] == (
        "At no more cost, there is nothing here of what a user would do instead, such as a narrower network: "
        "--set compressors=penalty,selection,narrow --set targets=0.25,0.24 adds one."
    )


def test_of_several_tasks_the_dense_model_of_the_same_tasks_is_a_reference_too(small: Computed) -> None:
    rows = small.marked[small.marked["tasks"] == "depth+normals"]
    place = int(rows.index[rows["strategy"] == "selection"][0])
    best = Best("depth+normals", place, "the cheapest", 0.01, str(small.sweep.results["trial_id"].iloc[0]))
    volumes = small.volumes
    line = next(one for one in findings(small.sweep, small.marked, [best], volumes) if one.startswith("Model to use"))
    mean = small.marked.loc[place, "test_over_dense_mean"]
    assert f"{text.percent(mean, signed=True)} ±" in line
    assert "% against the dense model of the same tasks (test split" in line

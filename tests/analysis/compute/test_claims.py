"""Claims on data with a known answer: each verdict, and what is said where data is missing."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.compute.claims import Claim, judge_claims
from analysis.read.load import load_sweep
from analysis.write.claims_tables import claim_data_table, claims_table, written_claims
from tests.support.fake_sweep import METRICS, TASKS, results_table, write_sweep

PRIMARY = {task: about["primary"] for task, about in TASKS.items()}
STRENGTHS = [0.0, 1e-5, 1e-4, 1e-3]
GROUPS = [0.0, 0.3, 0.7, 1.0]
Gain = Callable[[float, int], float]


def made(
    folder: Path,
    gain: Gain,
    *,
    combinations: tuple[str, ...] = ("segmentation+depth",),
    seeds: int = 5,
    l1: Gain | None = None,
) -> dict[str, Claim]:
    """Claims of a sweep whose models are `gain(λ, seed)` better, relatively, than dense ones, in every task.

    Dense models differ between seeds by far more, so that only pairs tell. `l1` adds ℓ1 models with half of that
    parameter sparsity's weights gone.
    """
    results = results_table(list(combinations), STRENGTHS, list(range(seeds)), PRIMARY, list(METRICS))
    frames = [results.assign(family="lasso")]
    if l1 is not None:
        one = results[results["lambda"] > 0]
        frames.append(one.assign(penalty="l1", trial_id="l1-" + one["trial_id"], family="l1"))
    results = pd.concat(frames, ignore_index=True)
    results["group_sparsity"] = [GROUPS[STRENGTHS.index(one)] for one in results["lambda"]]
    results["parameter_sparsity"] = results["group_sparsity"]
    results.loc[results["family"] == "l1", "group_sparsity"] = 0.0
    for split in ("val", "test"):
        for task, primary in PRIMARY.items():
            sign = -1 if METRICS[primary]["direction"] == "minimize" else 1
            there = results["tasks"].map(lambda tasks, task=task: task in tasks.split("+"))
            values = []
            for row in results.to_dict("records"):
                better = (
                    0.0
                    if row["lambda"] == 0
                    else (gain if row["family"] == "lasso" else l1)(row["lambda"], row["seed"])
                )  # type: ignore[misc]
                values.append((1 + 0.2 * row["seed"]) * (1 + sign * better))
            results[f"{split}_{primary}"] = np.where(there, values, np.nan)
    write_sweep(folder, results=results.drop(columns="family"), combinations=list(combinations))
    return {claim.name: claim for claim in judge_claims(load_sweep(folder))}


def noise(seed: int, size: float = 0.002) -> float:
    return size * (seed % 3 - 1)


def curve(rise: float, about_70: float, end: float) -> Gain:
    values = dict(zip(STRENGTHS, (0.0, rise, about_70, end), strict=True))
    return lambda strength, seed: values[strength] + noise(seed)


def test_all_hold(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(0.02, 0.05, -0.2), l1=curve(-0.05, -0.05, -0.2))
    assert {name: claim.verdict for name, claim in claims.items()} == dict.fromkeys(claims, "holds")
    as_good = claims["as_good"]
    gains = [0.05 + noise(seed) for seed in range(5)]
    assert as_good.effect.mean == pytest.approx(np.mean(gains))
    half = 2.776445 * np.std(gains, ddof=1) / math.sqrt(5)
    assert (as_good.effect.low, as_good.effect.high) == pytest.approx((np.mean(gains) - half, np.mean(gains) + half))
    assert as_good.data[["tasks", "lambda", "group_sparsity", "seeds"]].values.tolist() == [
        ["segmentation+depth", 1e-4, 0.7, 5]
    ]
    # Rise 0.05, fall 0.25 of equal certainty: the weaker one speaks. The first seed only chooses.
    assert claims["rises_then_falls"].effect.mean == pytest.approx(np.mean(gains[1:]))
    assert claims["rises_then_falls"].data["part"].tolist() == ["rise", "fall"]
    assert claims["rises_then_falls"].data["effect"].tolist() == pytest.approx([np.mean(gains[1:]), 0.25])
    assert [claim.seeds for claim in claims.values()] == [5] * 4


def test_a_little_worse_is_as_good_but_no_gain(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(-0.006, -0.006, -0.2))
    assert claims["as_good"].verdict == "holds"
    assert claims["gains"].verdict == "does not"
    assert claims["rises_then_falls"].verdict == "does not"


def test_worse_than_the_margin_is_not_as_good(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(-0.03, -0.03, -0.2))
    assert claims["as_good"].verdict == "does not"
    assert claims["as_good"].effect.high < -0.01


def test_performance_that_only_rises_does_not_fall(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(0.01, 0.03, 0.06))
    assert claims["rises_then_falls"].verdict == "does not"
    assert claims["rises_then_falls"].effect.mean == pytest.approx(-0.03)


def test_scattered_seeds_cannot_tell(tmp_path: Path) -> None:
    scattered = {0: 0.2, 1: -0.2, 2: 0.1, 3: -0.15, 4: 0.1}
    claims = made(tmp_path, lambda _, seed: scattered[seed])
    assert claims["as_good"].verdict == claims["gains"].verdict == "cannot tell with these seeds"
    assert claims["as_good"].adjusted_p > 0.05


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_verdict_and_say_so(tmp_path: Path, seeds: int) -> None:
    claims = made(tmp_path, curve(0.02, 0.05, -0.2), seeds=seeds, l1=curve(-0.05, -0.05, -0.2))
    for name, claim in claims.items():
        assert claim.verdict == "cannot tell with these seeds"
        assert math.isnan(claim.adjusted_p)
        if seeds == 1 and name in ("gains", "rises_then_falls"):
            assert claim.why.endswith("for two seeds")
        else:
            assert claim.why.startswith(f"{seeds} seed")
            assert claim.why.endswith("a verdict takes 3 seeds or more")


def test_three_seeds_can_have_one(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(0.02, 0.05, -0.2), seeds=3, l1=curve(-0.05, -0.05, -0.2))
    assert claims["as_good"].verdict == claims["structured"].verdict == "holds"


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("structured", lambda rows: rows, "there are no trials with penalty l1"),
        ("as_good", lambda rows: rows[rows["lambda"] != 1e-4], "no multi-task combination has a λ with 60 to 80 %"),
        ("gains", lambda rows: rows[rows["lambda"] != 0], "no multi-task combination has a sparse and a dense model"),
        ("rises_then_falls", lambda rows: rows[rows["lambda"].isin([0, 1e-4])], "no combination has a dense model"),
    ],
)
def test_missing_data_is_named(tmp_path: Path, name: str, change: Callable[..., Any], says: str) -> None:
    made(tmp_path / "whole", curve(0.02, 0.05, -0.2))
    results = change(load_sweep(tmp_path / "whole").results)
    write_sweep(tmp_path / "less", results=results)
    claim = {one.name: one for one in judge_claims(load_sweep(tmp_path / "less"))}[name]
    assert claim.verdict == "cannot tell with these seeds"
    assert claim.why.startswith(says)
    assert math.isnan(claim.adjusted_p)


def test_lambda_is_chosen_on_validation(tmp_path: Path) -> None:
    made(tmp_path / "whole", curve(0.02, 0.05, -0.2))
    results = load_sweep(tmp_path / "whole").results
    best = results["lambda"] == 1e-5
    results.loc[best, "val_segmentation_miou"] *= 2
    write_sweep(tmp_path / "other", results=results)
    claim = {one.name: one for one in judge_claims(load_sweep(tmp_path / "other"))}["gains"]
    assert claim.data["lambda"].tolist() == [1e-5]
    assert claim.effect.mean == pytest.approx(0.02, abs=1e-3)


def test_single_tasks_are_no_multi_task(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(0.02, 0.05, -0.2), combinations=("depth",))
    assert claims["as_good"].data.empty
    assert claims["gains"].data.empty
    assert claims["rises_then_falls"].verdict == "holds"


def test_structured_is_interpolated_at_the_unstructured_sparsity(tmp_path: Path) -> None:
    made(tmp_path / "whole", curve(0.0, 0.1, 0.0), l1=curve(0.0, 0.0, 0.0), seeds=3)
    results = load_sweep(tmp_path / "whole").results
    l1 = (results["penalty"] == "l1") & (results["lambda"] == 1e-4)
    results = results[(results["penalty"] != "l1") | l1]
    results.loc[l1, "parameter_sparsity"] = 0.85  # half way between 0.7, where structured gains 0.1, and 1, where 0
    write_sweep(tmp_path / "half", results=results)
    claim = {one.name: one for one in judge_claims(load_sweep(tmp_path / "half"))}["structured"]
    gains = [0.05 + noise(seed) for seed in range(3)]
    expected = [(1 + gain) / (1 + noise(seed)) - 1 for seed, gain in enumerate(gains)]
    worse = [-((1 - gain) / (1 - noise(seed)) - 1) for seed, gain in enumerate(gains)]
    assert claim.effect.mean == pytest.approx(np.mean([expected, worse]))
    assert claim.data["penalty"].tolist() == ["l1"]


def test_nothing_is_extrapolated(tmp_path: Path) -> None:
    made(tmp_path / "whole", curve(0.0, 0.1, 0.0), l1=curve(0.0, 0.0, 0.0), seeds=3)
    results = load_sweep(tmp_path / "whole").results
    results = results[(results["penalty"] == "l1") | (results["lambda"] <= 1e-5)]
    write_sweep(tmp_path / "short", results=results)
    claim = {one.name: one for one in judge_claims(load_sweep(tmp_path / "short"))}["structured"]
    assert claim.data.empty
    assert "on both sides" in claim.why


def test_p_values_are_corrected_over_the_claims(tmp_path: Path) -> None:
    claims = made(tmp_path, curve(0.02, 0.05, -0.2))
    tested = [claim for claim in claims.values() if claim.effect.number > 1]
    smallest = min(tested, key=lambda claim: claim.effect.p_value)
    assert smallest.adjusted_p == pytest.approx(3 * smallest.effect.p_value)


def test_tables_of_claims(tmp_path: Path) -> None:
    claims = tuple(made(tmp_path, curve(0.02, 0.05, -0.2)).values())
    table = claims_table(claims)
    assert table["claim"].tolist() == ["as_good", "gains", "rises_then_falls", "structured"]
    assert table["verdict"].tolist() == ["holds", "holds", "holds", "cannot tell with these seeds"]
    assert claim_data_table(claims)["claim"].tolist() == ["as_good", "gains", "rises_then_falls", "rises_then_falls"]
    written = written_claims(claims)
    assert written.marked == (True, True, True, False)
    assert written.rows[0][2] == "+5.0"


def test_what_a_search_trained_with_other_settings_is_no_pair(tmp_path: Path) -> None:
    """A dense model at a bad learning rate is not the dense model, and an ℓ1 model at another rate is an ℓ1 model."""
    claims = made(tmp_path / "own", curve(0.02, 0.05, -0.2), l1=curve(-0.05, -0.05, -0.2))
    results = load_sweep(tmp_path / "own").results.drop(columns=["sweep", "setup", "method"])
    metrics = [column for column in results if column.startswith(("val_", "test_"))]
    others = [results]
    for chosen, worse in ((results["lambda"] == 0, 0.3), (results["penalty"] == "l1", 3.0)):
        odd = results[chosen].assign(settings="lr=1", trial_id="odd-" + results["trial_id"])
        odd[metrics] = odd[metrics] * worse
        others.append(odd.assign(group_sparsity=0.7 * (odd["lambda"] > 0)))
    write_sweep(
        tmp_path / "searched", results=pd.concat(others, ignore_index=True), combinations=["segmentation+depth"]
    )
    for claim in judge_claims(load_sweep(tmp_path / "searched")):
        assert (claim.verdict, claim.effect) == (claims[claim.name].verdict, claims[claim.name].effect)

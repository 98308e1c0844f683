"""What the benchmark of strategies makes of its recording."""

import math

import pandas as pd
import pytest

from benchmarks.strategy_tables import TARGETS, compared, fronts, height, held

LEAST = min(TARGETS)


def rows(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"constant_delta_m": -0.5, **columns})


def test_the_height_of_a_front_is_the_area_under_its_steps() -> None:
    half_way = math.sqrt(LEAST)  # in log cost
    table = rows(cost=[1.0, half_way, LEAST], delta_m=[0.0, -0.1, -0.3])
    assert height(table) == pytest.approx((-0.3 - 0.1) / 2)
    assert height(table[:2]) == pytest.approx((-0.5 - 0.1) / 2), "the constant predictor where nothing is so cheap"
    worse = rows(cost=[1.0, half_way, 0.99 * half_way], delta_m=[0.0, -0.2, -0.1])
    assert height(worse) == pytest.approx((-0.5 - 0.1) / 2, abs=0.01), "what costs less and is better counts"
    assert height(rows(cost=[1.0, LEAST / 2], delta_m=[0.0, -0.3])) == pytest.approx(-0.3)


def test_ours_is_compared_with_the_best_alternative_seed_by_seed() -> None:
    table = rows(
        method=["path", "path", "narrow", "narrow", "random", "random"],
        seed=[0, 1] * 3,
        target_macs=[0.5] * 6,
        delta_m=[0.05, 0.02, 0.01, -0.02, -0.3, 0.1],
    )
    (found,) = compared(table, "path", ["narrow", "random"])
    assert (found["best_alternative"], found["target"]) == ("narrow", 0.5)
    assert (found["gain"], found["half_interval"]) == pytest.approx((0.04, 0.0), abs=1e-12)


def test_fronts_count_the_epochs_of_all_their_trainings() -> None:
    count = len(TARGETS)
    table = rows(
        method=["dense", *["narrow"] * count, *["path"] * count],
        seed=[0] * (1 + 2 * count),
        target_macs=[math.nan, *TARGETS, *TARGETS],
        cost=[1.0, *TARGETS, *TARGETS],
        delta_m=[0.0, *[-0.1] * count, *[-0.2] * count],
        epochs=[16, *[16] * count, *[16 + 4 * (place + 1) for place in range(count)]],
    )
    found = {row["method"]: (row["height"], row["epochs"]) for row in fronts(table)}
    assert found == {"narrow": (pytest.approx(-0.1), 16 * (1 + count)), "path": (pytest.approx(-0.2), 16 + 4 * count)}


def test_a_target_is_held_on_both_sides() -> None:
    table = rows(method=["path"] * 4, target_macs=[0.5, 0.5, 0.5, math.nan], cost=[0.481, 0.519, 0.47, 1.0])
    assert held(table) == [{"method": "path", "held": pytest.approx(2 / 3), "trials": 3}]

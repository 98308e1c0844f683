"""Δm as it becomes known during a run, and the best model so far: the same numbers as in the tables."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import Objective
from search.best_so_far import BestOfSweep, value_in_words
from search.deltas import SHARE, Deltas
from search.store.results import TrialResult
from search.store.tables import results_table
from search.tuning.best_proposal import best_proposal
from search.tuning.proposals import Proposal
from tests.support.made_up_search import result
from tests.support.small import config

PRIMARIES = {
    "segmentation": Metric("segmentation_miou", "mean IoU", "", "maximize"),
    "depth": Metric("depth_mae", "MAE", "m", "minimize"),
}
SETUP = config().setup_id
WAYS: Sequence[dict[str, Any]] = (
    {"strength": 0.0},
    {"strength": 1e-3},
    {"strength": 0.0, "compressor": "narrow", "target_macs": 0.25},
)
COMBINATIONS = (("segmentation", "depth"), ("segmentation",), ("depth",))


def made_up(tasks: tuple[str, ...], way: dict[str, Any], seed: int, **more: Any) -> TrialResult:
    one = config(tasks=tasks, seed=seed, **way, **more)
    numbers = random.Random(one.trial_id)
    metrics = {
        f"{split}_{PRIMARIES[task].name}": numbers.uniform(0.2, 0.9) for split in ("val", "test") for task in tasks
    }
    share = 1.0 if one.dense else 0.25 if one.compressor == "narrow" else 0.6
    return result(one, **metrics, model_macs=1e6 * len(tasks) * share, group_sparsity=0.0)


ALL = [made_up(*parts) for parts in itertools.product(COMBINATIONS, WAYS, (0, 1))]


def table(results: list[TrialResult]) -> pd.DataFrame:
    names = [metric.name for metric in PRIMARIES.values()]
    ways = {one.config.trial_id: "compressor=narrow" for one in results if one.config.compressor == "narrow"}
    return results_table(results, names, PRIMARIES, {"settings": ways}).set_index("trial_id")


@pytest.mark.parametrize("order", range(5))
def test_in_any_order_each_trial_gets_the_tables_numbers_once_they_are_known(order: int) -> None:
    results = list(ALL)
    random.Random(order).shuffle(results)
    deltas, told = Deltas(PRIMARIES, SETUP), dict[str, dict[str, float]]()
    for number, one in enumerate(results, 1):
        told |= {trial: dict(values) for trial, (_, values) in deltas.add(one).items()}
        known = table(results[:number])
        for name in ("delta_m", "test_delta_m"):
            found = {trial: values[name] for trial, values in told.items() if name in values}
            assert found == pytest.approx(known[name].dropna().to_dict(), rel=1e-9)
    assert {round(values[SHARE], 9) for values in told.values()} == {1.0, 0.6, 0.25}
    assert len(told) == len(ALL)
    assert deltas.add(made_up(("depth",), WAYS[1], 7)) != {}  # its share; Δm of seed 7 is never known
    assert not deltas._open.keys() & {one.config.trial_id for one in ALL}, "what is known whole is not looked at again"


def test_a_failed_or_another_dense_model_is_no_reference() -> None:
    deltas = Deltas(PRIMARIES, SETUP)
    dense = made_up(("depth",), WAYS[0], 0)
    other = made_up(("depth",), WAYS[0], 0, lr=1e-4)
    assert deltas.add(result(dense.config, "failed")) == {}
    assert deltas.add(other) == {}
    assert deltas.add(made_up(("depth",), WAYS[1], 0)) == {}
    assert len(deltas.add(dense)) == 3


def test_the_best_of_a_sweep_is_smaller_than_the_dense_model() -> None:
    best = BestOfSweep(Deltas(PRIMARIES, SETUP))
    said = [best.add(one) for one in sorted(ALL, key=lambda one: (len(one.config.tasks), not one.config.dense))]
    assert said[0] == "Δm +0.0 % at 100 % of the MACs"
    known = table(ALL)
    pair = known[(known["tasks"] == "segmentation+depth") & (known["model_macs"] < 2e6)]
    means = pair.groupby("model_macs")["delta_m"].mean()
    words = f"Δm {100 * means.max():+.1f} % at {100 * means.idxmax() / 2e6:.0f} % of the MACs"
    assert said[-1] == words.replace("-", "\N{MINUS SIGN}")
    assert BestOfSweep(Deltas(PRIMARIES, SETUP)).add(ALL[0]) == ""


def proposal(number: int, strength: float, **columns: float) -> Proposal:
    one: TrialConfig = config(strength=strength)
    told = {"told_means": columns} if number % 2 else {"values": {one.trial_id: columns}}
    return Proposal(number, {}, (one,), state="complete", **told)  # type: ignore[arg-type]


def test_the_best_of_a_search_meets_its_constraints() -> None:
    delta, macs = Objective("delta_m", "maximize"), Objective("model_macs", "minimize")
    proposals = [
        proposal(0, 0.0, delta_m=0.02, model_macs=4e6),
        proposal(1, 1e-3, delta_m=-0.01, model_macs=2.5e6),
        proposal(2, 1e-2, delta_m=-0.1, model_macs=1e6),
        proposal(3, 1e-1, delta_m=math.nan, model_macs=1e3),
    ]
    minus = "\N{MINUS SIGN}"
    assert best_proposal(proposals, (delta, macs)) == f"Δm {minus}1.0 % at 2.5 M MACs"
    assert best_proposal(proposals, (delta,)) == "Δm +2.0 %"
    assert best_proposal(proposals, (macs,)) == "1 k MACs"
    small = Constraint("model_macs", "<=", 2e6)
    assert best_proposal(proposals, (delta, macs), (small,)) == f"Δm {minus}10.0 % at 1 M MACs"
    assert best_proposal(proposals[:1], (delta, macs)) == "Δm +2.0 % at 4 M MACs"
    assert best_proposal(proposals[:1], (delta, macs), (small,)) == best_proposal([], (delta,)) == ""


def test_values_as_people_say_them() -> None:
    assert value_in_words("group_sparsity", 0.613) == "61 % of groups zero"
    assert value_in_words("val_depth_mae", 0.41234) == "depth_mae 0.4123"
    assert [value_in_words("macs", value) for value in (0, 12, 3.14e6, 4e9)] == [
        "0 MACs",
        "12 MACs",
        "3.14 M MACs",
        "4 G MACs",
    ]
    assert value_in_words("delta_m", -0.00001) == "Δm +0.0 %"

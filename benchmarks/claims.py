"""How often a claim of the analysis is found where there is nothing, and where there is: `python -m benchmarks.claims`.

Simulated models, no training. A model's gain on the dense model of its seed is its own luck less the dense model's,
each normal with a standard deviation of 1 %; luck shows on validation and on test with a correlation of 0.9, as was
measured on `rooms`. A claim should be found in at most 2.5 % of sweeps without an effect (5 % two-sided).

The first table compares ways to choose the best λ and to test its gain: on the same models, leaving each seed out, and
forward, which the analysis does (`analysis.compute.choice`); without an effect, and with gains that are a bump over λ
whose top is +3 %. "unequal": the standard deviation grows to three times along λ. "t3": luck has Student's t
distribution with three degrees of freedom.

The second runs all that the analysis does (`analysis.compute.claims.judge_claims`) on whole made-up sweeps of three
combinations and six λ, each claim where it is just not true, and where it is true by 2 %. Corrected for four claims
(Holm).
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.compute.choice import forward_choice
from analysis.compute.claims import NON_INFERIORITY_MARGIN, judge_claims
from analysis.read.load import Sweep
from mtl.vocabulary.delta_m import NO_RETRAINING
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import Objective

LUCK, CORRELATION, TOP = 0.01, 0.9, 0.03
NOMINAL = 0.025
SEEDS, STRENGTHS = (3, 4, 5, 7, 10), (3, 6, 12)
TASKS = ("a", "b", "c")
COMBINATIONS = ("a+b", "a+c", "b+c")
Gains = NDArray[np.float64]
Row = dict[str, Any]


def splits(random: np.random.Generator, luck: Gains, gain: Gains) -> tuple[Gains, Gains]:
    """What a luck and a true gain show on validation and on test, (seeds, λ) each."""
    own = luck.std() * random.normal(size=(2, *luck.shape))
    val, test = math.sqrt(CORRELATION) * luck + math.sqrt(1 - CORRELATION) * own + gain
    return val, test


def simulate(random: np.random.Generator, seeds: int, gain: Gains, world: str) -> tuple[Gains, Gains]:
    """Gains on validation and test, (seeds, λ)."""
    size = (seeds, len(gain))
    if world == "t3":
        models, dense = random.standard_t(3, size=size), random.standard_t(3, size=(seeds, 1))
    else:
        models, dense = random.normal(size=size), random.normal(size=(seeds, 1))
    if world == "unequal":
        models = models * np.linspace(1, 3, len(gain))
    return splits(random, LUCK * (models - dense), gain)


def same_models(val: Gains, test: Gains) -> Gains:
    return test[:, val.mean(axis=0).argmax()]


def leave_one_out(val: Gains, test: Gains) -> Gains:
    others = val.sum(axis=0) - val
    return test[np.arange(len(test)), others.argmax(axis=1)]


def forward(val: Gains, test: Gains) -> Gains:
    choice = forward_choice(val, test)
    assert choice is not None
    return choice.measured


WAYS: dict[str, Callable[[Gains, Gains], Gains]] = {
    "same models": same_models,
    "leave one out": leave_one_out,
    "forward": forward,
}


def rates_of_ways(repetitions: int) -> Iterator[Row]:
    """One row a world, number of seeds and of λ: the share of sweeps in which each way finds a gain."""
    for world in ("normal", "unequal", "t3"):
        for seeds in SEEDS:
            for count in STRENGTHS:
                bump = TOP * np.exp(-(((np.arange(count) - count / 3) / (count / 4)) ** 2))
                for effect, gain in (("none", np.zeros(count)), ("bump", bump)):
                    random = np.random.default_rng([seeds, count])
                    tables = [simulate(random, seeds, gain, world) for _ in range(repetitions)]
                    values = {name: np.array([way(*pair) for pair in tables]) for name, way in WAYS.items()}
                    tests = {
                        name: stats.ttest_1samp(some, 0, axis=1, alternative="greater").pvalue < NOMINAL
                        for name, some in values.items()
                    }
                    about = {"world": world, "seeds": seeds, "lambdas": count, "effect": effect}
                    yield about | {name: float(test.mean()) for name, test in tests.items()}


def made_up_sweep(random: np.random.Generator, seeds: int, gain: Gains, l1_gain: Gains) -> Sweep:
    """All that `judge_claims` reads of a sweep; `gain` and `l1_gain` (λ,) are those of the two penalties."""
    count = len(gain)
    strengths = 10.0 ** np.arange(count)
    groups = np.linspace(0.2, 0.9, count)
    rows = []
    for tasks in COMBINATIONS:
        for seed in range(seeds):
            models = [("group_lasso", 0.0, 0.0, 0.0)]
            models += [("group_lasso", *one) for one in zip(strengths, groups, gain, strict=True)]
            models += [("l1", *one) for one in zip(strengths, groups, l1_gain, strict=True)]
            for penalty, strength, gone, better in models:
                val, test = splits(random, LUCK * random.normal(size=1), np.array([better]))
                gone = float(np.clip(gone + 0.01 * random.normal(), 0, 1)) if strength else 0.0
                row = {"tasks": tasks, "penalty": penalty, "lambda": strength, "seed": float(seed)}
                row |= {f"val_{task}": 1 + val[0] for task in tasks.split("+")}
                row |= {f"test_{task}": 1 + test[0] for task in tasks.split("+")}
                gone_groups = 0.0 if penalty == "l1" else gone
                rows.append(row | {"group_sparsity": gone_groups, "parameter_sparsity": gone})
    table = pd.DataFrame(rows).assign(status="done", setup="made up", delta_m=0.0, test_delta_m=0.0)
    table = table.assign(method=table["penalty"], retraining=NO_RETRAINING, settings="")
    metrics = {task: Metric(task, task, "", "maximize") for task in TASKS}
    tasks = {task: task for task in TASKS}
    return Sweep(Path(), {}, tasks, metrics, (Objective("group_sparsity", "maximize"),), table, None)


def worlds(count: int, effect: float) -> dict[str, tuple[Gains, Gains, str]]:
    """For each claim gains at which it is true by `effect`, those of ℓ1, and the claim's name; 0: just not true."""
    none = np.zeros(count)
    end = np.where(np.arange(count) == count - 1, -0.1, 0.0)
    return {
        "as_good": (none - NON_INFERIORITY_MARGIN + effect, none, "as_good"),
        "gains": (none + effect, none, "gains"),
        "rises_then_falls, no rise": (end + effect, none, "rises_then_falls"),
        "rises_then_falls, no fall": (none + 0.05 - effect * (end < 0), none, "rises_then_falls"),
        "structured": (none + effect, none, "structured"),
    }


def rates_of_claims(repetitions: int, count: int = 6) -> Iterator[Row]:
    """One row a claim and number of seeds: the share of sweeps in which it holds."""
    for seeds in (3, 5):
        for name in worlds(count, 0.0):
            row: Row = {"claim": name, "seeds": seeds}
            # A power need not be known as well as a false rate.
            for label, effect, number in (
                ("just not true", 0.0, repetitions),
                ("true by 2 %", 0.02, max(1, repetitions // 4)),
            ):
                gain, l1_gain, claim = worlds(count, effect)[name]
                random = np.random.default_rng(seeds)
                holds = 0
                for _ in range(number):
                    claims = judge_claims(made_up_sweep(random, seeds, gain, l1_gain))
                    holds += {one.name: one.verdict for one in claims}[claim] == "holds"
                row[label] = holds / number
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=4000, help="of each row of the first table (default 4000)")
    parser.add_argument("--sweeps", type=int, default=200, help="of each row of the second (default 200)")
    options = parser.parse_args()
    found: dict[str, list[Row]] = {"ways": [], "claims": []}
    for name, rates, repetitions in (
        ("ways", rates_of_ways, options.repetitions),
        ("claims", rates_of_claims, options.sweeps),
    ):
        for row in rates(repetitions):
            found[name].append(row)
            print(row, file=sys.stderr)
        if not options.json:
            error = 1.96 * math.sqrt(NOMINAL * (1 - NOMINAL) / repetitions)
            print(pd.DataFrame(found[name]).to_string(index=False, float_format=lambda rate: f"{100 * rate:.1f} %"))
            print(f"a rate of {100 * NOMINAL:g} % is known to ± {100 * error:.1f} points\n", flush=True)
    if options.json:
        print(json.dumps(vars(options) | found, indent=1))


if __name__ == "__main__":
    main()

"""The four claims of arXiv 2308.12114, tested: effect, interval, verdict.

The unit of replication is the seed. A model is compared with another of the same seed, by the relative change of its
tasks' primary metrics on the test split (the paper's tasks differ in scale). The best λ is chosen for each seed on the
validation split of the seeds before it (see `choice`): a lucky model does well on both splits, so no seed may have a
part in the choice that it is measured by. A claim's effect is the mean over seeds of the mean over task combinations,
with Student's 95 % interval; p-values are two-sided and Holm-corrected over the claims. A claim

- holds where its effect lies significantly (5 %) above `margin`,
- does not where it lies significantly below,
- cannot be told otherwise, nor from fewer than `FEWEST_SEEDS` seeds.

`python -m benchmarks.claims` measures how often each is found without any effect, and with one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import text
from analysis.compute.choice import forward_choice
from analysis.compute.intervals import Interval, holm, t_interval
from analysis.compute.paired import row_gains
from analysis.compute.settings import seed_means
from analysis.read.load import Sweep
from mtl.vocabulary.delta_m import is_own

Verdict = Literal["holds", "does not", "cannot tell with these seeds"]
CANNOT_TELL: Verdict = "cannot tell with these seeds"
SIGNIFICANCE = 0.05
# Of two seeds Student's interval is 18 times as wide as their difference from the mean: no verdict is worth its name.
FEWEST_SEEDS = 3
# "As good as" is non-inferiority: at most this much of a metric, relatively, may be lost. The paper's dense depth model
# deviates that much between seeds: 0.0016 of 0.1645.
NON_INFERIORITY_MARGIN = 0.01
# "About 70 %": at λ = 1e-5 the paper's multi-task models have 63 to 77 % of their groups gone, all but one of 88.6 %.
ABOUT_70 = (0.6, 0.8)
# Below this share of groups a model is dense but for a few channels.
SPARSE = 0.01
# With less parameter sparsity, structure can hardly matter; near 1, nothing is left to compare.
COMPARED_PARAMETER_SPARSITY = (0.5, 0.95)
CHOSEN = "λ is chosen for each seed on the validation split of the seeds before it; the first seed only chooses."
STRUCTURED, UNSTRUCTURED = "group_lasso", "l1"
DATA_COLUMNS = [
    *("setup", "tasks", "penalty", "part", "lambda", "group_sparsity", "parameter_sparsity"),
    *("effect", "low", "high", "p_value", "adjusted_p", "seeds"),
]


@dataclass(frozen=True)
class Claim:
    """One claim, what was found, and what follows.

    Attributes:
        name: for file names and anchors: as_good, gains, rises_then_falls, structured.
        statement: in words.
        how: what was compared with what, and what the effect is.
        data: what is behind it, one row per unit (setup, tasks, penalty): `part` (of claims with two), `lambda`,
            `group_sparsity` and `parameter_sparsity` (means) of the model whose gain it is (where λ is chosen: of the
            one that all seeds together choose), `effect`, `low`, `high`, `p_value`, `adjusted_p` (Holm, over the rows),
            `seeds`, those that only chose included.
        effect: over all units, the mean over seeds, a fraction (0.01 is one per cent better), with its 95 % interval.
        seeds: how many seeds took part; where λ is chosen the first one only chooses.
        margin: what `effect` is tested against: it must lie above.
        adjusted_p: `effect.p_value` by Holm over the claims; NaN where it could not be tested.
        verdict: holds, does not, or cannot tell.
        why: one sentence: what decided, or what is missing.
    """

    name: str
    statement: str
    how: str
    data: pd.DataFrame
    effect: Interval
    seeds: int
    margin: float
    adjusted_p: float
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class _Unit:
    """The seeds' means of one setup, combination and penalty, and the dense models they are compared with."""

    setup: str
    tasks: str
    penalty: str
    sparse: pd.DataFrame  # one row per λ > 0 and seed
    dense: pd.DataFrame  # one row per seed, λ = 0

    @property
    def shares(self) -> "pd.Series[float]":
        """The mean share of groups gone, by λ."""
        return self.sparse.groupby("lambda")["group_sparsity"].mean()

    def gains(self, sweep: Sweep, split: str) -> pd.DataFrame:
        """(seeds, λ > 0) gains on the dense model of the same seed; NaN where there is no number."""
        gains = row_gains(sweep, sweep.tasks_of(self.tasks), self.sparse, self.dense, split, ["seed"])
        return self.sparse.assign(gain=gains).pivot_table("gain", "seed", "lambda", dropna=False)


@dataclass(frozen=True)
class _Finding:
    """The gains by seed of one unit at one λ; `seeds` took part, `part` is "" unless the claim has two parts."""

    unit: _Unit
    strength: float
    gains: pd.Series
    seeds: frozenset[float]
    part: str = ""

    def row(self, margin: float) -> dict[str, Any]:
        """The finding as a row of `Claim.data`."""
        unit, interval = self.unit, t_interval(self.gains.to_numpy(), null=margin)
        about = {"setup": unit.setup, "tasks": unit.tasks, "penalty": unit.penalty, "part": self.part}
        shares = unit.sparse.loc[
            unit.sparse["lambda"] == self.strength, ["group_sparsity", "parameter_sparsity"]
        ].mean()
        effect = {"effect": interval.mean, "low": interval.low, "high": interval.high, "p_value": interval.p_value}
        row: dict[Any, Any] = about | {"lambda": self.strength, "seeds": len(self.seeds)} | effect
        return row | shares.to_dict()


def judge_claims(sweep: Sweep) -> tuple[Claim, ...]:
    """The four claims, in the paper's order; a claim for which the sweep has no data says so."""
    # The paper retrains nothing, and a model trained with other settings cannot be paired with one that has the
    # recipe's own.
    rows = seed_means(sweep)
    rows = rows[is_own(rows)]
    units = list(_units(rows))
    claims = (_as_good(sweep, units), _gains(sweep, units), _rises_then_falls(sweep, units), _structured(sweep, rows))
    # A claim that cannot get a verdict takes no part in the correction.
    adjusted = holm([claim.effect.p_value if claim.seeds >= FEWEST_SEEDS else math.nan for claim in claims])
    return tuple(_judged(claim, p) for claim, p in zip(claims, adjusted, strict=True))


def _units(rows: pd.DataFrame) -> Iterator[_Unit]:
    """Only of structured penalties: an ℓ1 model has no groups gone."""
    dense = rows[rows["lambda"] == 0]
    sparse = rows[(rows["lambda"] > 0) & (rows["penalty"] != UNSTRUCTURED)]
    for (setup, tasks, penalty), some in sparse.groupby(["setup", "tasks", "penalty"], sort=False):
        # At λ = 0 there is no penalty, so a dense model serves all of them.
        same = (dense["setup"] == setup) & (dense["tasks"] == tasks)
        yield _Unit(str(setup), str(tasks), str(penalty), some, dense[same])


def _as_good(sweep: Sweep, units: list[_Unit]) -> Claim:
    findings = []
    for unit in (unit for unit in units if "+" in unit.tasks):
        about = unit.shares[unit.shares.between(*ABOUT_70)]
        if len(about):
            strength = float(about.index[int((about - 0.7).abs().argmin())])
            gains = unit.gains(sweep, "test")[strength].dropna()
            findings.append(_Finding(unit, strength, gains, frozenset(gains.index)))
    low, high = (f"{100 * share:.0f}" for share in ABOUT_70)
    return _claim(
        "as_good",
        "Sparse multi-task at about 70 % is as good as or better than dense.",
        f"Each multi-task combination at the λ whose mean group sparsity is nearest 70 % (from {low} to {high} %), "
        "against the dense (λ = 0) model of the same combination and seed: mean relative change of the tasks' primary "
        f"metrics, test split. As good as: not more than {100 * NON_INFERIORITY_MARGIN:g} % worse.",
        findings,
        -NON_INFERIORITY_MARGIN,
        f"no multi-task combination has a λ with {low} to {high} % of its groups gone and a dense model of the same "
        "seed",
    )


def _gains(sweep: Sweep, units: list[_Unit]) -> Claim:
    findings = []
    for unit in (unit for unit in units if "+" in unit.tasks):
        candidates = unit.shares.index[unit.shares >= SPARSE].tolist()
        if chosen := _chosen(unit.gains(sweep, "val")[candidates], unit.gains(sweep, "test")[candidates]):
            findings.append(_Finding(unit, *chosen))
    return _claim(
        "gains",
        "Multi-task gains from sparsity.",
        f"Each multi-task combination at the λ > 0 that is best on validation, of those with at least "
        f"{100 * SPARSE:g} % of the groups gone, against the dense model of the same combination and seed: mean "
        f"relative change of the tasks' primary metrics, test split. {CHOSEN}",
        findings,
        0.0,
        "no multi-task combination has a sparse and a dense model of the same seed, for two seeds",
    )


def _rises_then_falls(sweep: Sweep, units: list[_Unit]) -> Claim:
    findings = []
    for unit in units:
        val, test = unit.gains(sweep, "val"), unit.gains(sweep, "test")
        if chosen := _chosen(val.iloc[:, :-1], test.iloc[:, :-1]):
            strength, rise, seeds = chosen
            findings.append(_Finding(unit, strength, rise, seeds, "rise"))
            findings.append(_Finding(unit, strength, (rise - test.iloc[:, -1]).dropna(), seeds, "fall"))
    return _claim(
        "rises_then_falls",
        "Performance rises, then falls with λ.",
        "Each combination at the λ between 0 and the largest that is best on validation: what it gains on the dense "
        "model of the same seed (rise), and what the largest λ has lost of that (fall), as mean relative changes "
        "against the dense model, test split. Both must be positive: the effect is the one with the weaker evidence. "
        f"{CHOSEN}",
        findings,
        0.0,
        "no combination has a dense model and two λ > 0 of the same seed, for two seeds",
    )


def _structured(sweep: Sweep, rows: pd.DataFrame) -> Claim:
    findings = []
    for (setup, tasks), some in rows.groupby(["setup", "tasks"], sort=False):
        lasso = some[(some["penalty"] == STRUCTURED) | (some["lambda"] == 0)]
        single = some[(some["penalty"] == UNSTRUCTURED) & (some["lambda"] > 0)]
        unit = _Unit(str(setup), str(tasks), UNSTRUCTURED, single, lasso)
        for strength, unstructured in single.groupby("lambda"):
            if (
                COMPARED_PARAMETER_SPARSITY[0]
                <= unstructured["parameter_sparsity"].mean()
                <= COMPARED_PARAMETER_SPARSITY[1]
            ):
                matched = _at_equal_sparsity(sweep, unit.tasks, lasso, unstructured)
                gains = row_gains(sweep, sweep.tasks_of(unit.tasks), matched, unstructured, "test", ["seed"])
                gains = gains.groupby(matched["seed"]).mean().dropna()
                findings.append(_Finding(unit, float(str(strength)), gains, frozenset(gains.index)))
    low, high = (f"{100 * share:.0f}" for share in COMPARED_PARAMETER_SPARSITY)
    missing = (
        "there are no trials with penalty l1: add a sweep of the same recipe with --set penalty=l1"
        if (rows["penalty"] != UNSTRUCTURED).all()
        else f"no group-lasso trials of the same seed lie on both sides of an ℓ1 trial with {low} to {high} % of its "
        "weights gone"
    )
    return _claim(
        "structured",
        "Structured beats unstructured at equal parameter sparsity.",
        f"Each ℓ1 setting with {low} to {high} % of its weights gone, against the group lasso of the same combination "
        "and seed at the same parameter sparsity, linearly interpolated between the two nearest λ: mean relative "
        "change of the tasks' primary metrics from ℓ1 to group lasso, test split. λ is that of the ℓ1 models.",
        findings,
        0.0,
        missing,
    )


def _at_equal_sparsity(sweep: Sweep, tasks: str, lasso: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """One row per seed: the structured models' test metrics at `wanted`'s parameter sparsity, NaN out of range."""
    columns = [f"test_{sweep.tasks[task]}" for task in sweep.tasks_of(tasks)]
    rows = []
    for seed, sparsity in wanted.groupby("seed")["parameter_sparsity"].mean().items():
        curve = lasso[lasso["seed"] == seed].groupby("parameter_sparsity")[columns].mean()
        if len(curve) < 2:
            continue
        known = curve.index.to_numpy(dtype=float)
        values = {
            column: np.interp(sparsity, known, curve[column].to_numpy(dtype=float), left=math.nan, right=math.nan)
            for column in columns
        }
        rows.append({"seed": seed} | values)
    return pd.DataFrame(rows, columns=["seed", *columns])


def _chosen(val: pd.DataFrame, test: pd.DataFrame) -> tuple[float, pd.Series, frozenset[float]] | None:
    """By `forward_choice`, over (seeds, λ) gains: the λ that all seeds choose; the gains by seed, each at the λ that
    earlier seeds choose; and who took part. None where nothing could be measured."""
    val, test = val.align(test, join="outer")  # sorted by seed
    choice = forward_choice(val.to_numpy(dtype=float), test.to_numpy(dtype=float))
    if choice is None:
        return None
    gains = pd.Series(choice.measured, index=test.index[choice.rows])
    return float(test.columns[choice.final]), gains, frozenset(test.index[choice.seeds])


def _claim(name: str, statement: str, how: str, findings: list[_Finding], margin: float, missing: str) -> Claim:
    """The claim as the findings have it, not yet judged beside the others."""
    findings = [finding for finding in findings if len(finding.gains)]
    data = pd.DataFrame([finding.row(margin) for finding in findings], columns=DATA_COLUMNS)
    data["adjusted_p"] = holm(data["p_value"].tolist())
    parts = {
        # The mean over units of each seed, then over seeds.
        part: t_interval(
            pd.concat([one.gains for one in findings if one.part == part], axis=1).mean(axis=1), null=margin
        )
        for part in dict.fromkeys(one.part for one in findings)
    }
    if not parts:
        nothing = Interval(math.nan, math.nan, math.nan, math.nan, margin, 0)
        return Claim(name, statement, how, data, nothing, 0, margin, math.nan, CANNOT_TELL, missing)
    weaker = min(parts, key=lambda part: _evidence(parts[part]))
    seeds = frozenset[float]().union(*(one.seeds for one in findings if one.part == weaker))
    return Claim(name, statement, how, data, parts[weaker], len(seeds), margin, math.nan, CANNOT_TELL, "")


def _evidence(effect: Interval) -> float:
    """Larger where the effect lies more surely above its null: the distance in half widths of its interval."""
    distance, half = effect.mean - effect.null, effect.high - effect.mean
    if math.isnan(half):
        return distance
    return distance / half if half > 0 else math.copysign(math.inf, distance) if distance else 0.0


def _judged(claim: Claim, adjusted_p: float) -> Claim:
    effect = claim.effect
    if effect.number == 0:
        return claim
    if claim.seeds < FEWEST_SEEDS:
        seeds = text.count(claim.seeds, "seed")
        return replace(
            claim, why=f"{seeds}: the effect is {_percent(effect.mean)}; a verdict takes {FEWEST_SEEDS} seeds or more"
        )
    measured = (
        f"effect {_percent(effect.mean)}, 95 % interval {_percent(effect.low)} to {_percent(effect.high)}, "
        f"{claim.seeds} seeds, Holm-corrected p = {adjusted_p:.2g} against {_percent(claim.margin)}"
    )
    verdict = CANNOT_TELL
    if adjusted_p <= SIGNIFICANCE:
        verdict = "holds" if effect.mean > claim.margin else "does not"
    return replace(claim, adjusted_p=adjusted_p, verdict=verdict, why=measured)


def _percent(value: float) -> str:
    return f"{text.percent(value, signed=True)} %"

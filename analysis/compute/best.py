"""Which model to use: the one definition for a search's answer and for the report, its tables and its figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.costs import known
from analysis.compute.fronts import directions, means, objectives_of
from analysis.compute.knee import knee_point
from analysis.compute.settings import KEYS
from analysis.read.load import Sweep
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.delta_m import is_own, relative_change
from mtl.vocabulary.objective import COSTS, MODEL_MACS, SIZES, SPARSITIES, Objective

TOLERANCE = 0.05
LITTLE = f"{100 * TOLERANCE:.0f} %"
NO_MORE = 1.05  # times the cost of a model: of two made for one target neither meets it to the last percent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The model to use for one combination of tasks.

    Attributes:
        tasks: the combination.
        row: the index of its setting; None where no setting will do.
        why: how it was chosen, or why there is none: the end of a sentence.
        loss: the share of the possible loss that it has, see `losses`; NaN where that is not known.
        trial_id: of its seeds, the trial that is best on the validation split.
        rival: the index of the setting that reaches most, on validation, of those that cost no more (see `NO_MORE`) and
            are of the other side: alternatives beside a model of ours, ours beside an alternative (see
            `costs.sides`). None where there is none, or the model is the dense one, or its whole cost is not known.
    """

    tasks: str
    row: int | None
    why: str
    loss: float = math.nan
    trial_id: str = ""
    rival: int | None = None


def find_best(sweep: Sweep, settings: pd.DataFrame) -> list[Best]:
    """The best setting of each combination, chosen on the validation split, in the settings' order.

    A setting will do if no task is worse than the constant predictor's, not every group is gone, and the constraints
    of the search are kept. Among those that will do it is

    - the best in the first objective that is no cost, where a constraint bounds a cost, or it is the only objective of
      the search;
    - else the cheapest, where a constraint bounds anything else;
    - else the cheapest that costs less than the dense model and has a loss of at most `TOLERANCE` (see `losses`);
    - else the knee of the front, or the best in the first objective that is no cost where the front has no knee.

    It is chosen among all methods. The cost is the first of the objectives that is one; else the multiply-accumulates
    of the whole compacted model, as group sparsity says nothing of heads and of narrower networks; where some trials do
    not know these, the first sparsity among the objectives, or group sparsity.

    Args:
        sweep: with its `tasks`, constant predictor, results and search.
        settings: of `analysis.compute.settings.settings_table`; its index is kept.
    """
    return [_best(sweep, settings, str(tasks), rows) for tasks, rows in settings.groupby("tasks", sort=False)]


def with_best(sweep: Sweep, marked: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Best, ...]]:
    """The settings with `best`, at most one of a combination; and the bests."""
    bests = tuple(find_best(sweep, marked))
    return marked.assign(best=marked.index.isin([one.row for one in bests])), bests


def trials_to_use(sweep: Sweep, settings: pd.DataFrame) -> "pd.Series[str]":
    """Of each setting the trial to use: of its seeds, the best on the validation split."""
    found = pd.Series("", settings.index, dtype=object)
    for _, rows in settings.groupby("tasks", sort=False):
        quality = _quality(objectives_of(sweep, rows))
        for place in rows.index:
            found[place] = _trial(sweep, settings, place, _bounds(sweep), quality)
    return found


def asked_for(tasks: Sequence[str]) -> list[str]:
    """The combinations with the most tasks: those that the sweep was made for, or nearest to it."""
    most = max((one.count("+") for one in tasks), default=0)
    return [one for one in dict.fromkeys(tasks) if one.count("+") == most]


def losses(sweep: Sweep, settings: pd.DataFrame, rows: pd.DataFrame) -> Floats:
    """(rows,) the share of the possible loss that each setting or trial has: 0 as good as dense, 1 as bad as blind.

        loss = Σ_t s_t (m_t - d_t) / |d_t|  /  Σ_t s_t (c_t - d_t) / |d_t|

    with m_t the primary metric of task t on the validation split, d_t the dense model's and c_t that of a model that
    sees nothing of the image; s_t = 1 where more is better, else -1. The dense model is that of the same tasks and
    setup with the recipe's own settings, or where there is none the dense single-task models. The blind one is the mean
    of the models of the same tasks and setup whose every group is gone, or where there is none the constant predictor:
    heads know where in the image they are by its padded borders, so an all-zero model is a little better. Less than
    0 is better than dense. NaN where a number is not known, or the dense model is no better than the blind one.

    Args:
        settings: all settings, among which the dense models are looked up.
        rows: settings or trials of one combination: columns `setup`, and `val_<metric>`, of settings with `_mean`.
    """
    combination = str(rows["tasks"].iloc[0])
    found = np.full(len(rows), np.nan)
    dense = settings[(settings["lambda"] == 0) & is_own(settings)]
    blind = settings[(settings["group_sparsity_mean"] == 1) & (settings["tasks"] == combination)]
    for setup in rows["setup"].unique():
        here = (rows["setup"] == setup).to_numpy()
        of_setup = dense[dense["setup"] == setup]
        gained, to_lose = np.zeros(int(here.sum())), 0.0
        for task in sweep.tasks_of(combination):
            metric = sweep.metrics[sweep.tasks[task]]
            column = f"val_{metric.name}"
            same = of_setup[of_setup["tasks"] == combination]
            same = same if len(same) else of_setup[of_setup["tasks"] == task]
            reference = same[f"{column}_mean"].mean() if len(same) else np.nan
            zero = blind.loc[blind["setup"] == setup, f"{column}_mean"].mean()
            constant = sweep.constants("val").get(metric.name, np.nan) if np.isnan(zero) else zero
            gained += relative_change(_column(rows[here], column), reference, metric.maximize)
            to_lose += float(relative_change(constant, reference, metric.maximize))
        found[here] = gained / to_lose + 0.0 if to_lose < 0 else np.nan  # + 0.0: no negative zero
    return found


def beaten_by_constant(sweep: Sweep, rows: pd.DataFrame, split: str) -> list[list[str]]:
    """For each setting or trial, the tasks on which the constant predictor is better, where it is known."""
    worse: list[list[str]] = [[] for _ in range(len(rows))]
    for task in sweep.tasks_of(str(rows["tasks"].iloc[0])):
        metric = sweep.metrics[sweep.tasks[task]]
        constant, values = sweep.constants(split).get(metric.name), _column(rows, f"{split}_{metric.name}")
        if constant is not None:
            for place in np.flatnonzero(values < constant if metric.maximize else values > constant):
                worse[place].append(task)
    return worse


def _best(sweep: Sweep, settings: pd.DataFrame, tasks: str, rows: pd.DataFrame) -> Best:
    objectives, asked = objectives_of(sweep, rows), _searched(sweep, "objectives")
    bounds = _bounds(sweep)
    under = " and ".join(f"{one.column} {one.relation} {one.bound:g}" for one in bounds)
    allowed = rows[_will_do(sweep, rows, bounds)]
    if allowed.empty:
        some = _will_do(sweep, rows, ()).any()
        none = "every model is worse than the constant predictor on some task, or has no channel left"
        return Best(tasks, None, f"no model has {under}" if some else none)
    lost = pd.Series(losses(sweep, settings, allowed), index=allowed.index)
    cost = _cost(objectives, rows)
    quality = _quality(objectives)
    costs = _falling(allowed, cost)
    worse = lost if quality is None else _falling(allowed, quality)
    named = "loss" if quality is None else quality.column
    dense_cost = min(_falling(rows[(rows["lambda"] == 0) & is_own(rows)], cost).dropna(), default=math.inf)
    if any(bound.column in SIZES for bound in bounds):
        place, why = _first(worse, costs), f"the best in {named} with {under}"
    elif bounds:
        place, why = _first(costs, worse), f"the cheapest with {under}"
    elif quality is not None and asked == [quality.column]:
        place, why = _first(worse, costs), f"the best in {named}"
    elif (near := (lost <= TOLERANCE) & (costs < dense_cost)).any():
        place, why = _first(costs[near], worse[near]), f"the cheapest that loses at most {LITTLE}"
    elif (knee := _knee(allowed, objectives, cost)) is not None:
        place, why = knee, "the knee of the front, as no dense model is known to compare with"
        if not lost.isna().all():
            why = f"the knee of the front, as none that is cheaper than the dense model loses {LITTLE} or less"
    else:
        place, why = _first(worse, costs), f"the best in {named}, as the front has no knee"
    trial = _trial(sweep, settings, place, bounds, quality)
    return Best(tasks, place, why, float(lost[place]), trial, _rival(sweep, settings, rows, place, quality))


def _quality(objectives: Sequence[Objective]) -> Objective | None:
    """The first objective that is no cost."""
    return next((one for one in objectives if one.column not in SIZES), None)


def _bounds(sweep: Sweep) -> list[Constraint]:
    """The search's constraints, its target among them."""
    return [one for text in _searched(sweep, "constraints") if (one := Constraint.read(text)) is not None]


def _cost(objectives: Sequence[Objective], rows: pd.DataFrame) -> Objective:
    """See `find_best`."""
    asked = next((one for one in objectives if one.column in COSTS), None)
    if asked is not None:
        return asked
    if known(rows, MODEL_MACS):
        return Objective(MODEL_MACS, "minimize")
    sparsity = next((one for one in objectives if one.column in SPARSITIES), None)
    return sparsity or Objective("group_sparsity", "maximize")


def _knee(rows: pd.DataFrame, objectives: Sequence[Objective], cost: Objective) -> int | None:
    """The index of the front's knee; over the logarithm of a cost, as figures show it, in the sparsities' place."""
    traded = [one for one in objectives if cost.column not in COSTS or one.column not in SIZES]
    traded = traded if cost in traded else [*traded, cost]
    points = means(rows, traded).copy()
    place = traded.index(cost)
    if cost.column in COSTS and (points[:, place] > 0).all():
        points[:, place] = np.log(points[:, place])
    knee = knee_point(points, directions(traded))
    return None if knee is None else int(rows.index[knee.row])


def _rival(
    sweep: Sweep, settings: pd.DataFrame, rows: pd.DataFrame, place: int, quality: Objective | None
) -> int | None:
    """See `Best.rival`."""
    own = rows.loc[place]
    other = {"ours": "alternative", "alternative": "ours"}.get(str(own["side"]))
    if other is None or not known(rows, MODEL_MACS):
        return None
    costs = _falling(rows, Objective(MODEL_MACS, "minimize"))
    others = rows[(rows["side"] == other) & (rows["setup"] == own["setup"]) & (costs <= NO_MORE * costs[place])]
    if others.empty:
        return None
    lost = pd.Series(losses(sweep, settings, others), index=others.index)
    worse = lost if quality is None or lost.notna().all() else _falling(others, quality)
    return _first(worse, costs[others.index])


def _trial(
    sweep: Sweep, settings: pd.DataFrame, row: int, bounds: Sequence[Constraint], quality: Objective | None
) -> str:
    """The setting's best trial on validation, among those that are acceptable themselves, if there are any."""
    done = sweep.trials("done")
    trials = done[(done[KEYS] == settings.loc[row, KEYS]).all(axis=1)]
    will_do = trials[_will_do(sweep, trials, bounds)]
    trials = will_do if len(will_do) else trials
    lost: NDArray[np.floating] = losses(sweep, settings, trials)
    if np.isnan(lost).any() and quality is not None:
        lost = _falling(trials, quality).to_numpy(dtype=float)
    return str(trials["trial_id"].iloc[int(np.argmin(np.nan_to_num(lost, nan=np.inf)))])


def _first(least: "pd.Series[float]", then: "pd.Series[float]") -> int:
    """The index of the row with the smallest `least`, and among equal ones the smallest `then`."""
    return int(pd.DataFrame({"least": least, "then": then}).sort_values(["least", "then"], kind="stable").index[0])


def _will_do(sweep: Sweep, rows: pd.DataFrame, bounds: Sequence[Constraint]) -> NDArray[np.bool_]:
    """(rows,) of settings or of trials."""
    good = np.array([not worse for worse in beaten_by_constant(sweep, rows, "val")])
    kept = (bound.violation(_column(rows, bound.column)) <= 0 for bound in bounds)
    return np.logical_and.reduce([good, _column(rows, "group_sparsity") < 1, *kept])


def _searched(sweep: Sweep, what: str) -> list[str]:
    """What the search that made the sweep was asked for; nothing where no search did."""
    search = sweep.info.get("search")
    texts = search.get(what) if isinstance(search, Mapping) else None
    return [str(one) for one in texts] if isinstance(texts, list) else []


def _falling(rows: pd.DataFrame, objective: Objective) -> "pd.Series[float]":
    """(rows,) the objective of settings or trials, signed so that less is better."""
    return pd.Series((-1 if objective.maximize else 1) * _column(rows, objective.column), rows.index)


def _column(rows: pd.DataFrame, column: str) -> Floats:
    """Of trials the column, of settings its means; NaN where the rows do not have it."""
    name = column if column in rows else f"{column}_mean"
    return rows[name].to_numpy(dtype=float) if name in rows else np.full(len(rows), np.nan)

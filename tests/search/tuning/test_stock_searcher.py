"""What the stock OptunaSearch does where the search's own does better: were it in its place, test_searcher would fail.

Should one of these fail after an upgrade, the stock searcher has been mended there.
"""

import math
import os
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
from ray.tune.search import Repeater, Searcher
from ray.tune.search.optuna import OptunaSearch

from search.engine.tune_hooks import SourceSearcher
from search.tuning.samplers import quiet
from tests.search.tuning.test_searcher import SPARSITY, epoch, halving
from tests.support.made_up_search import none_wanted, result, searcher, space, well

METRIC = "group_sparsity"
SPACE = space("seeds=1", "search_space.lambda=[1e-3, 10]")
LISTED = space("seeds=1", "search_space.lambda=[1e-3, 1e-2, 0.1]")


def stock(of: Any = SPACE, **more: Any) -> OptunaSearch:
    """Over the same space, with a study that can be looked at."""
    settings: dict[str, Any] = {"metric": METRIC, "mode": "max", "sampler": RandomSampler(seed=0)} | more
    return OptunaSearch(space=of.distributions, **settings)


def states(one: OptunaSearch) -> list[TrialState]:
    return [trial.state for trial in one._ot_study.trials]


@pytest.fixture(autouse=True)
def silent() -> None:
    quiet()


def ours(**more: Any) -> Any:
    return searcher(SPACE, 8, objectives=SPARSITY, baselines=none_wanted(), **more)


def test_nan_leaves_a_trial_running() -> None:
    theirs = stock()
    theirs.suggest("a")
    theirs.on_trial_complete("a", {METRIC: math.nan, "training_iteration": 1})
    assert states(theirs) == [TrialState.RUNNING]
    mine = ours()
    config = mine.next()
    mine.ended(result(config, group_sparsity=math.nan))
    assert mine.study.trials[0].state == TrialState.FAIL


def test_what_was_stopped_early_is_told_as_complete() -> None:
    theirs = stock()
    for number, name in enumerate("ab"):
        theirs.suggest(name)
        # A scheduler has stopped it after its first epoch: Tune completes it with what it had reported.
        theirs.on_trial_complete(name, {METRIC: -float(number), "training_iteration": 1})
    assert states(theirs) == [TrialState.COMPLETE] * 2
    mine = ours(halving=halving)
    _, first, second = (mine.next() for _ in range(3))  # the dense model is never stopped
    assert mine.report(first, epoch(first, 0) | {METRIC: 1.0})
    assert not mine.report(second, epoch(second, 0) | {METRIC: 0.5})
    mine.ended(result(second, "stopped", error=mine.why_stopped(second), group_sparsity=0.5))
    assert mine.study.trials[2].state == TrialState.PRUNED


def test_trials_are_proposed_twice() -> None:
    theirs = stock(LISTED)
    strengths = []
    for number in range(4):
        strengths.append(LISTED.config(theirs.suggest(str(number)), 0).strength)
        theirs.on_trial_complete(str(number), {METRIC: 0.0, "training_iteration": 1})
    assert len(set(strengths)) < 4
    mine = searcher(LISTED, 4, objectives=SPARSITY, baselines=none_wanted())
    found = []
    while (config := mine.next()) is not None:
        found.append(config.strength)
        mine.ended(well(config))
    assert sorted(found) == [0, 1e-3, 1e-2, 0.1]


def test_constraints_and_user_attributes_are_not_passed_on() -> None:
    theirs = stock()
    theirs.suggest("a")
    theirs.on_trial_complete("a", {METRIC: 0.5, "latency_ms": 30.0, "val_depth_mae": 1.0, "training_iteration": 1})
    trial = theirs._ot_study.trials[0]
    assert trial.user_attrs == {}
    assert not trial.constraints


def test_replicates_of_several_metrics_fail() -> None:
    theirs = Repeater(stock(metric=[METRIC, "delta_m"], mode=["max", "max"]), repeat=2)
    for name in ("a", "b"):
        theirs.suggest(name)
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        theirs.on_trial_complete("a", {METRIC: 0.5, "delta_m": 0.0, "training_iteration": 1})


def test_one_trial_is_pending_where_ours_fills_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune asks any searcher for one trial ahead, unless the variable that the runner sets says otherwise."""
    from ray.tune.execution.tune_controller import _get_max_pending_trials

    monkeypatch.delenv("TUNE_MAX_PENDING_TRIALS_PG", raising=False)
    assert _get_max_pending_trials(_Generator(stock())) == 1
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "3")
    assert _get_max_pending_trials(_Generator(SourceSearcher.__new__(SourceSearcher))) == 3


class _Generator:
    """As much of Tune's search generator as is asked."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher


def test_a_dead_drivers_trials_run_for_good() -> None:
    theirs = stock()
    theirs.suggest("a")
    again = optuna.create_study(storage=theirs._ot_study._storage, study_name=theirs._ot_study.study_name,
                                load_if_exists=True)  # fmt: skip
    after = stock(study_name=again.study_name, storage=again._storage)
    after.suggest("b")
    after.on_trial_complete("b", {METRIC: 0.0, "training_iteration": 1})
    assert states(after) == [TrialState.RUNNING, TrialState.COMPLETE]

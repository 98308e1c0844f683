"""What a study is told: several seeds as one proposal, stopped, failed and constrained ones, and each proposal once."""

import math
import re
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from mtl.config import TrialConfig
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.store.results import TrialResult
from search.tuning.ask import TRIALS, mixed
from search.tuning.axis import LAMBDA
from search.tuning.baselines import Baselines
from search.tuning.samplers import STARTUP, quiet
from tests.support.made_up_search import (
    OBJECTIVES,
    PRIMARIES,
    baselines,
    none_wanted,
    result,
    run,
    searcher,
    space,
    study,
    summary,
    well,
)

quiet()
SPARSITY = (Objective("group_sparsity", "maximize"),)


def states(of: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in of.trials]


def test_baselines_first_then_the_dense_model_then_the_range_from_its_middle() -> None:
    of = space("seeds=2", "search_space.lambda=[1e-3, 10]")
    started = run(one := searcher(of, STARTUP))
    assert [(config.combination, config.seed) for config in started[:6]] == [
        (task, seed) for seed in (0, 1) for task in ("segmentation", "depth", "normals")
    ]
    assert all(config.strength == 0 for config in started[:6])
    expected = [0.0, 0.1, 0.01, 1.0, 10**-2.5, 10**-0.5][:STARTUP]
    assert [proposal.configs[0].strength for proposal in one.proposals] == pytest.approx(expected, rel=0.01)
    assert [config.seed for config in started[6:]] == [0, 1] * STARTUP
    assert of.axes[LAMBDA].over_range(3) == pytest.approx([0.1, 0.01, 1.0])


def test_mean_over_seeds_is_told_and_the_deviation_kept() -> None:
    one = searcher(space("seeds=3"), 8, racing=False)
    run(one)
    assert states(one.study) == [TrialState.COMPLETE] * 8
    for proposal, trial in zip(one.proposals, one.study.trials, strict=True):
        assert trial.number == proposal.number
        results = [well(config) for config in proposal.configs]
        sparsities = [found.metrics["group_sparsity"] for found in results]
        deltas = [one.baselines.delta_m(found.config, found.metrics) for found in results]
        assert trial.values == pytest.approx([np.mean(deltas), np.mean(sparsities)])
        assert trial.user_attrs["means"]["val_depth_delta1"] == pytest.approx(
            np.mean([found.metrics["val_depth_delta1"] for found in results])
        )
        assert trial.user_attrs["deviations"]["group_sparsity"] == pytest.approx(np.std(sparsities, ddof=1))
        assert trial.user_attrs["deviations"]["delta_m"] == pytest.approx(np.std(deltas, ddof=1))
        assert trial.user_attrs[TRIALS] == [config.trial_id for config in proposal.configs]
        assert trial.user_attrs[LAMBDA] == proposal.configs[0].strength
        assert trial.user_attrs["seeds_run"] == 3


def test_constraints_are_the_trials_own_and_the_sampler_keeps_to_them() -> None:
    limits = (Constraint("group_sparsity", "<=", 0.3), Constraint("val_depth_delta1", ">=", 0.9))
    of = space("seeds=1", "search_space.lambda=[1e-3, 10]")
    # More sparsity is better, but for the constraint: without it the search would go on at the range's upper end.
    one = searcher(of, 30, sampler="tpe", objectives=SPARSITY, constraints=limits, baselines=none_wanted())
    run(one)
    told = one.study.get_trials(states=[TrialState.COMPLETE])
    assert len(told) == 30
    for trial in told:
        means = trial.user_attrs["means"]
        expected = [means["group_sparsity"] - 0.3, 0.9 - means["val_depth_delta1"]]
        assert trial.constraints == pytest.approx(dict(zip(map(str, limits), expected, strict=True)))
    kept = [max(trial.constraints.values()) <= 0 for trial in told[STARTUP:]]
    free = searcher(of, 30, sampler="tpe", objectives=SPARSITY, baselines=none_wanted())
    run(free)
    kept_by_chance = [trial.values[0] <= 0.3 for trial in free.study.get_trials(states=[TrialState.COMPLETE])[STARTUP:]]
    assert sum(kept) > 2 * sum(kept_by_chance)


def in_the_middle(config: TrialConfig) -> TrialResult:
    """Best at lambda 0.1, so that no end of the range is proposed again and again."""
    x = math.log10(config.strength / 0.1) if config.strength else -3
    return result(config, group_sparsity=1 - x**2 / 10)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_several_at_once_differ_from_each_other(sampler: str) -> None:
    """A model that did not see what runs would propose the same again, or next to it."""
    of = space("seeds=1", "search_space.lambda=[1e-3, 10]")
    one = searcher(of, 14, sampler=sampler, objectives=SPARSITY, baselines=none_wanted())
    for _ in range(10):
        config = one.next()
        assert config is not None
        one.ended(in_the_middle(config))
    assert states(one.study) == [TrialState.COMPLETE] * 10
    told = one.study.trials
    pending = [one.next() for _ in range(4)]
    assert len({config.trial_id for config in pending if config is not None}) == 4
    assert states(one.study)[10:] == [TrialState.RUNNING] * 4
    # What the same samplers propose that do not see what runs: the first alone is the same.
    blind = study(SPARSITY)
    blind.add_trials(told)
    for number in range(10, 14):
        blind.sampler = one._asker.make_sampler(mixed(0, number))
        ignorant = blind.ask(of.distributions)
        blind.tell(ignorant, state=TrialState.FAIL)
        assert (ignorant.params == one.study.trials[number].params) == (number == 10)


def test_no_trial_twice_although_the_sampler_would() -> None:
    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, *arguments: Any) -> Any:
            return optuna.samplers.RandomSampler(seed=5).sample_independent(*arguments)

    one = searcher(space("seeds=2", "search_space.lambda=[1e-3, 10]"), 12)
    one._asker.make_sampler = lambda seed: Stubborn(seed)
    started = run(one)
    assert len({config.trial_id for config in started}) == len(started) == 6 + 12 * 2
    duplicates = [trial for trial in one.study.trials if "duplicate_of" in trial.user_attrs]
    assert duplicates
    assert {trial.state for trial in duplicates} == {TrialState.FAIL}
    twin = one.study.trials[duplicates[0].user_attrs["duplicate_of"]]
    assert twin.params == duplicates[0].params


def test_a_small_space_is_proposed_whole_and_then_ends() -> None:
    of = space("seeds=1", "search_space.lambda=[1e-3, 1e-2, 0.1]", "search_space.penalty=group_lasso,group_mcp,l1")
    one = searcher(of, 10**6, sampler="tpe")
    run(one, at_once=3)
    assert one.exhausted
    found = [(proposal.configs[0].strength, proposal.configs[0].penalty) for proposal in one.proposals]
    assert len(set(found)) == len(found) == 1 + 3 * 3
    assert TrialState.RUNNING not in states(one.study)


def test_queued_duplicates_do_not_end_a_search() -> None:
    """Such as a design with the same trial under several names."""
    of = space("seeds=1", "search_space.lambda=[1e-3, 10]", "search_space.penalty=group_lasso,group_mcp,l1")
    dense = [of.dense_params | {"penalty": name} for name in ("l1", "group_mcp", "group_lasso")]
    one = searcher(of, 8, design=[*dense, *dense, *dense, of.default_params(0.5)])
    run(one)
    assert len(one.proposals) == 8
    assert one.proposals[1].configs[0].strength == 0.5


def failing(*strengths: float, seed: int = 1, nan: bool = False) -> Any:
    def outcome(config: TrialConfig) -> TrialResult:
        if config.strength in strengths and config.seed == seed and len(config.tasks) > 1:
            return result(config, group_sparsity=math.nan) if nan else result(config, "failed", error="out of memory")
        return well(config)

    return outcome


def test_a_failed_seed_fails_the_proposal_and_spares_its_other_seeds() -> None:
    dropped: list[TrialResult] = []
    one = searcher(space("seeds=3", "search_space.lambda=[1e-3, 10]"), 8, on_dropped=dropped.append)
    started = run(one, failing(0.1))
    assert states(one.study) == [TrialState.COMPLETE, TrialState.FAIL] + [TrialState.COMPLETE] * 6
    proposal = one.proposals[1]
    assert (proposal.state, proposal.note) == ("failed", "seed 1 failed: out of memory")
    assert one.study.trials[1].user_attrs["note"] == proposal.note
    assert [config.seed for config in started if config.strength == 0.1] == [0, 1]
    assert [(found.config.seed, found.status, found.error) for found in dropped if found.config.strength == 0.1] == [
        (2, "stopped", "seed 1 failed: out of memory")
    ]


def test_what_is_not_a_number_fails() -> None:
    one = searcher(space("seeds=2", "search_space.lambda=[1e-3, 10]"), 8)
    run(one, failing(0.1, nan=True))
    assert states(one.study)[1] == TrialState.FAIL
    assert one.study.trials[1].user_attrs["note"].endswith("is not a number")
    assert TrialState.RUNNING not in states(one.study)
    assert len(one.proposals) == 8


def test_a_constraint_of_which_nothing_is_known_fails() -> None:
    limit = Constraint("latency_ms", "<=", 20)
    one = searcher(space("seeds=1"), 3, objectives=SPARSITY, baselines=none_wanted(), constraints=[limit])
    run(one)
    assert states(one.study)[:3] == [TrialState.FAIL] * 3
    assert one.proposals[0].note == "latency_ms is not a number"


def test_a_failed_baseline_fails_what_needs_its_seed() -> None:
    def outcome(config: TrialConfig) -> TrialResult:
        return (
            result(config, "failed", error="lost") if config.tasks == ("depth",) and config.seed == 1 else well(config)
        )

    one = searcher(space("seeds=2"), 3)
    run(one, outcome)
    assert states(one.study)[:3] == [TrialState.FAIL] * 3
    assert {proposal.note for proposal in one.proposals} == {"delta_m is not a number"}


def epoch(config: TrialConfig, number: int) -> dict[str, float]:
    return {"epoch": number, "seconds": 0.1, **well(config).metrics}


def halving() -> SuccessiveHalving:
    return SuccessiveHalving(OBJECTIVES[1:], dict.fromkeys(PRIMARIES, SPARSITY[0]), 1, 2)


def test_stopped_early_is_told_as_pruned_not_as_a_value() -> None:
    """Half a training's value would pass for a whole one's."""
    of = space("seeds=1", "search_space.lambda=[1e-3, 10]")
    one = searcher(of, 6, objectives=SPARSITY, baselines=none_wanted(), halving=halving)
    stopped = 0
    while (config := one.next()) is not None:
        goes_on = all(one.report(config, epoch(config, number)) for number in range(4))
        if goes_on:
            one.ended(well(config))
        else:
            stopped += 1
            assert one.why_stopped(config).startswith("stopped early: behind others with seed 0 after epoch ")
            one.ended(result(config, "stopped", error=one.why_stopped(config), **well(config).metrics))
    assert stopped
    assert states(one.study).count(TrialState.PRUNED) == stopped
    assert states(one.study).count(TrialState.COMPLETE) == 6 - stopped
    for trial in one.study.trials:
        if trial.state == TrialState.PRUNED:
            assert trial.values is None
            assert trial.user_attrs["note"].startswith("stopped early")


def test_nothing_is_dropped_of_the_dense_model_or_without_racing() -> None:
    of = space("seeds=4", "search_space.lambda=[1e-3, 10]")
    sparse = [of.default_params(value) for value in (0.01, 0.03, 0.1, 0.3)]
    for bad, racing in ((0.0, True), (1.0, False)):
        last = of.default_params(bad) if bad else of.dense_params
        one = searcher(of, 5, racing=racing, design=[*sparse, last])
        run(one, dominated_at(bad))
        assert one.proposals[-1].configs[0].strength == bad
        assert len(one.proposals[-1].values) == 4
        assert not one.proposals[-1].note


def dominated_at(strength: float) -> Any:
    """As well does, but for one lambda, which is worse in everything than any other."""

    def outcome(config: TrialConfig) -> TrialResult:
        found = well(config)
        if config.strength != strength or len(config.tasks) == 1:
            return found
        return result(config, **{name: value - 5 for name, value in found.metrics.items()})

    return outcome


def test_racing_drops_the_remaining_seeds_of_what_is_dominated_beyond_doubt_and_says_so() -> None:
    dropped: list[TrialResult] = []
    of = space("seeds=4", "search_space.lambda=[1e-3, 10]")
    one = searcher(of, 8, on_dropped=dropped.append)
    strength = 0.01
    started = run(one, dominated_at(strength))
    proposal = next(found for found in one.proposals if found.configs[0].strength == strength)
    note = proposal.note
    assert re.fullmatch(r"dropped: dominated by another proposal after 1 of 4 seeds \(p = [0-9.e-]+\)", note)
    assert [config.seed for config in started if config.strength == strength] == [0]
    rows = [found for found in dropped if found.config.strength == strength]
    assert [(found.config.seed, found.status, found.error) for found in rows] == [
        (s, "stopped", note) for s in (1, 2, 3)
    ]
    trial = one.study.trials[proposal.number]
    assert trial.state == TrialState.COMPLETE, "what its seeds have shown is worth telling"
    assert trial.values[1] == pytest.approx(proposal.means()["group_sparsity"])
    assert (trial.user_attrs["note"], trial.user_attrs["seeds_run"]) == (note, 1)
    kept = run(searcher(of, 8, racing=False), dominated_at(strength))
    assert [config.seed for config in kept if config.strength == strength] == [0, 1, 2, 3]


def test_a_running_seed_of_what_was_dropped_stops_at_its_next_epoch() -> None:
    one = searcher(space("seeds=3", "search_space.lambda=[1e-3, 10]"), 4)
    running = [config for config in iter(one.next, None) if config.strength == 0.1]
    assert len(running) == 3
    assert one.report(running[1], epoch(running[1], 0))
    one.ended(result(running[0], "failed", error="out of memory"))
    assert not one.report(running[1], epoch(running[1], 1))
    assert one.why_stopped(running[1]) == "seed 0 failed: out of memory"


@pytest.mark.parametrize("at_once", [1, 4, 40])
def test_baselines_that_end_late(at_once: int) -> None:
    """Nothing is told until delta_m is known; then everything is, as if the baselines had ended first."""
    of = space("seeds=2", "search_space.lambda=[1e-3, 10]")
    late = searcher(of, 6, study())
    first = [late.next() for _ in range(6)]
    while (config := late.next()) is not None:
        late.ended(well(config))
    assert set(states(late.study)) == {TrialState.RUNNING}
    for baseline in first[::-1]:
        assert baseline is not None
        late.ended(well(baseline))
    early = searcher(of, 6)
    run(early, at_once=at_once)
    assert states(late.study) == states(early.study) == [TrialState.COMPLETE] * 6
    assert [trial.values for trial in late.study.trials] == [trial.values for trial in early.study.trials]


def test_dense_trials_beside_the_baselines_are_run_once_and_change_no_proposal() -> None:
    of = space("seeds=2", "retraining=scratch")
    beside = [config.model_copy(update={"retraining": "longer"}) for config in of.configs(of.dense_params)]
    with_them = Baselines(baselines(of).configs, PRIMARIES, beside)
    plain, one = searcher(of, 3), searcher(of, 3, baselines=with_them)
    without, started = run(plain), run(one)
    assert [config for config in started if config not in beside] == without
    assert [config for config in started if config in beside] == beside
    assert summary(one.proposals) == summary(plain.proposals)
    assert one.exhausted
    known = {config.trial_id: well(config) for config in without}
    again = searcher(of, 3, one.study, baselines=with_them, known=known)
    assert not again.exhausted
    assert again.waiting == len(beside)
    assert run(again) == beside

"""Searches over compressors and their targets: which parameters a proposal has, where it lies, and what is refused."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from mtl.config import TrialConfig
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.networks.model_size import count_macs
from mtl.networks.smaller import least_macs
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.store.results import TrialResult
from search.tuning.axis import LAMBDA, TARGET
from search.tuning.cost_bound import bounded_space
from search.tuning.front_sampler import FrontSampler, KnownOf
from search.tuning.proposals import proposals_table
from search.tuning.samplers import find_sampler, quiet
from search.tuning.space import SearchSpace, make_space
from tests.search.tuning.test_searcher_restart import Recorded, is_half_drawn
from tests.support.made_up_search import NAMES, result, run, searcher, space, summary

quiet()
COST = (Objective("delta_m", "maximize"), Objective("model_macs", "minimize"))
SELECTION = ("compressors=selection", "targets=0.5,0.05")
MIXED = ("compressors=penalty,selection,narrow", "targets=0.5,0.05", "retraining=none,fine_tune")
ROOMS = load_dataset("rooms", None, {}).tasks
FULL = 2e7


def priced(config: TrialConfig) -> TrialResult:
    """A model that is the better the more it costs, by less and less; selection is better than the others."""
    share = config.target_macs if not config.strength else 1 / (1 + 100 * config.strength)
    better = 0.05 * (config.compressor == "selection")
    noise = 0.001 * float(np.random.default_rng(int(config.trial_id, 16)).normal())
    metrics = {f"val_{name}": 1 + 0.1 * math.log10(share) + better + noise for name in NAMES.values()}
    return result(config, **metrics, group_sparsity=1 - share, model_macs=FULL * share)


# Which parameters proposals have


def test_a_recipe_without_the_penalty_leaves_its_targets_open() -> None:
    of = space(*SELECTION)
    assert of.distributions == {TARGET: FloatDistribution(0.05, 1.0, log=True)}
    assert of.config({TARGET: 1.0}, 0) == of.config(of.dense_params, 0)
    assert of.config(of.dense_params, 0).dense
    one = of.config({TARGET: 0.12345}, 3)
    assert (one.compressor, one.target_macs, one.strength, one.seed) == ("selection", 0.123, 0, 3)
    assert not of.retrains
    # Its ends given, and a list; the dense model is always beside them.
    ends = space(*SELECTION, "search_space.target_macs=[0.4, 0.1]")
    assert (ends.axes[TARGET].values, ends.axes[TARGET].listed) == ((0.1, 0.4), False)
    assert ends.config(ends.dense_params, 0).dense
    listed = space(*SELECTION, "search_space.target_macs=[0.4, 0.1, 0.2, 1]")
    assert {listed.config({TARGET: value}, 0).target_macs for value in np.geomspace(0.1, 0.44, 50)} == {
        0.1,
        0.2,
        0.4,
        1,
    }


def test_what_nothing_looks_at_without_the_penalty_is_named() -> None:
    assert space(*SELECTION).unused == ["lambda"]  # rooms has a range of it
    assert space(*SELECTION, "search_space.metric=adaptive,euclidean").unused == ["lambda", "metric"]
    assert space(*SELECTION, "search_space.lambda=").unused == space().unused == space(*MIXED).unused == []


def test_what_belongs_to_the_penalty_is_not_open_without_it() -> None:
    # As rooms has a range of lambda, and a sweep without the penalty does not look at lambdas either.
    of = space(*SELECTION, "search_space.penalty=group_lasso,l1", "search_space.lr=[1e-3, 1e-2]", "retraining=scratch")
    assert of.names == [TARGET, "lr"]
    assert of.config(of.default_params(0.2), 0).retraining == "none"


def test_lambda_0_alone_leaves_the_penalty_to_the_dense_model() -> None:
    of = make_space(space(*MIXED).recipe.model_copy(update={"lambdas": (0.0,), "search_space": {}}), "made up")
    assert of.compressors == ("selection", "narrow")
    assert of.names == ["compressor", TARGET]


def test_a_proposal_has_lambda_or_a_target() -> None:
    of = space(*MIXED, "search_space.penalty=group_lasso,l1", "search_space.lr=[1e-3, 1e-2]")
    assert of.distributions["compressor"] == CategoricalDistribution(("penalty", "selection", "narrow"))
    one = searcher(of, 30, sampler="random", objectives=COST)
    run(one, priced)
    seen = set()
    for proposal in one.proposals:
        config = proposal.configs[0]
        if proposal.params["compressor"] == "penalty":
            assert set(proposal.params) == {"compressor", LAMBDA, "penalty", "retraining", "lr"}
            assert (config.compressor, config.target_macs) == ("penalty", 1)
        else:
            assert set(proposal.params) == {"compressor", TARGET, "lr"}
            assert (config.strength, config.retraining, config.penalty) == (0, "none", of.recipe.penalty)
            assert 0.05 <= config.target_macs <= 0.95
        seen.add(config.compressor)
    assert seen == {"penalty", "selection", "narrow"}
    assert sum(proposal.dense for proposal in one.proposals) == 1
    table = proposals_table(one.proposals, of.names).set_index("proposal")
    for proposal in one.proposals:
        row, config = table.loc[proposal.number], proposal.configs[0]
        assert (row["compressor"], row["target_macs"], row["lambda"]) == (
            (config.compressor, config.target_macs, config.strength)
        )
        assert row["model_macs"] == pytest.approx(proposal.means()["model_macs"])


@given(st.sampled_from(["penalty", "selection", "narrow"]), st.floats(0, 1), st.integers(0, 3))
def test_parameters_of_a_trial_give_that_trial(compressor: str, place: float, seed: int) -> None:
    of = space(*MIXED)
    one = of.axis({"compressor": compressor}).distribution
    value = min(max(one.low * (one.high / one.low) ** place, one.low), one.high)
    trial = of.config(of.default_params(value, compressor), seed)
    found = of.params_of(trial)
    assert found is not None
    assert set(found) == set(of.active(found))
    assert of.config(found, seed) == trial
    if not trial.dense:
        assert of.params_of(trial.model_copy(update={"target_macs": 0.01})) is None
        assert space("lambdas=0,1e-3,1").params_of(trial) is None or compressor == "penalty"


def test_the_space_of_a_search_for_lambda_is_stored_as_before() -> None:
    assert set(space().to_plain()) == {LAMBDA, "listed lambdas", "tasks", "seeds"}
    assert space(*SELECTION).to_plain()["compressor"] == ["selection"]


@pytest.mark.parametrize("sampler", ["auto", "random", "grid", "front"])
def test_samplers_along_targets(sampler: str) -> None:
    of = space(
        *SELECTION, "seeds=1", *(["search_space.target_macs=[0.05, 0.1, 0.2, 0.5]"] if sampler == "grid" else [])
    )
    design = of.grid() if sampler == "grid" else None
    one = searcher(of, 5 if sampler == "grid" else 12, sampler=sampler, objectives=COST, design=design)
    run(one, priced, at_once=2)
    targets = [proposal.configs[0].target_macs for proposal in one.proposals]
    assert len(set(targets)) == len(targets) == (5 if sampler == "grid" else 12)
    assert targets[0] == 1
    assert min(targets) == 0.05, "the smallest target is an end of the front"


@pytest.mark.parametrize("sampler", ["gp", "nsga2", "nsga3"])
def test_samplers_that_cannot_model_a_conditional_space_are_refused(sampler: str) -> None:
    with pytest.raises(
        BadInput, match=rf"sampler = {sampler} with compressors penalty, selection, narrow: .*allowed: "
    ):
        find_sampler(sampler, space(*MIXED), COST)
    find_sampler(sampler, space(*SELECTION, "search_space.lr=[1e-3, 1e-2]"), COST)


def test_tpe_learns_which_compressor_is_the_best() -> None:
    of = space(*MIXED, "seeds=1")
    one = searcher(of, 50, sampler="auto", objectives=COST, racing=False)
    run(one, priced)
    last = [proposal.configs[0].compressor for proposal in one.proposals[20:]]
    assert last.count("selection") > len(last) / 2


def test_the_grid_of_a_conditional_space_has_each_trial_once() -> None:
    of = space(*MIXED, "search_space.lambda=[1e-3, 1e-2, 1]", "search_space.target_macs=[0.5, 0.2, 0.1]")
    configs = [of.config(params, 0) for params in of.grid()]
    assert len({config.trial_id for config in configs}) == len(configs) == 1 + 3 * 2 + 2 * 3
    assert configs[0].dense


# Broken off and continued


@pytest.mark.parametrize(
    ("sampler", "sets"),
    [("auto", [*MIXED, "seeds=2"]), ("random", [*MIXED, "seeds=1"]), ("auto", [*SELECTION, "seeds=2"])],
)
def test_broken_off_at_any_line_it_goes_on_as_the_unbroken_one(sampler: str, sets: Sequence[str]) -> None:
    of = space(*sets)
    settings: dict[str, Any] = {"sampler": sampler, "proposals": 8}
    whole = Recorded(of, [], {}, **settings).run(of=priced)
    expected = summary(whole.searcher.proposals)
    assert any(one.configs[0].compressor == "selection" for one in whole.searcher.proposals)
    for line, known in list(whole.cuts())[::3]:
        again = Recorded(of, whole.journal.logs[:line], known, **settings).run(of=priced)
        if is_half_drawn(whole.journal.logs[:line], 3 if of.conditional else 1):
            continue  # the rest of a proposal's parameters is drawn anew
        assert summary(again.searcher.proposals) == expected, f"broken off after line {line} of the journal"
        assert set(again.ran).isdisjoint(known)


def test_a_sweeps_compressed_trials_are_told_and_not_run_again() -> None:
    of = space(*SELECTION, "seeds=2")
    known = {}
    for target in (0.5, 0.05):
        for config in of.configs(of.default_params(target)):
            known[config.trial_id] = priced(config)
    narrow = of.config(of.default_params(0.5), 0).model_copy(update={"compressor": "narrow"})
    known[narrow.trial_id] = priced(narrow)
    one = Recorded(of, [], known, proposals=2).run(of=priced)
    seeded = [proposal.configs[0].target_macs for proposal in one.searcher.proposals if proposal.seeded]
    assert seeded == [0.5, 0.05]
    assert set(one.ran).isdisjoint(known)
    assert TrialState.RUNNING not in [trial.state for trial in one.searcher.study.trials]


# The front along targets


def area(points: Sequence[tuple[float, float]], corner: tuple[float, float]) -> float:
    """Of the union of the rectangles between the points and the corner, in strips: more is better."""
    xs = sorted({corner[0], *(x for x, _ in points if x > corner[0])})
    strips = itertools.pairwise(xs)
    return sum((b - a) * max([0.0, *(y - corner[1] for x, y in points if x >= b)]) for a, b in strips)


@given(st.lists(st.floats(-0.3, 0.1), min_size=5, max_size=5), st.integers(0, 3))
def test_the_front_sampler_looks_where_the_known_costs_and_hoped_for_quality_add_most(
    deltas: list[float], seed: int
) -> None:
    targets = [0.02, 0.05, 0.1, 0.4, 1.0]
    study = optuna.create_study(directions=["maximize", "minimize"])
    distribution = FloatDistribution(0.02, 1.0, log=True)
    for target, delta in zip(targets, deltas, strict=True):
        study.add_trial(
            create_trial(params={TARGET: target}, distributions={TARGET: distribution}, values=[delta, FULL * target])
        )
    study.sampler = FrontSampler([KnownOf(), KnownOf(log=True, follows=True)], (0.02, 0.95), seed)
    found = study.ask({TARGET: distribution}).params[TARGET]
    assert 0.02 < found < 0.95
    # Independently: cheapness is -log target, and the quality that may be hoped for has half the average slope.
    known = [(delta, -math.log(target)) for delta, target in zip(deltas, targets, strict=True)]
    corner = (min(deltas), 0.0)
    slope = 0.5 * (max(deltas) - min(deltas)) / math.log(0.95 / 0.02)
    gains = []
    for (left, a), (right, b) in itertools.pairwise(known):
        width = math.log(min(0.95, math.exp(-b)) / math.exp(-a))
        hoped = max(left, right, (left + right) / 2 + slope * width / 2)
        gains.append(area([*known, (hoped, (a + b) / 2)], corner) - area(known, corner))
    best, second = sorted(gains, reverse=True)[:2]
    assume(best > second + 1e-9)
    place = gains.index(best)
    low, high = math.log(targets[place]), math.log(min(0.95, targets[place + 1]))
    assert abs((math.log(found) - low) / (high - low) - 0.5) <= 0.1 + 1e-9


def test_equal_gaps_are_searched_where_quality_falls_most() -> None:
    """Of a staircase whose steps are equally wide, the highest step: the gain is half the gap times the height."""
    targets, deltas = [0.0625, 0.125, 0.25, 0.5], [-0.20, -0.19, -0.05, -0.02]
    study = optuna.create_study(directions=["maximize", "minimize"])
    distribution = FloatDistribution(0.0625, 0.5, log=True)
    for target, delta in zip(targets, deltas, strict=True):
        params = {TARGET: target}
        study.add_trial(
            create_trial(params=params, distributions={TARGET: distribution}, values=[delta, target * FULL])
        )
    study.sampler = FrontSampler([KnownOf(), KnownOf(log=True, follows=True)], (0.0625, 0.5), 0)
    assert 0.125 < study.ask({TARGET: distribution}).params[TARGET] < 0.25


def test_a_cost_that_is_known_is_not_hoped_to_be_less() -> None:
    """The gains are 0.094, 0 and 0.075 in octaves of cost times quality. If the cost of each gap's cheaper end could be
    hoped for, they would be 0.125, 0 and 0.15."""
    targets, deltas = [0.0625, 0.25, 0.5, 1.0], [-0.2, -0.2, -0.3, -0.05]
    distribution = FloatDistribution(0.0625, 1.0, log=True)
    found = []
    for follows in (True, False):
        study = optuna.create_study(directions=["maximize", "minimize"])
        for target, delta in zip(targets, deltas, strict=True):
            told = create_trial(
                params={TARGET: target}, distributions={TARGET: distribution}, values=[delta, target * FULL]
            )
            study.add_trial(told)
        study.sampler = FrontSampler([KnownOf(), KnownOf(log=True, follows=follows)], None, 0)
        found.append(study.ask({TARGET: distribution}).params[TARGET])
    assert 0.0625 < found[0] < 0.25
    assert 0.5 < found[1] < 1


def test_no_proposal_falls_between_the_range_and_the_dense_model() -> None:
    """However much better the dense model is: every duplicate would be a wasted look."""
    of = space(*SELECTION, "seeds=1", "search_space.target_macs=[0.05, 0.3]")
    one = searcher(of, 14, sampler="front", objectives=COST)
    run(one, lambda config: replace(priced(config), metrics=priced(config).metrics | _far_better(config)))
    assert len(one.proposals) == 14
    assert [trial.state for trial in one.study.trials].count(TrialState.FAIL) == 0


def _far_better(config: TrialConfig) -> dict[str, float]:
    return {f"val_{name}": 5.0 for name in NAMES.values()} if config.dense else {}


# A bound on the cost


def bounded(of: SearchSpace, *constraints: Constraint) -> SearchSpace:
    return bounded_space(of, constraints, ROOMS)


def full_of(of: SearchSpace) -> int:
    dense = of.config(of.dense_params, 0)
    return count_macs(dense, [ROOMS[name] for name in dense.tasks])


def test_a_bound_on_the_cost_is_the_end_of_the_range() -> None:
    of = space(*SELECTION)
    full = full_of(of)
    axis = bounded(of, Constraint("model_macs", "<=", 0.2 * full)).axes[TARGET]
    assert axis.values == pytest.approx((0.1, 0.2)), "near and below the bound"
    assert bounded(of, Constraint("model_macs", "<=", 0.11 * full)).axes[TARGET].values == pytest.approx((0.055, 0.11))
    assert bounded(of, Constraint("model_macs", "<=", 2 * full)).axes == of.axes
    assert bounded(of, Constraint("model_macs", ">=", 0.2 * full)).axes == of.axes
    assert bounded(of, Constraint("group_sparsity", ">=", 0.7)).axes == of.axes
    # Below the smallest of targets too.
    low = bounded(of, Constraint("model_macs", "<=", 0.03 * full)).axes[TARGET]
    assert low.values == pytest.approx((0.015, 0.03))
    given = space(*SELECTION, "search_space.target_macs=[0.02, 0.6]")
    assert bounded(given, Constraint("model_macs", "<=", 0.25 * full)).axes[TARGET].values == pytest.approx(
        (0.02, 0.25)
    )
    listed = space(*SELECTION, "search_space.target_macs=[0.02, 0.25, 0.6]")
    assert bounded(listed, Constraint("model_macs", "<=", 0.3 * full)).axes[TARGET].values == (0.02, 0.25)
    # With another width open the same target has another cost.
    wide = space(*SELECTION, "search_space.backbone_width=8,16")
    assert bounded(wide, Constraint("model_macs", "<=", 0.2 * full)).axes == wide.axes


def test_a_bounded_search_runs_nothing_above_the_bound_but_the_dense_model() -> None:
    of = space(*SELECTION, "seeds=1")
    bound = Constraint("model_macs", "<=", round(0.1234567 * full_of(of)))
    of = bounded(of, bound)
    one = searcher(of, 12, sampler="auto", objectives=COST, constraints=(bound,))
    run(one, priced)
    targets = [proposal.configs[0].target_macs for proposal in one.proposals]
    assert targets[:3] == [1.0, 0.123, 0.0615], "the dense model, the bound, and the other end"
    assert all(0.0615 <= target <= 0.123 for target in targets[1:])


def test_the_bound_is_tried_also_where_a_sweep_has_covered_the_range() -> None:
    of = space(*SELECTION, "seeds=1", "search_space.target_macs=[0.05, 0.3]")
    swept = [of.config(of.default_params(target), 0) for target in (0.05, 0.1, 0.2)]
    one = searcher(of, 2, sampler="auto", objectives=COST, known={one.trial_id: priced(one) for one in swept})
    run(one, priced)
    proposed = [one.configs[0].target_macs for one in one.proposals if not one.seeded]
    assert proposed == [1.0, 0.3]


@pytest.mark.parametrize(
    ("sets", "bound", "said"),
    [
        (["targets=1e-4"], None, ["targets: 0.0001 with compressor selection; allowed: 0.0"]),
        (
            ["search_space.target_macs=[1e-4, 0.5]"],
            None,
            ["search_space.target_macs: 0.0001 with compressor selection"],
        ),
        (["compressors=narrow", "targets=1e-4"], None, ["targets: 0.0001 with compressor narrow; allowed: 0.0"]),
        (["targets=0.5"], 1e-4, ["model_macs<=", "0.0001 of the dense model's", "allowed: "]),
        (["search_space.target_macs=[0.2, 0.5]"], 0.1, ["0.1 of the dense model's", "targets of 0.2 or more"]),
    ],
)
def test_targets_out_of_reach(sets: list[str], bound: float | None, said: list[str]) -> None:
    of = space("compressors=selection", "targets=0.5", *sets)
    constraints = () if bound is None else (Constraint("model_macs", "<=", math.floor(bound * full_of(of))),)
    with pytest.raises(BadInput) as caught:
        bounded(of, *constraints)
    for word in said:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressor", ["selection", "narrow"])
def test_what_the_refusal_allows_is_allowed(compressor: str) -> None:
    of = space(f"compressors={compressor}", "targets=1e-5")
    with pytest.raises(BadInput) as caught:
        bounded(of)
    least = str(caught.value).split("allowed: ")[1].split(" or more")[0]
    again = space(f"compressors={compressor}", f"targets={least}")
    assert bounded(again).axes[TARGET].values[0] == float(least)
    config = again.config(again.default_params(float(least)), 0)
    some = [ROOMS[name] for name in config.tasks]
    share = least_macs(config.compressor, config, some) / count_macs(config, some)
    assert share == pytest.approx(float(least), rel=0.01)


# Bad input


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ["search_space.compressor=slection,penalty"],
            ["compressor has 'slection'; did you mean selection? allowed: "],
        ),
        (["search_space.compressor=selection,selection"], ["search_space.compressor = ['selection', 'selection']"]),
        (["search_space.compressor=[]"], ["search_space.compressor = []"]),
        (["search_space.compressor=selection"], ["search_space.target_macs is missing; allowed with selection: "]),
        (["search_space.target_macs=[0.1, 0.5]"], ["target_macs = [0.1, 0.5] with compressor penalty"]),
        ([*SELECTION, "search_space.target_macs=[0, 0.5]"], ["target_macs = [0, 0.5]", "above 0 and at most 1"]),
        ([*SELECTION, "search_space.target_macs=[0.1, 1.5]"], ["target_macs = [0.1, 1.5]", "above 0 and at most 1"]),
        ([*SELECTION, "search_space.target_macs=0.1"], ["search_space.target_macs = [0.1]", "the two ends"]),
        ([*SELECTION, "search_space.target_macs=[0.97, 1]"], ["search_space.target_macs = [0.97, 1]", "below 0.95"]),
        ([*SELECTION, "search_space.target_macs=half,1"], ["search_space.target_macs = ['half', 1]", "allowed"]),
        (["compressors=selection", "targets=1"], ["search_space.target_macs = [1.0, 1.0]", "below 0.95"]),
        (["compressors=selection", "targets=0"], ["targets = 0; allowed: greater than 0"]),
        (["search_space.target_mac=[0.1, 0.5]"], ["search_space: 'target_mac'; did you mean target_macs? "]),
    ],
)
def test_bad_input_is_one_line(sets: list[str], said: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        space(*sets)
    for word in said:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)

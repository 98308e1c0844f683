"""One contract for all samplers: proposals inside the space, each once, the dense model first, the same twice."""

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from mtl.errors import BadInput
from mtl.vocabulary.objective import Objective
from search.tuning.proposals import Proposal
from search.tuning.samplers import FRONT, NAMED, find_sampler, make_front_sampler, quiet
from tests.support.made_up_search import OBJECTIVES, none_wanted, run, searcher, space

quiet()
# More than the first, which are laid out, and past the first generation of the genetic ones; a GP takes longer.
PROPOSALS, FEWER = 16, 7
SPARSITY = (Objective("group_sparsity", "maximize"),)
LISTS = ("search_space.lambda=[1e-3, 4e-3, 2e-2, 0.1, 1]", "search_space.penalty=group_lasso,group_mcp,l1")
RANGES = ("search_space.lambda=[1e-3, 10]", "search_space.penalty=group_lasso,l1", "search_space.lr=[1e-3, 2e-2]")


class Own(RandomSampler):
    """A user's own, which has a seed."""


class Seedless(RandomSampler):
    """A user's own without one, which always proposes the same."""

    def __init__(self) -> None:
        super().__init__(seed=3)


class OneObjective(RandomSampler):
    """As many of those on OptunaHub are."""

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> dict[str, Any]:
        if len(study.directions) > 1:
            raise ValueError("this sampler has one objective\nand says so at length")
        return super().sample_relative(study, trial, search_space)


class NeedsMore(RandomSampler):
    def __init__(self, table: str) -> None:
        super().__init__()


ALL = [FRONT, "auto", *NAMED, f"{__name__}:Own", f"{__name__}:Seedless", "optuna.samplers:QMCSampler"]


def count(sampler: str) -> int:
    return FEWER if sampler == "gp" else PROPOSALS


def proposals(sampler: str, objectives: tuple[Objective, ...] = OBJECTIVES, **more: Any) -> list[Proposal]:
    of = space("seeds=1", *(LISTS if sampler == "grid" else RANGES[:1] if sampler == FRONT else RANGES))
    design = of.grid() if sampler == "grid" else None
    one = searcher(of, count(sampler), sampler=sampler, objectives=objectives, design=design, **more)
    run(one, at_once=2)
    assert one.exhausted
    assert not [trial for trial in one.study.trials if trial.state == optuna.trial.TrialState.RUNNING]
    for proposal in one.proposals:
        for name, distribution in of.distributions.items():
            assert distribution._contains(distribution.to_internal_repr(proposal.params[name])), name
    return one.proposals


@pytest.mark.parametrize("sampler", ALL)
def test_contract(sampler: str) -> None:
    found = proposals(sampler)
    assert len(found) == count(sampler)
    ids = [proposal.configs[0].trial_id for proposal in found]
    assert len(set(ids)) == count(sampler)
    assert found[0].dense
    if sampler in (FRONT, "grid"):  # where the learning rate is open a dense model with another is another
        assert sum(proposal.dense for proposal in found) == 1
    assert [one.params for one in proposals(sampler)] == [one.params for one in found]


@pytest.mark.parametrize("sampler", sorted({FRONT, *NAMED} - {"grid", "gp"}))
def test_another_seed_proposes_otherwise(sampler: str) -> None:
    first, other = proposals(sampler, seed=0), proposals(sampler, seed=1)
    assert [one.params for one in first] != [one.params for one in other]


@pytest.mark.parametrize("sampler", [one for one in ALL if one != FRONT])
def test_a_single_objective(sampler: str) -> None:
    assert len(proposals(sampler, SPARSITY, baselines=none_wanted())) == count(sampler)


def test_a_grid_is_walked_in_its_order_and_ends() -> None:
    of = space("seeds=1", *LISTS)
    one = searcher(of, 10**6, sampler="grid", design=of.grid())
    run(one)
    assert len(one.proposals) == 1 + 5 * 3
    assert [dict(proposal.params) for proposal in one.proposals] == of.grid()
    assert {trial.state for trial in one.study.trials} <= {
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.FAIL,  # what was tried to find more
    }


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bayes", "sampler = bayes; allowed: auto, front, tpe, gp, nsga2, nsga3, random, grid, or my_module:MySampler"),
        ("nowhere:Own", "sampler = nowhere:Own: cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        (":Own", "sampler = :Own: cannot be imported"),
        (f"{__name__}:", "cannot be imported"),
        (f"{__name__}:Missing", "cannot be imported"),
        (f"{__name__}:proposals", "not a sampler; allowed: a class derived from optuna.samplers.BaseSampler"),
        ("pathlib:Path", "sampler = pathlib:Path: not a sampler"),
        ("broken_module:Own", "cannot be imported (NameError: name 'undefined' is not defined)"),
        (
            f"{__name__}:OneObjective",
            "fails with 2 objectives (ValueError: this sampler has one objective) (test_samplers.py, line ",
        ),
        (f"{__name__}:NeedsMore", "fails with 2 objectives (TypeError: "),
        ("optuna.samplers:CmaEsSampler", "fails with 2 objectives"),
        ("optuna.samplers:BaseSampler", "fails with 2 objectives (TypeError: "),
    ],
)
def test_bad_input_is_one_line(name: str, said: str, module_folder: Path) -> None:
    (module_folder / "broken_module.py").write_text("undefined\n")
    with pytest.raises(BadInput) as caught:
        find_sampler(name, space(), OBJECTIVES)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_auto_looks_along_lambda_where_nothing_else_is_open() -> None:
    alone = space("seeds=1", *RANGES[:1])
    assert type(find_sampler("auto", alone, OBJECTIVES)(0)) is type(make_front_sampler(OBJECTIVES, (), 0))
    for of, objectives in ((space(*RANGES), OBJECTIVES), (alone, SPARSITY)):
        assert isinstance(find_sampler("auto", of, objectives)(0), optuna.samplers.TPESampler)
        with pytest.raises(
            BadInput, match=r"sampler = front: .*; allowed: two or more objectives over lambda or target_macs alone"
        ):
            find_sampler(FRONT, of, objectives)


def test_a_sampler_for_one_objective_is_taken_for_one() -> None:
    make = find_sampler(f"{__name__}:OneObjective", space(), SPARSITY)
    assert isinstance(make(0), BaseSampler)

"""A search that is interrupted anywhere continues as if it had not been: no trial twice, nothing left running."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from mtl.config import TrialConfig
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.store.results import TrialResult, stopped_result
from search.tuning.samplers import STARTUP, quiet
from search.tuning.searcher import LambdaSearcher
from search.tuning.space import SearchSpace
from tests.support.made_up_search import OBJECTIVES, PRIMARIES, baselines, result, run, searcher, space, summary, well

quiet()
RANGE = "search_space.lambda=[1e-3, 10]"
PROPOSALS = 8
HALVED = (Objective("group_sparsity", "maximize"),)


class ListJournal(BaseJournalBackend):
    """A journal in memory, which can be cut anywhere."""

    def __init__(self, logs: list[str]) -> None:
        self.logs = logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from [json.loads(line) for line in self.logs[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += [json.dumps(log) for log in logs]


class Recorded:
    """A search whose journal and results are kept with when they came, so that it can be broken off at any line."""

    def __init__(self, of: SearchSpace, logs: list[str], known: dict[str, TrialResult], **more: Any) -> None:
        self.journal = ListJournal(list(logs))
        self.known, self.moments = dict(known), [(0, one) for one in known.values()]
        study = optuna.create_study(
            storage=JournalStorage(self.journal), study_name="one", directions=["maximize"] * 2, load_if_exists=True
        )
        self.ran: list[str] = []
        self.searcher: LambdaSearcher = searcher(of, in_study=study, known=known, on_dropped=self.keep, **more)

    def keep(self, found: TrialResult) -> None:
        """Keep a result as the store does: before the study is told."""
        self.moments.append((len(self.journal.logs), found))
        self.known[found.config.trial_id] = found

    def outcome(self, config: TrialConfig, of: Any = well) -> TrialResult:
        assert config.trial_id not in self.known, "a trial that has a result is run again"
        self.ran.append(config.trial_id)
        rows = [{"epoch": n, "seconds": 0.1, **of(config).metrics} for n in range(4)]
        for number, row in enumerate(rows):
            if config.trial_id not in self.searcher.baselines and not self.searcher.report(config, row):
                why = self.searcher.why_stopped(config)
                found = stopped_result(config, rows[: number + 1], "2026-01-01T00:00:00+00:00", why)
                break
        else:
            found = replace(of(config), history=tuple(rows))
        self.keep(found)
        return found

    def run(self, at_once: int = 1, of: Any = well) -> "Recorded":
        run(self.searcher, lambda config: self.outcome(config, of), at_once)
        return self

    def cuts(self) -> Iterator[tuple[int, dict[str, TrialResult]]]:
        """Each line of the journal at which a driver may have died, and the results that there were."""
        for line in range(1, len(self.journal.logs) + 1):
            yield line, {one.config.trial_id: one for moment, one in self.moments if moment <= line}


def fails_at_times(config: TrialConfig) -> TrialResult:
    """Some trials of proposals fail, of some λ all are far worse; which does not hang on how trials are named."""
    found = well(config)
    proposed = len(config.tasks) > 1 and config.strength > 0
    about = f"{config.combination} {config.penalty} {config.strength} {config.lr} {config.seed}"
    if proposed and zlib.adler32(about.encode()) // 8 % 8 == 0:
        return result(config, "failed", error="out of memory")
    worse = proposed and round(1e5 * config.strength) % 3 == 0
    return result(config, **{name: value - 5 * worse for name, value in found.metrics.items()})


def is_half_drawn(logs: list[str], names: int) -> bool:
    """Whether the sampler has drawn some parameters of a proposal: then it draws others for the rest, as good ones."""
    if len(logs) < 2:
        return False
    last = optuna.load_study(storage=JournalStorage(ListJournal(logs)), study_name="one").trials[-1:]
    running = [one for one in last if one.state == TrialState.RUNNING and "fixed_params" not in one.system_attrs]
    return any(0 < len(one.params) < names for one in running)


def halving() -> SuccessiveHalving:
    return SuccessiveHalving(HALVED, dict.fromkeys(PRIMARIES, HALVED[0]), 1, 2)


@pytest.mark.parametrize(
    ("sampler", "sets", "more", "said"),
    [
        ("random", ["seeds=3", RANGE, "search_space.lr=[1e-3, 2e-2]"], {}, "dropped: dominated"),
        ("tpe", ["seeds=2", RANGE, "search_space.penalty=group_lasso,l1"], {}, "failed: out of memory"),
        ("random", ["seeds=2", RANGE], {"halving": halving}, "stopped early"),
        ("random", ["seeds=2", RANGE, "search_space.combination=segmentation+depth,depth"], {}, ""),
    ],
)  # fmt: skip
def test_broken_off_at_any_line_it_goes_on_as_the_unbroken_one(
    sampler: str, sets: list[str], more: Any, said: str
) -> None:
    of = space(*sets)
    settings = {"sampler": sampler, "proposals": PROPOSALS, **more}
    whole = Recorded(of, [], {}, **settings).run(of=fails_at_times)
    expected = summary(whole.searcher.proposals)
    noted = " ".join(note for _, _, _, note, *_ in expected)
    assert said in noted
    half_drawn = {line for line, _ in whole.cuts() if is_half_drawn(whole.journal.logs[:line], len(of.names))}
    assert len(half_drawn) == (PROPOSALS - STARTUP) * (len(of.names) - 1)  # of the proposals that were not laid out
    for line, known in whole.cuts():
        again = Recorded(of, whole.journal.logs[:line], known, **settings).run(of=fails_at_times)
        if line in half_drawn:
            assert len(again.searcher.proposals) == len(whole.searcher.proposals)
            continue
        assert summary(again.searcher.proposals) == expected, f"broken off after line {line} of the journal"
        assert set(again.ran).isdisjoint(known)
        assert again.ran == whole.ran[len(whole.ran) - len(again.ran) :]
        found = [trial.state for trial in again.searcher.study.trials]
        assert TrialState.RUNNING not in found


@pytest.mark.parametrize(
    "sets", [["search_space.lambda=[1e-3, 1e-2, 0.1, 1]", "search_space.penalty=group_lasso,l1"], [RANGE]]
)
def test_broken_off_with_several_at_once(sets: list[str]) -> None:
    """Which of them ends first decides what is proposed next, but never that a trial runs twice or is lost."""
    of = space("seeds=2", *sets)
    settings = {"proposals": 9, "sampler": "nsga2"}
    whole = Recorded(of, [], {}, **settings).run(at_once=5, of=fails_at_times)
    for line, known in list(whole.cuts())[::6]:
        again = Recorded(of, whole.journal.logs[:line], known, **settings).run(at_once=5, of=fails_at_times)
        assert len(set(again.ran)) == len(again.ran)
        proposals = again.searcher.proposals
        ids = [proposal.configs[0].trial_id for proposal in proposals]
        assert len(set(ids)) == len(ids) == 9
        assert sum(proposal.dense for proposal in proposals) == 1
        assert all(proposal.ended and proposal.state != "running" for proposal in proposals)
        assert TrialState.RUNNING not in [trial.state for trial in again.searcher.study.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_larger_number_extends_a_search_to_what_it_would_have_been(sampler: str) -> None:
    of = space("seeds=2", RANGE)
    whole = Recorded(of, [], {}, sampler=sampler, proposals=14).run()
    short = Recorded(of, [], {}, sampler=sampler, proposals=4).run()
    assert len(short.searcher.proposals) == 4
    same = Recorded(of, short.journal.logs, short.known, sampler=sampler, proposals=4).run()
    assert same.ran == []
    assert same.searcher.exhausted
    longer = Recorded(of, short.journal.logs, short.known, sampler=sampler, proposals=14).run()
    assert summary(longer.searcher.proposals) == summary(whole.searcher.proposals)
    assert short.ran + longer.ran == whole.ran


def test_early_stopping_remembers_what_earlier_runs_have_shown() -> None:
    of = space("seeds=1", RANGE)
    first = Recorded(of, [], {}, proposals=6).run()
    again = Recorded(of, first.journal.logs, first.known, proposals=7, halving=halving)
    config = again.searcher.next()
    assert config is not None
    assert not again.searcher.report(config, {"epoch": 0, "group_sparsity": -1.0})


def grid_results(of: SearchSpace, seeds: int, *strengths: float) -> dict[str, TrialResult]:
    """Of a sweep's trials of all tasks, with their baselines."""
    params = [of.dense_params | ({"lambda": value} if value else {}) for value in strengths]
    configs = [of.config(one, seed) for one in params for seed in range(seeds)]
    return {one.trial_id: well(one) for one in [*baselines(of).configs, *configs]}


def test_a_sweeps_results_become_told_trials() -> None:
    of = space("seeds=2", RANGE)
    known = grid_results(of, 2, 0.0, 0.01, 1.0) | grid_results(of, 1, 0.1)
    outside = of.config(of.dense_params | {"lambda": 1.0}, 0).model_copy(update={"strength": 20.0})
    known |= {one.trial_id: well(one) for seed in (0, 1) if (one := outside.model_copy(update={"seed": seed}))}
    one = Recorded(of, [], known, proposals=3)
    told = one.searcher.study.trials
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 3
    assert {trial.user_attrs["lambda"] for trial in told} == {0.0, 0.01, 1.0}
    assert [proposal.seeded for proposal in one.searcher.proposals] == [True] * 3
    one.run()
    proposals = one.searcher.proposals
    assert sum(not proposal.seeded for proposal in proposals) == 3, "they do not count as proposed"
    assert len({proposal.configs[0].trial_id for proposal in proposals}) == 6
    again = Recorded(of, one.journal.logs, one.known, proposals=3)
    assert summary(again.searcher.proposals) == summary(proposals)
    assert len(again.searcher.study.trials) == len(one.searcher.study.trials), "told twice"


def test_one_seed_of_a_sweep_is_not_run_again() -> None:
    of = space("seeds=2", "search_space.lambda=[1e-3, 1e-2, 0.1]")
    known = grid_results(of, 1, 0.0, 0.1)
    one = Recorded(of, [], known, proposals=4).run()
    assert set(one.ran).isdisjoint(known)
    dense = next(proposal for proposal in one.searcher.proposals if proposal.dense)
    assert (dense.state, len(dense.values)) == ("complete", 2)


def test_a_sweep_told_before_its_baselines_were_known_is_told_once_they_are() -> None:
    of = space("seeds=2", RANGE)
    ids = {config.trial_id for config in baselines(of).configs}
    known = {name: one for name, one in grid_results(of, 2, 0.01, 1.0).items() if name not in ids}
    one = Recorded(of, [], known, proposals=3).run()
    assert [proposal.configs[0].strength for proposal in one.searcher.proposals if proposal.seeded] == [0.01, 1.0]
    again = Recorded(of, one.journal.logs, one.known, proposals=3)
    assert summary(again.searcher.proposals) == summary(one.searcher.proposals)


def test_without_the_results_a_study_still_tells_what_it_was_told() -> None:
    """As when a search is continued without its --warm-start, or when two share a database."""
    of = space("seeds=2", RANGE)
    one = Recorded(of, [], grid_results(of, 2, 0.01), proposals=3).run()
    ids = {config.trial_id for config in baselines(of).configs}
    left = {name: found for name, found in one.known.items() if name in ids}
    again = Recorded(of, one.journal.logs, left, proposals=3)
    assert again.searcher.exhausted
    for before, after in zip(one.searcher.proposals, again.searcher.proposals, strict=True):
        assert after.state == before.state == "complete"
        assert after.means() == pytest.approx(before.means())
        assert after.deviations() == pytest.approx(before.deviations())
        assert {objective.column for objective in OBJECTIVES} <= set(after.means())

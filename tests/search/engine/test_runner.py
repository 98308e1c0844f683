"""Trials in this process: what the listener is told, who is stopped, and what ends a run."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mtl.config import TrialConfig
from mtl.vocabulary.files import CHECKPOINT, trial_file
from search.engine.runner import LocalRunner
from search.engine.source import ListedTrials
from search.listener import Listener
from search.recipe_file import load_recipe
from search.store.errors import SweepStopped
from search.store.results import TrialResult, read_result
from search.sweep import Sweep, open_sweep
from tests.support.in_process import TINY


class Log(Listener):
    """What it is told, in order: a trial's λ with the epochs of its rows, or with its status."""

    def __init__(self) -> None:
        self.told: list[tuple[float, object]] = []

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        self.told.append((config.strength, [row["epoch"] for row in rows]))

    def ended(self, result: TrialResult) -> None:
        self.told.append((result.config.strength, result.status))


class StopAfterOne:
    """Lets dense trials alone, and stops the others after their first epoch."""

    def __init__(self) -> None:
        self.recorded: list[float] = []

    def record(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        self.recorded.append(config.strength)

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        return config.strength == 0

    def why_stopped(self, config: TrialConfig) -> str:
        return "stopped by the test"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two trials of two epochs."""
    return open_sweep(load_recipe("rooms", [*TINY, "epochs=2"]), str(tmp_path), "s", None)


def run(sweep: Sweep, listener: Listener, policy: StopAfterOne | None = None) -> None:
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs, policy), listener)


def test_each_epoch_and_each_end_is_told_once(sweep: Sweep) -> None:
    log = Log()
    run(sweep, log)
    assert log.told == [(0, [0]), (0, [1]), (0, "done"), (1e-2, [0]), (1e-2, [1]), (1e-2, "done")]


def test_a_trial_that_the_policy_stops_has_a_result_that_says_why(sweep: Sweep) -> None:
    log, policy = Log(), StopAfterOne()
    run(sweep, log, policy)
    assert log.told == [(0, [0]), (0, [1]), (0, "done"), (1e-2, [0]), (1e-2, "stopped")]
    assert policy.recorded == [0], "of a trial's last epoch nothing is left to decide"
    written = read_result(sweep.store, sweep.configs[1].trial_id)
    assert written is not None
    assert (written.status, written.error, len(written.history)) == ("stopped", "stopped by the test", 1)


def test_an_interrupt_ends_the_run_after_the_epoch_and_the_trial_goes_on(sweep: Sweep) -> None:
    class Interrupt(Log):
        def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
            super().epochs(config, rows)
            os.kill(os.getpid(), signal.SIGINT)

    log = Interrupt()
    run(sweep, log)
    assert log.told == [(0, [0])]
    assert sweep.store.read(trial_file(sweep.configs[0].trial_id, CHECKPOINT)) is not None
    again = Log()
    run(sweep, again)
    # What a trial had run before it was resumed is told with its next epoch.
    assert again.told[:2] == [(0, [0, 1]), (0, "done")]


def test_a_listener_that_raises_ends_the_run(sweep: Sweep) -> None:
    class Lost(Log):
        def check(self) -> None:
            raise SweepStopped("taken over")

    log = Lost()
    with pytest.raises(SweepStopped, match="taken over"):
        run(sweep, log)
    assert log.told == []


def test_a_trial_that_starts_from_anothers_model_waits_until_that_has_ended(sweep: Sweep) -> None:
    dense, penalised = sweep.configs

    def step(before: TrialConfig) -> TrialConfig:
        new = {"compressor": "path", "strength": 0.0, "target_macs": 0.5, "warm_started_from": before.trial_id}
        return before.model_copy(update=new)

    first, stranger = step(dense), step(dense.model_copy(update={"seed": 9}))
    second = step(first)
    source = ListedTrials([second, first, dense, stranger, penalised])
    # What starts from a trial that this run does not have need not wait for it.
    assert [source.next(), source.next(), source.next(), source.next()] == [dense, stranger, penalised, None]
    for ended, freed in ((penalised, None), (dense, first), (first, second), (second, None)):
        assert not source.exhausted or ended == second
        source.ended(TrialResult(ended, "failed", "", ""))
        assert source.next() == freed
    assert source.exhausted

"""Trials that train together: which do, what is told about them, and what the death of their process means."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.limits import bytes_needed, check_memory
from mtl.packed import Pack
from mtl.vocabulary.files import CHECKPOINT, ERROR, trial_file
from search.engine.context import RunContext
from search.engine.pack import PackRun, Packs
from search.engine.ray_cluster import start_ray, stop_ray
from search.engine.ray_tune import TrialActor, run_on_tune
from search.engine.runner import LocalRunner
from search.engine.source import ListedTrials
from search.engine.trial import TrialRun
from search.forecast import forecast
from search.listener import Listener
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.store.results import TrialResult, read_result
from search.sweep import Sweep, open_sweep
from tests.support.commands import refused
from tests.support.in_process import TINY
from tests.support.small import TASKS, config

# At a higher rate Adam makes steps of rounding where gradients are next to nothing: see tests/mtl/test_packed.py.
SMALL = ["image_size=24", "backbone_width=4", "head_channels=4", "epochs=2", "lr=1e-4", "lambdas=0,1e-3,3e-3"]


def opened(storage: Path, *sets: str) -> Sweep:
    return open_sweep(load_recipe("rooms", [*TINY, *SMALL, *sets]), str(storage), "s", None)


class Log(Listener):
    """What it is told, in order: a trial's λ with the epochs of its rows, or with its status."""

    def __init__(self) -> None:
        self.told: list[tuple[float, object]] = []
        self.results: list[TrialResult] = []

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        self.told.append((config.strength, [row["epoch"] for row in rows]))

    def ended(self, result: TrialResult) -> None:
        self.told.append((result.config.strength, result.status))
        self.results.append(result)


def trials(*fields: dict[str, Any]) -> list[TrialConfig]:
    return [config(**one) for one in fields]


def strengths(packs: Packs) -> list[list[float]]:
    found = []
    while pack := packs.next():
        found.append([one.strength for one in pack])
    return found


def test_trials_that_can_train_together_make_packs_and_the_others_wait_in_their_order() -> None:
    listed = trials(
        {"strength": 1, "seed": 0},
        {"strength": 2, "tasks": ("depth",)},
        {"strength": 3, "seed": 5, "lr": 1e-2, "weight_decay": 0.1, "metric": "euclidean", "penalty": "group_mcp"},
        {"strength": 4, "head_channels": 4},
        {"strength": 5, "tasks": ("depth",)},
        {"strength": 6},
        {"strength": 7},
        {"strength": 8, "batch_size": 4},
        {"strength": 9, "retraining": "scratch"},
        {"strength": 10, "head_channels": 4},
    )
    packs = Packs(ListedTrials(listed), 3)
    assert strengths(packs) == [[1, 3, 6], [2, 5], [4, 10], [7], [8], [9]]
    assert packs.exhausted
    assert strengths(Packs(ListedTrials(listed), 1)) == [[one.strength] for one in listed]


def test_no_trial_is_in_a_pack_with_the_trial_that_it_starts_from() -> None:
    dense = config(strength=0.0)
    path = {"compressor": "path", "strength": 0.0}
    first, other = (dense.model_copy(update={"seed": seed}) for seed in (0, 1))
    steps = [
        one.model_copy(update=path | {"target_macs": 0.5, "warm_started_from": one.trial_id}) for one in (first, other)
    ]
    source = ListedTrials([first, steps[0], other, steps[1]])
    packs = Packs(source, 4)
    assert packs.next() == [first, other]
    assert packs.next() == []
    assert not packs.exhausted
    for one in (first, other):
        source.ended(TrialResult(one, "failed", "", ""))
    assert packs.next() == steps
    assert packs.exhausted


class Few(ListedTrials):
    """Counts the trials that are asked for."""

    ahead, asked = 1, 0

    def next(self) -> TrialConfig | None:
        self.asked += 1
        return super().next()


def test_a_search_is_asked_for_no_more_than_a_pack_of_trials_ahead() -> None:
    source = Few(trials(*({"strength": n, "head_channels": n} for n in range(1, 20))))
    packs = Packs(source, 4)
    assert [one.strength for one in packs.next()] == [1]
    assert source.asked == 1 + 4


@pytest.fixture(scope="module")
def singly(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The sweep without packs, done."""
    sweep = opened(tmp_path_factory.mktemp("singly"), "seeds=2")
    run_sweep(sweep, LocalRunner())
    return sweep


def same_numbers(some: Sweep, others: Sweep, without: str = "") -> bool:
    for one in others.configs:
        if one.trial_id == without:
            continue
        results = [read_result(sweep.store, one.trial_id) for sweep in (some, others)]
        a, b = results
        assert a is not None
        assert b is not None
        assert (a.status, b.status) == ("done", "done")
        losses = [name for name in a.history[0] if name.endswith("_loss")]
        tables = [pd.DataFrame(result.history)[losses] for result in (a, b)]
        pd.testing.assert_frame_equal(*tables, rtol=1e-4, check_exact=False)
        assert a.metrics["test_depth_mae"] == pytest.approx(b.metrics["test_depth_mae"], rel=1e-4)
        assert a.metrics["macs"] == b.metrics["macs"]
    return True


def test_a_packed_sweep_is_the_sweep(singly: Sweep, tmp_path: Path) -> None:
    sweep, log = opened(tmp_path, "pack=8"), Log()
    assert [one.trial_id for one in sweep.configs] == [one.trial_id for one in singly.configs[:3]]
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs), log)
    every = (0.0, 1e-3, 3e-3)
    # All three go an epoch, and then the next.
    ends = [told for strength in every for told in ((strength, [1]), (strength, "done"))]
    assert log.told == [*((strength, [0]) for strength in every), *ends]
    assert same_numbers(singly, sweep)


def test_an_interrupted_pack_goes_on_and_may_be_another(singly: Sweep, tmp_path: Path) -> None:
    class Interrupt(Log):
        def check(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    sweep, log = opened(tmp_path, "pack=2"), Interrupt()
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs), log)
    assert log.told == [(0.0, [0]), (1e-3, [0])]
    assert sweep.store.read(trial_file(sweep.configs[1].trial_id, CHECKPOINT)) is not None
    again = Log()
    sweep = opened(tmp_path, "pack=3")
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs), again)
    assert again.told[:4] == [(0.0, [0, 1]), (0.0, "done"), (1e-3, [0, 1]), (1e-3, "done")]
    assert same_numbers(singly, sweep)


def test_a_failing_trial_of_a_pack_is_tried_again_and_the_others_go_on(
    singly: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, failures = TrialRun._start, [0]

    def sometimes(self: TrialRun) -> Any:
        if self.config.strength == 1e-3 and failures[0] < 1:
            failures[0] += 1
            raise ValueError("a cosmic ray")
        return begin(self)

    monkeypatch.setattr(TrialRun, "_start", sometimes)
    sweep, log = opened(tmp_path, "pack=3", "max_retries=1"), Log()
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs), log)
    assert failures == [1]
    assert same_numbers(singly, sweep)
    failures[0] = -9
    sweep, log = opened(tmp_path / "b", "pack=3", "max_retries=1"), Log()
    with LocalRunner().started(sweep.context) as run_trials:
        run_trials(ListedTrials(sweep.configs), log)
    assert {one.config.strength: one.status for one in log.results} == {0: "done", 1e-3: "failed", 3e-3: "done"}
    assert (
        next(one for one in log.results if one.status == "failed").error == "ValueError: a cosmic ray (tried 2 times)"
    )


def test_trials_of_a_pack_share_its_seconds(tmp_path: Path) -> None:
    sweep = opened(tmp_path, "pack=3")
    runs = [TrialRun(one, sweep.context) for one in sweep.configs]
    pack = PackRun(runs)
    while pack.left:
        pack.step()
    assert len({run.clock for run in runs}) == 1
    shared = runs[0].clock.__self__  # type: ignore[attr-defined]
    assert isinstance(shared, Pack)
    assert shared.fused
    assert 0 < max(run.train_seconds for run in runs) <= shared.clock()
    assert [run.together for run in runs] == [3, 3, 3]


DEADLY = (1e-3, 0)  # λ and seed


class Deadly(TrialActor):
    """One of its trials ends the process after its first epoch."""

    def make_run(self, trial: TrialConfig, context: RunContext) -> Any:
        run = super().make_run(trial, context)
        if (trial.strength, trial.seed) == DEADLY:
            begin = run._start

            def start() -> Any:
                training = begin()
                epoch, run_epoch = training.epoch, training.run_epoch

                def deadly(usual: Any) -> Any:
                    return os._exit(3) if training.epochs_run else usual()

                training.epoch, training.run_epoch = (lambda: deadly(epoch)), (lambda: deadly(run_epoch))
                return training

            run._start = start
        return run


def test_on_ray_a_packed_sweep_is_the_sweep_and_only_the_trial_that_ends_its_process_fails(
    singly: Sweep, tmp_path: Path
) -> None:
    sweep, log = opened(tmp_path, "seeds=2", "pack=3", "checkpoint_seconds=0", "max_retries=0"), Log()
    start_ray("local", 1, 0, None)  # never a Ray that runs on this machine: it is another's, and may end at any time
    try:
        run_on_tune(sweep.context, ListedTrials(sweep.configs), log, Deadly)
    finally:
        stop_ray()
    dead = next(one for one in sweep.configs if (one.strength, one.seed) == DEADLY)
    assert same_numbers(singly, sweep, without=dead.trial_id)
    failed = [one for one in log.results if one.status == "failed"]
    assert [one.config for one in failed] == [dead]
    assert failed[0].error.startswith("its process ended")
    assert (sweep.store.read(trial_file(dead.trial_id, ERROR)) or b"").startswith(b"The actor died")
    # Told once each; the second epoch after the death goes on from the checkpoint of the first.
    assert sorted(one.config.trial_id for one in log.results) == sorted(one.trial_id for one in sweep.configs)


def test_what_stops_single_trials_does_not_go_with_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = ["--set", "pack=4", "--set", "early_stopping=asha"]
    line = refused(["sweep", "rooms", "--address", "local", *sets], capsys)
    assert "pack = 4 with early_stopping = asha; allowed: pack = 1, or early_stopping = none" in line
    line = refused(["search", "rooms", "--trials", "3", "--address", "local", "--set", "pack=4"], capsys)
    assert "pack = 4 with racing = true; allowed: pack = 1, or racing = false" in line
    assert list(tmp_path.iterdir()) == []


def test_a_forecast_and_the_check_of_memory_are_of_whole_packs(tmp_path: Path) -> None:
    line = forecast(opened(tmp_path, "pack=3"), here=True)[-1]
    assert line.startswith("each pack of 3 trials takes 1 of the CPU's cores and about ")
    one = bytes_needed(config(), TASKS, 24)
    check_memory(config(), TASKS, 24, 3 * one, pack=3)
    with pytest.raises(BadInput, match=r"^a pack of 4 trials of resnet18 with .* allowed: at most"):
        check_memory(config(), TASKS, 24, 3 * one, pack=4)

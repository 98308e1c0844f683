"""The replay behind `python -m benchmarks.search`: its accounts, worked out by hand on a made-up recording."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.search_peers import Grid, Random, Stock
from benchmarks.search_recording import Recording, log_grid, read_recording, write_table
from benchmarks.search_replay import Replay, Snap, smallest_share
from mtl.config import TrialConfig
from search.store.results import TrialResult

JOINT = "depth+normals"
# delta_m and group sparsity in the end. With the corner (-1, 0) 0.01 adds 0.9 x 0.5 and 1 adds 0.5 x (1 - 0.5): 0.7.
ENDS = {0.0: (0.0, 0.0), 0.01: (-0.1, 0.5), 0.1: (-0.2, 0.5), 1.0: (-0.5, 1.0)}
WHOLE = 0.7


def replay_of(recording: Recording, slots: int = 2) -> Replay:
    return Replay(recording, slots, corner=(-1.0, 0.0))


def made_up(seeds: int = 2, epochs: int = 2) -> Recording:
    """Seeds differ by ±0.05 in delta_m; an epoch before the last is worse by 0.2 in it."""
    config = TrialConfig(
        dataset="rooms",
        image_size=(16, 16),
        backbone="resnet18",
        epochs=epochs,
        tasks=("depth",),
        strength=0,
        seed=0,
        data_version="",
    )
    rows = {}
    for strength, (delta_m, sparsity) in ENDS.items():
        for seed in range(seeds):
            off = 0.05 * (2 * seed - 1)
            rows[JOINT, strength, seed] = [
                {
                    "epoch": float(epoch),
                    "delta_m": delta_m + off - 0.2 * (epoch < epochs - 1),
                    "group_sparsity": sparsity,
                    "seconds": 1.0,
                    "val_depth_mae": 1.0,
                    "val_normals_cos": 0.5,
                    "val_depth_loss": 1.0,
                }
                for epoch in range(epochs)
            ]
    for task in ("depth", "normals"):
        for seed in range(seeds):
            rows[task, 0.0, seed] = rows[JOINT, 0.0, seed]
    settings = config.model_dump(mode="json", exclude={"tasks", "strength", "seed"})
    return Recording(
        settings,
        rows,
        dict.fromkeys(rows, epochs - 1),
        {"depth": "depth_mae", "normals": "normals_cos"},
        {"depth_mae": False, "normals_cos": True},
    )


class Scripted:
    """These trials in this order, and no trial further than `stop_after` epochs."""

    def __init__(self, configs: Sequence[TrialConfig], stop_after: int = 99) -> None:
        self._left, self._stop_after = deque(configs), stop_after
        self.results: list[TrialResult] = []

    @property
    def done(self) -> bool:
        return not self._left

    def next(self) -> TrialConfig | None:
        return self._left.popleft() if self._left else None

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        return row["epoch"] + 1 < self._stop_after

    def ended(self, result: TrialResult) -> None:
        self.results.append(result)


def trials(recording: Recording, *lambdas: float) -> list[TrialConfig]:
    return [recording.config(strength, seed) for strength in lambdas for seed in recording.seeds]


def test_the_whole_grid_has_the_volume_of_its_mean_front() -> None:
    replay = replay_of(made_up())
    assert replay.whole == pytest.approx(WHOLE)
    assert replay.grid_epochs == 4 * 2 * 2
    assert replay.volume({0.1, 1.0}) == pytest.approx(0.8 * 0.5 + 0.25)
    assert replay.volume({0.0}) == 0
    # By default the corner is the Δm of the model without a group, which is -0.5.
    assert Replay(made_up(), corner=(-0.5, 0.0)).whole == Replay(made_up()).whole == pytest.approx(0.4 * 0.5)


def test_epochs_are_counted_as_they_run_and_a_proposal_once_all_its_seeds_have_ended() -> None:
    recording = made_up()
    track = replay_of(recording, slots=2).run(Scripted(trials(recording, 0.011, 1.0)))
    assert track.steps == [(4, pytest.approx(0.45 / WHOLE)), (8, pytest.approx(1.0))]
    assert (track.epochs, track.trials, track.stopped) == (8, 4, 0)
    assert track.epochs_to(0.6) == 4
    assert track.epochs_to(0.99) == 8


def test_slots_run_side_by_side() -> None:
    recording = made_up()
    configs = trials(recording, 1.0, 0.01)
    # Three slots: both seeds of 1 end in the second step, beside them two epochs of the first seed of 0.01.
    assert replay_of(recording, slots=3).run(Scripted(configs)).steps[0] == (5, pytest.approx(0.5 / WHOLE))
    assert replay_of(recording, slots=1).run(Scripted(configs)).steps[0] == (4, pytest.approx(0.5 / WHOLE))


def test_one_seed_is_not_enough() -> None:
    recording = made_up()
    track = replay_of(recording).run(Scripted([recording.config(1.0, 0), recording.config(0.01, 1)]))
    assert (track.steps, track.epochs) == ([], 4)
    assert track.epochs_to(0.1) == float("inf")


def test_two_proposals_of_the_same_recorded_lambda_cost_twice_and_do_not_make_up_for_each_others_seeds() -> None:
    recording = made_up()
    track = replay_of(recording).run(Scripted(trials(recording, 1.0, 0.9)))
    assert track.epochs == 8
    assert len(track.steps) == 1
    track = replay_of(recording).run(Scripted([recording.config(1.0, 0), recording.config(0.9, 1)]))
    assert track.steps == []


def test_a_stopped_trial_costs_what_it_ran_and_counts_for_nothing() -> None:
    recording = made_up()
    strategy = Scripted(trials(recording, 1.0), stop_after=1)
    track = replay_of(recording).run(strategy)
    assert (track.epochs, track.stopped, track.steps) == (2, 2, [])
    assert [(result.status, len(result.history)) for result in strategy.results] == [("stopped", 1)] * 2


def test_baselines_cost_nothing() -> None:
    recording = made_up()
    baseline = recording.config(0, 0).model_copy(update={"tasks": ("depth",)})
    strategy = Scripted([baseline, *trials(recording, 1.0)])
    assert replay_of(recording, slots=1).run(strategy).steps == [(4, pytest.approx(0.5 / WHOLE))]
    assert strategy.results[0].config == baseline


def test_a_result_is_of_the_chosen_epoch() -> None:
    recording = made_up()
    for seed in recording.seeds:
        recording.chosen[JOINT, 1.0, seed] = 0  # type: ignore[index]
    replay, strategy = replay_of(recording), Scripted(trials(recording, 1.0))
    assert replay.means[1.0] == pytest.approx([-0.7, 1.0])
    replay.run(strategy)
    assert strategy.results[0].metrics == pytest.approx(
        {"delta_m": -0.75, "group_sparsity": 1.0, "val_depth_mae": 1.0, "val_normals_cos": 0.5}
    )


def test_a_replay_ends_where_it_is_told_to() -> None:
    recording = made_up()
    configs = trials(recording, 1.0, 0.01, 0.1)
    assert replay_of(recording).run(Scripted(configs), share=0.7).epochs == 4
    assert replay_of(recording).run(Scripted(configs), limit=5).epochs == 6


def test_a_strategy_that_waits_for_nothing_is_an_error() -> None:
    class Waiting(Scripted):
        done = False

    with pytest.raises(RuntimeError, match="nothing runs"):
        replay_of(made_up()).run(Waiting([]))


@pytest.mark.parametrize(
    ("strength", "recorded"),
    [(0.0, 0.0), (0.0099, 0.0), (0.01, 0.01), (0.0316, 0.01), (0.0317, 0.1), (0.5, 1.0), (30.0, 1.0)],
)
def test_a_proposal_stands_for_the_nearest_recorded_lambda(strength: float, recorded: float) -> None:
    assert Snap([0.0, 0.01, 0.1, 1.0])(strength) == recorded


def test_the_fewest_lambdas_that_have_a_share() -> None:
    replay = replay_of(made_up())
    assert smallest_share(replay, 0.5 / WHOLE - 1e-9) == 1
    assert smallest_share(replay, 0.5 / WHOLE + 1e-9) == 2
    assert smallest_share(replay, 0.99) == 2


def test_peers_train_each_proposal_with_every_seed_and_are_the_same_for_the_same_seed() -> None:
    recording = made_up()
    replay = replay_of(recording)
    assert replay.run(Grid(recording, 0), share=2).epochs == replay.grid_epochs
    for peer in (Grid, Random, Stock):
        strategies = [peer(recording, seed) for seed in (3, 3, 4)]
        proposed = []
        for strategy in strategies:
            seen = []
            for _ in range(8):
                config = strategy.next()
                assert config is not None
                seen.append((config.strength, config.seed))
                strategy.ended(TrialResult(config, "done", "", "", metrics=dict(recording.result(1.0, 0))))
            proposed.append(seen)
        assert proposed[0] == proposed[1]
        assert proposed[0] != proposed[2]
        assert [seed for _, seed in proposed[0]] == [0, 1] * 4
        assert len({strength for strength, _ in proposed[0]}) == 4


def test_a_recording_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    recording = made_up()
    table = pd.DataFrame(
        [
            {"tasks": tasks, "lambda": strength, "seed": seed, "chosen": row["epoch"] == 1} | dict(row)
            for (tasks, strength, seed), rows in recording.rows.items()
            for row in rows
        ]
    )
    about = {name: getattr(recording, name) for name in ("settings", "primaries", "maximize")}
    write_table(table, about, tmp_path / "some.parquet")
    again = read_recording(tmp_path / "some.parquet")
    assert again.chosen == recording.chosen
    assert again.settings == recording.settings
    assert again.config(1.0, 1) == recording.config(1.0, 1)
    assert again.rows.keys() == recording.rows.keys()
    assert again.rows[JOINT, 1.0, 1][1] == pytest.approx(recording.rows[JOINT, 1.0, 1][1])


def test_the_grid_starts_at_zero_and_is_even_in_the_logarithm() -> None:
    assert log_grid(1e-3, 1, 4) == [0, 1e-3, 1e-2, 1e-1, 1]

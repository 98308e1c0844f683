"""Which trials go on: by hand, against Ray's own scheduler, against brute force, and by what must always hold."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.objectives.metrics import METRICS
from mtl.vocabulary.objective import Objective
from search.early_stopping.objectives import check_running, objective_costs, parse_objectives, running_delta_m
from search.early_stopping.pareto_order import pareto_order
from search.early_stopping.policy import stays
from search.early_stopping.successive_halving import SuccessiveHalving
from tests.support.small import config

MAE = Objective("val_depth_mae", "minimize")
MIOU = Objective("val_segmentation_miou", "maximize")
COSINE = Objective("val_normals_cos", "maximize")
DELTA_M = Objective("delta_m", "maximize")
SPARSITY = Objective("group_sparsity", "maximize")
PRIMARIES = {"depth": MAE, "segmentation": MIOU}

small_numbers = st.integers(-4, 4).map(float)


def points(objectives: int) -> st.SearchStrategy[np.ndarray]:
    """Few values, so that there are ties and duplicates."""
    row = st.tuples(*[small_numbers] * objectives)
    return st.lists(row, min_size=1, max_size=14).map(lambda rows: np.array(rows, dtype=float))


def trial(number: int, tasks: tuple[str, ...] = ("depth",), strength: float = 1e-3) -> TrialConfig:
    return config(tasks=tasks, seed=number, strength=strength)


def mae_row(mae: float, epochs: int = 1, **columns: float) -> dict[str, float]:
    return {"epoch": epochs - 1, "val_depth_mae": mae, **columns}


def halving(*objectives: Objective, grace_epochs: int = 1, reduction_factor: int = 2) -> SuccessiveHalving:
    return SuccessiveHalving(objectives or (MAE,), PRIMARIES, grace_epochs, reduction_factor)


def compressed(target: float) -> TrialConfig:
    return config(tasks=("depth",), strength=0, compressor="selection", target_macs=target)


class TestTargets:
    def test_compressed_trials_stand_at_lambda_0_and_are_stopped_nevertheless(self) -> None:
        policy = halving(MAE)
        assert policy.report(compressed(0.5), mae_row(1.0))
        assert not policy.report(compressed(0.25), mae_row(2.0))
        assert policy.report(trial(1, strength=0), mae_row(9.0)), "the dense model is not"

    def test_the_target_stands_for_the_cost(self) -> None:
        cost = parse_objectives(["model_macs"], {})
        policy = halving(*cost)
        assert policy.report(compressed(0.5), mae_row(1.0))
        assert policy.report(compressed(0.25), mae_row(9.0))
        assert not policy.report(compressed(0.75), mae_row(0.1))
        both = halving(MAE, *cost)
        both.record(trial(1, strength=0), mae_row(1.0))  # the dense model, which costs all
        assert both.report(compressed(0.5), mae_row(1.1))
        assert not both.report(compressed(0.6), mae_row(1.2)), "dominated"
        assert both.report(compressed(0.2), mae_row(1.05))

    def test_costs_are_objectives_of_running_trials_only_where_targets_tell_them(self) -> None:
        check_running(["delta_m", "model_macs"], cost_follows=True)
        for columns, follows in ((["model_macs"], False), (["macs"], True), (["model_parameters"], True)):
            with pytest.raises(BadInput, match=f"'{columns[0]}' is known only of a trial that is done; allowed"):
                check_running(columns, cost_follows=follows)


class TestParetoOrder:
    def test_one_objective_is_sorting(self) -> None:
        assert pareto_order(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [2, 0, 1, 0]

    def test_epsilon_net_by_hand(self) -> None:
        # The front's range is 8 x 4; scaled, the points are (0, 1), (1/8, 3/4), (1/2, 1/4), (1, 0), far off (2, 2).
        # From (0, 1), the best in the first objective, (1, 0) is the farthest. Then (1/8, 3/4) is 0.28 from the nearest
        # of the two and (1/2, 1/4) 0.56, so it is third. (16, 8) is dominated.
        costs = np.array([[16.0, 8.0], [1.0, 3.0], [0.0, 4.0], [4.0, 1.0], [8.0, 0.0]])
        assert pareto_order(costs).tolist() == [4, 3, 0, 2, 1]

    def test_a_bad_point_does_not_squeeze_the_front(self) -> None:
        costs = np.array([[0.0, 4.0], [0.5, 1.0], [3.0, 0.5], [4.0, 0.0], [4.0, 1e6]])
        # By the front's own range (0.5, 1) and (3, 0.5) are 0.76 and 0.28 from the nearest end. With the bad point in
        # the scale the second objective would be flat, and they 0.125 and 0.25.
        assert pareto_order(costs).tolist() == [0, 2, 3, 1, 4]

    def test_what_is_not_finite_shares_the_last_place(self) -> None:
        costs = np.array([[math.nan, 0.0], [1.0, 1.0], [0.0, math.inf], [5.0, 5.0]])
        assert pareto_order(costs).tolist() == [2, 0, 2, 1]
        assert pareto_order(np.full((3, 2), math.nan)).tolist() == [0, 0, 0]

    def test_points_closer_than_floats_can_tell(self) -> None:
        costs = np.array([[-1.0, 1.0], [0.0, 1e-200], [1e-200, 0.0], [1.0, -1.0]])
        assert pareto_order(costs).tolist() == [0, 2, 3, 1]

    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    def test_fronts_are_those_of_brute_force(self, objectives: int) -> None:
        @settings(deadline=None, max_examples=60)
        @given(points(objectives))
        def check(costs: np.ndarray) -> None:
            places = pareto_order(costs)
            fronts = brute_force_fronts(costs)
            for i, j in itertools.product(range(len(costs)), repeat=2):
                if fronts[i] < fronts[j]:
                    assert places[i] < places[j]
                assert (places[i] == places[j]) == (costs[i] == costs[j]).all()

        check()

    @settings(deadline=None, max_examples=60)
    @given(
        points(3),
        st.lists(st.integers(-3, 3), min_size=3, max_size=3),
        st.lists(st.integers(-8, 8), min_size=3, max_size=3),
    )
    def test_units_do_not_count(self, costs: np.ndarray, powers: list[int], shifts: list[int]) -> None:
        # By powers of two and integers, which are exact in floating point.
        scaled = costs * 2.0 ** np.array(powers) + np.array(shifts)
        assert pareto_order(scaled).tolist() == pareto_order(costs).tolist()

    @settings(deadline=None, max_examples=60)
    @given(points(2), st.randoms())
    def test_rows_do_not_count(self, costs: np.ndarray, random: Any) -> None:
        rows = list(range(len(costs)))
        random.shuffle(rows)
        assert pareto_order(costs[rows]).tolist() == pareto_order(costs)[rows].tolist()


def brute_force_fronts(costs: np.ndarray) -> list[int]:
    """Fronts peeled off one by one, by the definition of dominance."""
    fronts = [-1] * len(costs)
    for front in itertools.count():
        left = [i for i in range(len(costs)) if fronts[i] < 0]
        if not left:
            return fronts
        for i in left:
            if not any((costs[j] <= costs[i]).all() and (costs[j] < costs[i]).any() for j in left):
                fronts[i] = front
    raise AssertionError


INFOS = {"depth_mae": METRICS["depth"]["mae"], "segmentation_miou": METRICS["segmentation"]["miou"]}


class TestObjectives:
    def test_columns_and_their_directions(self) -> None:
        columns = ["delta_m", "val_depth_mae", "parameter_sparsity"]
        assert parse_objectives(columns, INFOS) == (DELTA_M, MAE, Objective("parameter_sparsity", "maximize"))

    def test_less_of_what_a_backbone_or_a_whole_model_costs_is_better(self) -> None:
        columns = ["latency_ms", "macs", "active_parameters", "model_macs", "model_parameters", "model_latency_ms"]
        assert parse_objectives(columns, INFOS) == tuple(Objective(column, "minimize") for column in columns)

    def test_an_unknown_column_is_named_with_the_known_ones(self) -> None:
        with pytest.raises(
            BadInput, match=r"objectives: 'val_depth_miou'; allowed: delta_m, .*, val_depth_mae, val_seg"
        ):
            parse_objectives(["group_sparsity", "val_depth_miou"], INFOS)

    def test_costs_are_signed_and_missing_values_nan(self) -> None:
        rows = [{"val_depth_mae": 2.0, "group_sparsity": 0.5}, {"val_depth_mae": math.inf}]
        found = objective_costs(rows, [MAE, SPARSITY], [MAE])
        np.testing.assert_array_equal(found, [[2.0, -0.5], [math.nan, math.nan]])

    def test_delta_m_by_hand(self) -> None:
        rows = [
            {"val_depth_mae": 1.0, "val_segmentation_miou": 0.3},
            {"val_depth_mae": 3.0, "val_segmentation_miou": 0.1},
        ]
        # Means 2 and 0.2: depth changes by -50 % and +50 %, which is better in the first; mIoU by +50 % and -50 %.
        np.testing.assert_allclose(running_delta_m(rows, [MAE, MIOU]), [0.5, -0.5])

    def test_delta_m_without_a_reference_or_a_value(self) -> None:
        assert np.isnan(running_delta_m([{"val_normals_cos": -0.5}, {"val_normals_cos": 0.5}], [COSINE])).all()
        one_missing = running_delta_m([{"val_depth_mae": 1.0}, {}, {"val_depth_mae": 3.0}], [MAE])
        np.testing.assert_allclose(one_missing, [0.5, math.nan, -0.5])

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=2, max_size=10), st.integers(1, 9))
    def test_delta_m_ranks_as_against_a_dense_baseline(self, metrics: list[tuple[int, int]], ratio: int) -> None:
        # A baseline that is the rung's mean times the same number for both tasks.
        rows = [{"val_depth_mae": float(a), "val_segmentation_miou": b / 64} for a, b in metrics]
        mae, miou = (np.array([row[m.column] for row in rows]) for m in (MAE, MIOU))
        dense_mae, dense_miou = ratio * mae.mean(), ratio * miou.mean()
        true = ((dense_mae - mae) / dense_mae + (miou - dense_miou) / dense_miou) / 2
        running = running_delta_m(rows, [MAE, MIOU])
        for i, j in itertools.combinations(range(len(rows)), 2):
            if abs(true[i] - true[j]) > 1e-9:
                assert (true[i] < true[j]) == (running[i] < running[j])


class TestDecisions:
    def test_by_hand(self) -> None:
        ran = halving(reduction_factor=3)
        # With one to three records one trial goes on, with four records two.
        wanted = [(5.0, True), (6.0, False), (4.0, True), (4.5, True), (4.5, True), (4.6, False)]
        assert [ran.report(trial(n), mae_row(mae)) for n, (mae, _) in enumerate(wanted)] == [go for _, go in wanted]

    def test_rungs_are_at_grace_times_powers(self) -> None:
        ran = halving(grace_epochs=2, reduction_factor=3)
        stops = []
        for epochs in range(1, 60):
            assert ran.report(trial(0), mae_row(1.0, epochs))
            if not ran.report(trial(1), mae_row(2.0, epochs)):
                stops.append(epochs)
        assert stops == [2, 6, 18, 54]

    def test_no_trial_is_judged_twice_at_a_rung(self) -> None:
        ran = halving()
        assert ran.report(trial(0), mae_row(2.0))
        assert ran.report(trial(1), mae_row(1.0))
        assert ran.report(trial(0), mae_row(2.0)), "it goes on after a crash, although it would not now"
        assert not ran.record(trial(0), mae_row(2.0))

    def test_other_tasks_are_another_matter(self) -> None:
        ran = halving(MAE)
        assert ran.report(trial(0, ("depth",)), mae_row(1.0))
        assert ran.report(trial(0, ("segmentation", "depth")), mae_row(2.0))
        assert not ran.report(trial(1, ("segmentation", "depth")), mae_row(3.0))

    def test_dense_trials_go_on_and_take_no_place(self) -> None:
        ran = halving(reduction_factor=2)
        assert ran.report(trial(0, strength=0), mae_row(1.0))
        assert ran.report(trial(1), mae_row(3.0)), "the only place is not the dense trial's"
        assert ran.report(trial(2, strength=0), mae_row(9.0)), "the worst of all"
        assert not ran.report(trial(3), mae_row(4.0)), "the dense trial makes no second place"

    def test_a_trial_that_a_dense_one_dominates_comes_later(self) -> None:
        def second(dense_first: bool) -> bool:
            ran = halving(MAE, SPARSITY, reduction_factor=2)
            if dense_first:
                ran.record(trial(0, strength=0), mae_row(1.0, group_sparsity=0.0))
            ran.report(trial(1), mae_row(1.5, group_sparsity=0.0))
            return ran.report(trial(2), mae_row(2.0, group_sparsity=0.5))

        assert second(dense_first=True)
        assert not second(dense_first=False)

    def test_a_trial_without_a_value_is_last(self) -> None:
        ran = halving(reduction_factor=3)
        assert ran.report(trial(0), mae_row(math.nan)), "of one record one goes on, whatever it is"
        assert ran.report(trial(1), mae_row(1e9))
        assert not ran.report(trial(2), mae_row(math.nan))
        assert ran.report(trial(3), mae_row(1e10)), "second of four"

    def test_nothing_known_is_no_reason_to_stop(self) -> None:
        ran = halving(Objective("val_segmentation_miou", "maximize"), SPARSITY)
        assert all(ran.report(trial(n), mae_row(float(n), group_sparsity=0.0)) for n in range(9))

    def test_ties_go_on(self) -> None:
        ran = halving(SPARSITY, reduction_factor=4)
        assert all(ran.report(trial(n), mae_row(float(n), group_sparsity=0.0)) for n in range(9))

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 2), small_numbers, small_numbers), max_size=20))
    def test_dense_trials_are_never_stopped(self, reports: list[tuple[int, float, float]]) -> None:
        ran = halving(MAE, SPARSITY, reduction_factor=3)
        for n, (strength, mae, sparsity) in enumerate(reports):
            goes_on = ran.report(trial(n, strength=strength), mae_row(mae, group_sparsity=sparsity))
            assert goes_on or strength > 0

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(st.booleans(), small_numbers), max_size=20), st.integers(2, 5))
    def test_the_best_so_far_goes_on(self, reports: list[tuple[bool, float]], reduction_factor: int) -> None:
        ran = halving(reduction_factor=reduction_factor)
        best = math.inf
        for n, (dense, mae) in enumerate(reports):
            goes_on = ran.report(trial(n, strength=0 if dense else 1), mae_row(mae))
            if not dense:
                assert goes_on or mae > best
                best = min(best, mae)

    @settings(deadline=None, max_examples=50)
    @given(points(2), st.integers(2, 4))
    def test_the_best_in_the_first_of_several_objectives_goes_on(
        self, costs: np.ndarray, reduction_factor: int
    ) -> None:
        ran = halving(MAE, SPARSITY, reduction_factor=reduction_factor)
        best = (math.inf, math.inf)
        for n, (mae, sparsity) in enumerate(costs.tolist()):
            goes_on = ran.report(trial(n), mae_row(mae, group_sparsity=-sparsity))
            assert goes_on or (mae, sparsity) > best
            best = min(best, (mae, sparsity))


def random_reports(seed: int, trials: int = 30, epochs: int = 20) -> list[tuple[int, int, float]]:
    """(trial, epochs, error) of trials that run side by side, each epoch in its turn, at speeds of their own."""
    random = np.random.default_rng(seed)
    waiting = dict.fromkeys(range(trials), 0)
    reports = []
    while waiting:
        n = int(random.choice(list(waiting)[:5]))
        waiting[n] += 1
        reports.append((n, waiting[n], float(random.normal())))
        if waiting[n] == epochs:
            del waiting[n]
    return reports


@pytest.mark.parametrize("reduction_factor", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_ray(seed: int, reduction_factor: int) -> None:
    """But for values strictly between the two records from which Ray interpolates its quantile."""
    ours = halving(reduction_factor=reduction_factor)
    rays: Any = AsyncHyperBandScheduler(
        metric="mae", mode="min", max_t=10_000, grace_period=1, reduction_factor=reduction_factor
    )
    rungs: dict[int, list[float]] = {}
    compared = between = 0
    known: dict[int, Any] = {}
    for n, epochs, mae in random_reports(seed):
        if n not in known:
            known[n] = SimpleNamespace(trial_id=str(n))
            rays.on_trial_add(None, known[n])
        goes_on = ours.report(trial(n), mae_row(mae, epochs))
        action = rays.on_trial_result(None, known[n], {"training_iteration": epochs, "mae": mae})
        before = sorted(rungs.setdefault(epochs, []))
        rungs[epochs].append(mae)
        if before:
            place = (len(before) - 1) / reduction_factor
            if before[math.floor(place)] < mae < before[math.ceil(place)]:
                between += 1
                continue
        compared += 1
        assert goes_on == (action == "CONTINUE"), (n, epochs, mae, before)
    assert compared > 500
    assert between < 60


@pytest.mark.parametrize("objectives", [(MAE,), (DELTA_M, SPARSITY)])
def test_a_driver_that_starts_again_decides_alike(objectives: tuple[Objective, ...]) -> None:
    """With the histories so far recorded trial by trial, in whatever order, what comes is judged as without a break."""
    reports = random_reports(seed=7)
    whole = halving(*objectives)
    decisions = [whole.report(trial(n), row(n, epochs, mae)) for n, epochs, mae in reports]
    half = len(reports) // 2
    again = halving(*objectives)
    for n, epochs, mae in sorted(reports[:half], reverse=True):
        again.record(trial(n), row(n, epochs, mae))
        again.record(trial(n), row(n, epochs, mae))
    assert [again.report(trial(n), row(n, epochs, mae)) for n, epochs, mae in reports[half:]] == decisions[half:]
    assert not all(decisions[half:])


def row(n: int, epochs: int, mae: float) -> dict[str, float]:
    return mae_row(mae + 10, epochs, group_sparsity=(n % 7) / 7)


def test_a_trial_that_starts_from_another_model_is_not_compared() -> None:
    class Refuses:
        def record(self, config: TrialConfig, row: object) -> None:
            raise AssertionError("recorded")

        def report(self, config: TrialConfig, row: object) -> bool:
            raise AssertionError("judged")

        def why_stopped(self, config: TrialConfig) -> str:
            return ""

    dense = config(strength=0.0)
    path = dense.model_copy(update={"compressor": "path", "target_macs": 0.5, "warm_started_from": dense.trial_id})
    assert stays(Refuses(), path, [{"epoch": 0}, {"epoch": 1}])
    with pytest.raises(AssertionError, match="recorded"):
        stays(Refuses(), dense, [{"epoch": 0}, {"epoch": 1}])

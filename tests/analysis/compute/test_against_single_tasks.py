"""One model against one for each task: the choice within a budget by brute force, and the numbers from the trials."""

import itertools

import numpy as np
import pytest

from analysis.compute.against_single_tasks import COLUMNS, _Choice, against_single_tasks, best_within
from analysis.compute.best import NO_MORE
from analysis.compute.everything import Computed
from analysis.write.single_task_table import written_against_single_tasks


@pytest.mark.parametrize("seed", range(20))
def test_the_best_within_a_budget_by_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    choices = [
        [_Choice(*random.integers(0, 12, 2).astype(float), (place,)) for place in range(random.integers(1, 7))]
        for _ in range(4)
    ]
    budget = float(random.integers(0, 40))
    sums = [(sum(one.cost for one in some), sum(one.gain for one in some)) for some in itertools.product(*choices)]
    allowed = [gain for cost, gain in sums if cost <= budget]
    found = best_within(choices, budget)
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert found.gain == max(allowed)
    chosen = [some[place] for some, place in zip(choices, found.rows, strict=True)]
    assert (sum(one.cost for one in chosen), sum(one.gain for one in chosen)) == (found.cost, found.gain)
    assert found.cost <= budget


def test_costs_and_gains_are_those_of_the_trials(small: Computed) -> None:
    table = small.single_task
    assert set(table["tasks"]) == {"depth+normals"}
    assert "dense" in set(table["strategy"])
    done = small.sweep.trials("done")
    own = done[(done["lambda"] == 0) & (done["settings"] == "")]
    together = sum(own.loc[own["tasks"] == task, "model_macs"].mean() for task in ("depth", "normals"))
    marked = small.marked
    for row in table.to_dict("records"):
        rows = done[(done["tasks"] == "depth+normals") & (done["method"] == row["method"])]
        trials = rows[rows["lambda"] == row["lambda"]].set_index("seed")
        assert row["single_task_model_macs"] == pytest.approx(together)
        assert row["macs_of_single_task"] == pytest.approx(trials["model_macs"].mean() / together)
        assert row["test_delta_m_mean"] == pytest.approx(trials["test_delta_m"].mean())
        # By brute force over both tasks' settings.
        budget = NO_MORE * trials["model_macs"].mean()
        pairs = itertools.product(*(marked[marked["tasks"] == task].index for task in ("depth", "normals")))
        seeing = marked["group_sparsity_mean"] < 1
        fit = [
            (marked.loc[list(pair), "delta_m_mean"].sum(), pair)
            for pair in pairs
            if marked.loc[list(pair), "model_macs_mean"].sum() <= budget and seeing[list(pair)].all()
        ]
        if not fit:
            assert row["equal_cost_models"] != row["equal_cost_models"]
            continue
        _, best = max(fit)
        assert row["equal_cost_macs"] == pytest.approx(marked.loc[list(best), "model_macs_mean"].sum())
        theirs = marked.loc[list(best), "test_delta_m_mean"].mean()
        assert row["equal_cost_delta_m_mean"] == pytest.approx(theirs)
        assert row["gain_mean"] == pytest.approx(row["test_delta_m_mean"] - theirs)
        assert row["gain_seeds"] == 2
        # Paired by seed: not the difference of two deviations.
        gains = []
        for seed in (0, 1):
            singles = [
                done[(done["tasks"] == one["tasks"]) & (done["method"] == one["method"]) & (done["seed"] == seed)
                     & (done["lambda"] == one["lambda"])]["test_delta_m"].item()
                for one in marked.loc[list(best)].to_dict("records")
            ]  # fmt: skip
            gains.append(trials.loc[seed, "test_delta_m"] - np.mean(singles))
        assert row["gain_std"] == pytest.approx(np.std(gains, ddof=1))


def test_written_with_the_rows_that_gain_marked(small: Computed) -> None:
    written = written_against_single_tasks(small.single_task)
    assert len(written.rows) == len(small.single_task)
    assert list(written.marked) == (small.single_task["gain_mean"].astype(float) > 0).tolist()
    assert all(row[-1] for row in written.rows)


def test_without_costs_or_baselines_it_is_empty(small: Computed) -> None:
    marked = small.marked
    for left in (marked.drop(columns="model_macs_mean"), marked.assign(test_delta_m_mean=np.nan)):
        table = against_single_tasks(small.sweep, left)
        assert table.empty
        assert list(table) == COLUMNS
        assert written_against_single_tasks(table).rows == ()

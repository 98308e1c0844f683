"""Choosing forward: no seed is measured by a choice that it had a part in, and without an effect nothing is found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from analysis.compute.choice import forward_choice
from analysis.compute.claims import judge_claims
from benchmarks.claims import made_up_sweep, worlds

NAN = math.nan
tables = arrays(
    float, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-1, 1) | st.just(NAN)
)  # fmt: skip


def test_each_row_is_measured_where_the_rows_before_it_are_best() -> None:
    chooses = np.array([[1.0, 2.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    measures = np.array([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3], [2.1, 2.2, 2.3]])
    choice = forward_choice(chooses, measures)
    assert choice is not None
    assert choice.rows.tolist() == [1, 2]
    assert choice.columns.tolist() == [1, 0]
    assert choice.measured.tolist() == [1.2, 2.1]
    assert choice.final == 2
    assert choice.seeds.tolist() == [0, 1, 2]


def test_a_column_with_more_rows_goes_before_a_lucky_one() -> None:
    chooses = np.array([[1.0, NAN], [1.0, 9.0], [0.0, 0.0]])
    choice = forward_choice(chooses, np.zeros((3, 2)))
    assert choice is not None
    assert choice.columns.tolist() == [0, 0]


def test_a_column_without_a_number_of_the_row_is_not_chosen() -> None:
    choice = forward_choice(np.array([[1.0, 9.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.5, NAN]]))
    assert choice is not None
    assert (choice.columns.tolist(), choice.measured.tolist()) == ([0], [0.5])


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (3, 0)])
def test_one_seed_or_nothing_to_choose_from_is_none(shape: tuple[int, int]) -> None:
    assert forward_choice(np.zeros(shape), np.zeros(shape)) is None


@settings(deadline=None)
@given(tables, st.data())
def test_what_a_row_and_those_after_it_choose_has_no_part_in_its_measure(
    chooses: NDArray[np.float64], data: st.DataObject
) -> None:
    measures = data.draw(arrays(float, chooses.shape, elements=st.floats(-1, 1)))
    row = data.draw(st.integers(0, len(chooses) - 1))
    others = chooses.copy()
    others[row:] = data.draw(arrays(float, others[row:].shape, elements=st.floats(-1, 1) | st.just(NAN)))
    before, after = (forward_choice(table, measures) for table in (chooses, others))

    def at(choice: object) -> float | None:
        places = list(getattr(choice, "rows", []))
        return float(choice.measured[places.index(row)]) if row in places else None  # type: ignore[attr-defined]

    if before is not None and after is not None:
        assert at(before) == at(after)


def test_without_an_effect_the_interval_is_missed_as_often_as_it_says() -> None:
    """And not as often as by the choice on the same models, of which the same data say four times as much."""
    random, repetitions, seeds, settings_ = np.random.default_rng(0), 4000, 5, 6
    luck = random.normal(size=(repetitions, seeds, settings_)) - random.normal(size=(repetitions, seeds, 1))
    noise = random.normal(size=(2, *luck.shape))
    chooses, measures = math.sqrt(0.9) * luck + math.sqrt(0.1) * noise
    forward, same = [], []
    for val, test in zip(chooses, measures, strict=True):
        choice = forward_choice(val, test)
        assert choice is not None
        forward.append(choice.measured)
        same.append(test[:, val.mean(axis=0).argmax()])
    rates = [
        float((stats.ttest_1samp(np.array(values), 0, axis=1, alternative="greater").pvalue < 0.025).mean())
        for values in (forward, same)
    ]
    assert rates[0] == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / repetitions))
    assert rates[1] > 0.06


def test_the_benchmarks_sweeps_have_an_effect_where_they_say_so() -> None:
    for name, (gain, l1_gain, claim) in worlds(6, effect=0.1).items():
        sweep = made_up_sweep(np.random.default_rng(0), 5, gain, l1_gain)
        assert {one.name: one.verdict for one in judge_claims(sweep)}[claim] == "holds", name

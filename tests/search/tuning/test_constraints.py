"""Conditions on columns: read from what a person writes, and how far a value is from keeping them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.errors import BadInput
from mtl.vocabulary.constraint import Constraint, parse_constraint

COLUMNS = ["delta_m", "group_sparsity", "latency_ms", "val_segmentation_miou"]


@pytest.mark.parametrize(
    ("text", "column", "relation", "bound"),
    [
        ("group_sparsity>=0.7", "group_sparsity", ">=", 0.7),
        ("latency_ms<=20", "latency_ms", "<=", 20),
        ("  delta_m  >= -1e-2 ", "delta_m", ">=", -0.01),
        ("latency_ms ≤ 20", "latency_ms", "<=", 20),
        ("group_sparsity≥.5", "group_sparsity", ">=", 0.5),
        ("segmentation_miou>=0.3", "val_segmentation_miou", ">=", 0.3),
        ("val_segmentation_miou>=0.3", "val_segmentation_miou", ">=", 0.3),
    ],
)
def test_read(text: str, column: str, relation: str, bound: float) -> None:
    assert parse_constraint("constraints", text, COLUMNS) == Constraint(column, relation, bound)


@pytest.mark.parametrize(
    "text", ["", "group_sparsity", "group_sparsity=0.7", "group_sparsity>0.7", "group_sparsity>=", ">=0.7",
             "group_sparsity>=much", "group_sparsity>=nan", "group_sparsity>=0.7<=0.9", "0.7<=group_sparsity"],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--target: ") as caught:
        parse_constraint("--target", text, COLUMNS)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"^constraints: 'miou>=0\.3' has no known column; allowed: delta_m, .*_miou$"):
        parse_constraint("constraints", "miou>=0.3", COLUMNS)


def test_each_constraint_once_in_its_order() -> None:
    texts = ["latency_ms<=20", "delta_m>=0", "latency_ms ≤ 20.0"]
    found = dict.fromkeys(parse_constraint("constraints", text, COLUMNS) for text in texts)
    assert [str(one) for one in found] == ["latency_ms<=20", "delta_m>=0"]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_violation_is_positive_on_the_wrong_side_alone(bound: float, value: float) -> None:
    least, most = Constraint("c", ">=", bound), Constraint("c", "<=", bound)
    assert (least.violation(value) <= 0) == (value >= bound)
    assert (most.violation(value) <= 0) == (value <= bound)
    assert least.violation(value) == -most.violation(value) == bound - value


@given(st.floats(-1e6, 1e6).map(lambda value: float(f"{value:g}")), st.sampled_from([">=", "<="]))
def test_text_of_a_constraint_is_read_back(bound: float, relation: str) -> None:
    one = Constraint("delta_m", relation, bound)
    assert parse_constraint("constraints", str(one), COLUMNS) == one

"""Quantities as people read them: three digits, the unit that suits, nothing that rounds to nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.vocabulary import units
from mtl.vocabulary.metric import Metric


def test_durations() -> None:
    given = (0, 0.42, 9, 9.96, 75, 3599.6, 3725, 100 * 3600 + 300)
    expected = ["0 s", "0.4 s", "9 s", "10 s", "1 min 15 s", "1 h 00 min", "1 h 02 min", "100 h 05 min"]
    assert [units.duration(seconds) for seconds in given] == expected


def test_shares() -> None:
    given = (0.1234, 0, 1, 1e-5, math.nan)
    assert [units.percent(share) for share in given] == ["12.3 %", "0.0 %", "100.0 %", "< 0.1 %", "–"]


def test_counts_and_sizes() -> None:
    assert [units.byte_size(n) for n in (0, 999, 1234567, 5 * 10**12)] == ["0 B", "999 B", "1.23 MB", "5.00 TB"]
    assert [units.number(n) for n in (0, 512, 999_499, 23_508_032)] == ["0", "512", "999 k", "23.5 M"]
    assert [units.macs(n) for n in (46e9, 8.35e6, 999_999)] == ["46.0 GMAC", "8.35 MMAC", "1.00 MMAC"]
    assert [units.milliseconds(x) for x in (0.5, 12.345, 1234)] == ["0.50 ms", "12.3 ms", "1,234 ms"]
    assert [units.counted(n, "photo") for n in (0, 1, 1234)] == ["0 photos", "1 photo", "1,234 photos"]


@given(st.floats(1, 1e15))
def test_three_digits_are_enough_to_read_the_number_back(value: float) -> None:
    written, _, unit = units.byte_size(value).partition(" ")
    power = ("B", "kB", "MB", "GB", "TB").index(unit)
    read = float(written.replace(",", "")) * 1000.0**power
    assert read == pytest.approx(value, rel=6e-3 if value >= 99.5 else 0.5)
    assert float(written.replace(",", "")) < 1000 or unit == "TB"


def test_metrics_have_their_unit() -> None:
    shown = {"m": "0.559 m", "°": "0.559°", "": "0.559"}
    for unit, expected in shown.items():
        assert Metric("x", "x", unit, "minimize").text(0.5588, ".3f") == expected

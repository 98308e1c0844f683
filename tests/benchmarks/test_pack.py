"""The benchmark of packs, in small."""

from benchmarks.pack import measure_one


def test_two_trials_run_as_one_and_the_row_has_both_throughputs() -> None:
    row = measure_one("rooms", 2, "cpu", 1, 1, beside=False)
    assert row["fused"]
    assert row["packed"] > 0 < row["alone"]
    assert 0 < row["share"] < 1

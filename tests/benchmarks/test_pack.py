"""The benchmark of packs, in small."""

from benchmarks.pack import measure_one, operations_a_step


def test_two_trials_run_as_one_and_the_row_has_both_throughputs() -> None:
    row = measure_one("rooms", 2, "cpu", 1, 1, beside=False)
    assert row["fused"]
    assert row["packed"] > 0 < row["alone"]
    assert 0 < row["share"] < 1


def test_a_pack_gives_a_gpu_fewer_operations_for_each_trial() -> None:
    """The aim is 2.5 times fewer at eight trials; four have it."""
    alone, packed = (operations_a_step("nyuv2-small", count) for count in (1, 4))
    assert 300 < alone < 700
    assert packed < alone / 2.5

"""Which tasks gain from which, on data with a known answer."""

from pathlib import Path

import numpy as np
import pytest

from analysis.compute.affinity import affinity_table
from analysis.read.load import load_sweep
from tests.support.fake_sweep import write_sweep


def test_known_gains(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "source", seeds=[0, 1, 2])).results
    dense = results["lambda"] == 0
    # Depth falls from 0.4 to 0.3, 0.32 and 0.28 m when normals are trained with it, and rises to 0.5 with segmentation.
    for tasks, values in (
        ("depth", [0.4] * 3),
        ("depth+normals", [0.3, 0.32, 0.28]),
        ("segmentation+depth", [0.5] * 3),
    ):
        results.loc[dense & (results["tasks"] == tasks), "test_depth_mae"] = values
    table = affinity_table(load_sweep(write_sweep(tmp_path / "known", seeds=[0, 1, 2], results=results)))
    row = table[(table["lambda"] == 0) & (table["task"] == "depth") & (table["partners"] == "normals")].iloc[0]
    assert (row["gain"], row["seeds"]) == (pytest.approx(0.25), 3)
    half = 4.302653 * np.std([0.25, 0.2, 0.3], ddof=1) / np.sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((0.25 - half, 0.25 + half))
    assert row["p_value"] <= row["adjusted_p"]
    gains = table[table["lambda"] == 0].set_index(["task", "partners"])["gain"]
    assert gains["depth", "segmentation"] == pytest.approx(-0.25)
    # Each of three tasks with two others alone and with both.
    assert (table["lambda"] == 0).sum() == 9


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole", seeds=[0, 1, 2])).results
    lost = (results["tasks"] == "depth") & (results["seed"] == 1)
    table = affinity_table(load_sweep(write_sweep(tmp_path / "less", results=results[~lost])))
    assert set(table.loc[table["task"] == "depth", "seeds"]) == {2}
    assert set(table.loc[table["task"] != "depth", "seeds"]) == {3}

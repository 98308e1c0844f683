"""Where channels survive and which are shared, counted by hand and by chance."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.layers import LayerTables, layer_tables, stage_of
from analysis.read.load import Sweep, load_sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import write_sweep


def with_layers(folder: Path, alive: dict[str, list[list[int]]]) -> Sweep:
    """Two convolutions of each trial of depth, normals and depth+normals at λ = 1e-4, by combination and seed."""
    names = ["depth", "normals", "depth+normals"]
    write_sweep(folder, combinations=names, lambdas=[1e-4], seeds=[0, 1])
    rows = [
        {"trial_id": f"{tasks}-0.0001-{seed}", "layer": layer, "position": place, "groups": 4, "alive": mask}
        for tasks, seeds in alive.items()
        for seed, flat in enumerate(seeds)
        for place, (layer, mask) in enumerate(
            [("conv1", [bool(one) for one in flat[:4]]), ("layer1.0.conv2", [bool(one) for one in flat[4:]])]
        )
    ]
    # Files may be in any order.
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(folder / "layers.parquet")
    return load_sweep(folder)


def tables_of(sweep: Sweep) -> LayerTables:
    tables = layer_tables(sweep)
    assert tables is not None
    return tables


ALIVE = {
    "depth": [[1, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]],
    "normals": [[0, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
    "depth+normals": [[1, 1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]],
}


def test_survival_by_layer_and_stage(tmp_path: Path) -> None:
    sweep = with_layers(tmp_path, ALIVE)
    layers, stages = tables_of(sweep).layers, tables_of(sweep).stages
    depth = layers[layers["tasks"] == "depth"]
    assert depth["layer"].tolist() == ["conv1", "layer1.0.conv2"]
    assert depth["alive_mean"].tolist() == pytest.approx([(0.5 + 0.25) / 2, 0.125])
    assert depth["alive_std"].tolist() == pytest.approx([np.std([0.5, 0.25], ddof=1), np.std([0.25, 0], ddof=1)])
    assert depth["seeds"].tolist() == [2, 2]
    assert stages[stages["tasks"] == "depth"]["stage"].tolist() == ["conv1", "layer1"]


def test_overlap_by_hand(tmp_path: Path) -> None:
    table = tables_of(with_layers(tmp_path, ALIVE)).overlap
    first = table[table["seed"] == 0].set_index(["task", "other", "stage"])
    # Depth keeps {0, 1} and {0}, the joint model {0, 1, 2} and {0, 1}: 3 shared of 5.
    assert first.loc[("depth", "depth+normals", "all"), "jaccard"] == pytest.approx(3 / 5)
    by_chance = 2 * 3 / 4 + 1 * 2 / 4
    assert first.loc[("depth", "depth+normals", "all"), "expected"] == pytest.approx(by_chance / (8 - by_chance))
    assert first.loc[("depth", "normals", "conv1"), "jaccard"] == pytest.approx(1 / 3)
    assert first.loc[("depth", "normals", "layer1"), "jaccard"] == 0
    second = table[table["seed"] == 1].set_index(["task", "other", "stage"])
    assert np.isnan(second.loc[("normals", "depth+normals", "all"), "jaccard"])  # neither has any
    assert set(zip(table["task"], table["other"], strict=True)) == {
        ("depth", "depth+normals"),
        ("normals", "depth+normals"),
        ("depth", "normals"),
    }


def test_heads_under_the_penalty_have_survivors_and_no_overlap(tmp_path: Path) -> None:
    sweep = with_layers(tmp_path, ALIVE)
    assert sweep.layers is not None
    without = tables_of(sweep).overlap
    mask = np.array([True, False])
    of_heads = [
        {"trial_id": trial, "layer": f"heads.{task}.4", "position": 2 + place, "groups": 2, "alive": mask}
        for trial in sweep.layers["trial_id"].unique()
        for place, task in enumerate(str(trial).split("-", 1)[0].split("+"))
    ]
    pd.concat([sweep.layers, pd.DataFrame(of_heads)]).to_parquet(tmp_path / "layers.parquet")
    tables = tables_of(load_sweep(tmp_path))
    pd.testing.assert_frame_equal(tables.overlap, without)
    joint = tables.stages[tables.stages["tasks"] == "depth+normals"].set_index("stage")
    assert joint.loc["heads", "alive_mean"] == 0.5


def test_independent_channels_have_no_excess_and_equal_ones_all(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_sweep(tmp_path, combinations=["depth", "normals", "depth+normals"], lambdas=[1e-4], seeds=[0])
    same = random.uniform(size=20_000) < 0.3
    masks = {"depth": same, "depth+normals": same, "normals": random.uniform(size=20_000) < 0.6}
    rows = [
        {"trial_id": f"{tasks}-0.0001-0", "layer": "conv1", "position": 0, "groups": 20_000, "alive": mask}
        for tasks, mask in masks.items()
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "layers.parquet")
    table = tables_of(load_sweep(tmp_path)).overlap
    whole = table[table["stage"] == "all"].set_index(["task", "other"])
    assert whole.loc[("depth", "normals"), "excess"] == pytest.approx(0, abs=0.01)
    assert whole.loc[("depth", "depth+normals"), "jaccard"] == 1
    assert whole.loc[("depth", "depth+normals"), "excess"] == pytest.approx(1 - 0.3 / 1.7, abs=0.02)


def test_broken_layers_are_refused(tmp_path: Path) -> None:
    sweep = with_layers(tmp_path, ALIVE)
    layers = pd.read_parquet(tmp_path / "layers.parquet")
    layers.assign(groups=5).to_parquet(tmp_path / "layers.parquet")
    with pytest.raises(BadInput, match=r"alive has 4 values in .* of trial .*; it must have 5"):
        layer_tables(load_sweep(tmp_path))
    layers[layers["layer"] != "conv1"].drop(columns="groups").to_parquet(tmp_path / "layers.parquet")
    with pytest.raises(BadInput, match=r"layers.parquet has no column groups"):
        load_sweep(tmp_path)
    assert sweep.layers is not None
    kept = layers[~((layers["layer"] == "conv1") & (layers["trial_id"] == "depth-0.0001-0"))]
    kept.to_parquet(tmp_path / "layers.parquet")
    with pytest.raises(BadInput, match="of one setup have other convolutions"):
        layer_tables(load_sweep(tmp_path))


def test_stages() -> None:
    assert [stage_of(name) for name in ("conv1", "layer3.0.conv2")] == ["conv1", "layer3"]

"""NYU-v2 in MTAN's setting: the published numbers are the printed ones, and ours of a real small sweep stand beside."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyze import analyze
from analysis.compute.benchmark import Benchmark, benchmark
from analysis.compute.merge import load_sweeps
from analysis.compute.published_benchmark import METRICS, RESNET, SEGNET, SINGLE, SOURCES, published_benchmark
from analysis.compute.settings import settings_table
from search.cli import main
from search.recipe_file import load_recipe
from tests.support.in_process import without_ray
from tests.support.nyuv2_folders import write_mtan
from tests.support.written import copied, edit_info

NINE = [name for metrics in METRICS.values() for name in metrics]
SMALL = (
    *("image_size=[16,32]", "backbone=resnet18", "backbone_width=4", "backbone_layers=[1,1,1,1]", "head_channels=4"),
    *("head_rates=2", 'weights=""', "epochs=1", "lambdas=0", "seeds=2", "gpus_per_trial=0", "cpus_per_trial=1"),
    "dataset_options.split=held_out",
)
ALL_ALONE = ("combinations=segmentation+depth+normals", "seeds=[0]")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweeps `equal`, whose three tasks are trained alone and together, and `rlw`, of one dense model of all."""
    folder = tmp_path_factory.mktemp("mtan")
    write_mtan(folder / "data", labels=13)
    with without_ray():
        for name, more in (("equal", ()), ("rlw", ALL_ALONE)):
            sets = [word for one in (*SMALL, *more, f"task_weighting={name}") for word in ("--set", one)]
            command = ["sweep", "nyuv2-mtan", "--data", str(folder / "data"), "--storage", str(folder), "--name", name]
            assert main([*command, *sets]) == 0
    return folder


def found(*folders: Path) -> Benchmark | None:
    sweep = load_sweeps(folders)
    return benchmark(sweep, settings_table(sweep))


def test_published_numbers() -> None:
    table = published_benchmark()
    assert table["source"].value_counts().to_dict() == {
        "libmtl_resnet50": 13,
        "papers_segnet": 14,
        "libmtl_segnet": 14,
        "papers_single_task": 1,
    }
    assert set(table["source"]) == set(SOURCES)
    row = table[(table["network"] == RESNET) & (table["weighting"] == "UW")].iloc[0]
    some = [row[name] for name in ("segmentation_miou", "depth_abs_rel", "normals_within_30")]
    assert some == pytest.approx([0.5402, 0.1573, 0.7233])
    assert not table.duplicated(["source", "weighting"]).any()
    for shares in (["normals_within_11", "normals_within_22", "normals_within_30"], ["segmentation_miou"]):
        assert table[shares].apply(lambda one: one.between(0.1, 0.9)).all(axis=None)
    assert (table["normals_within_11"] < table["normals_within_22"]).all()
    assert (table["normals_median_angle"] < table["normals_mean_angle"]).all()
    assert table["depth_mae"].between(0.3, 0.8).all()
    assert (table["depth_abs_rel"] < table["depth_mae"]).all()


def test_delta_m_of_published_rows() -> None:
    """Nash-MTL's own Δm (here by hand) is the mean over all nine, ours the mean over tasks first; see LibMTL's +8.16 %
    of Aligned-MTL in arXiv 2308.12029."""
    table = published_benchmark().set_index(["source", "weighting"])
    assert table.loc[("papers_segnet", "Aligned-MTL"), "delta_m_all"] == pytest.approx(0.0816, abs=5e-5)
    single, nash = table.loc[("papers_single_task", SINGLE), NINE], table.loc[("papers_segnet", "Nash-MTL"), NINE]
    signs = np.array([1, 1, -1, -1, -1, -1, 1, 1, 1])
    assert float((signs * (nash - single) / single).mean()) == pytest.approx(0.0404, abs=2e-4)
    assert table["delta_m_all"].isna().groupby(table["network"]).all().to_dict() == {RESNET: True, SEGNET: False}
    assert table.loc[("papers_single_task", SINGLE), "delta_m_all"] == 0


def test_ours_of_every_weighting_stand_first(swept: Path) -> None:
    table = found(swept / "equal", swept / "rlw")
    assert table is not None
    numbers = table.numbers
    ours = numbers[numbers["source"] == "ours"]
    assert numbers.index[numbers["source"] == "ours"].tolist() == list(range(len(ours)))
    assert numbers["source"].iloc[-1] == "constant predictor"
    assert sorted(ours["weighting"]) == ["EW", "RLW", SINGLE]
    assert ours[[f"{name}_mean" for name in NINE]].notna().all(axis=None)
    trials = pd.read_parquet(swept / "equal" / "results.parquet")
    together = trials[(trials["tasks"] == "segmentation+depth+normals") & (trials["lambda"] == 0)]
    row = ours[(ours["weighting"] == "EW") & (ours["lambda"] == 0)].iloc[0]
    assert row["depth_abs_rel_mean"] == pytest.approx(together["test_depth_abs_rel"].mean())
    assert row["runs"] == 2
    single = ours[ours["weighting"] == SINGLE].iloc[0]
    alone = trials[(trials["tasks"] == "normals") & (trials["lambda"] == 0)]
    assert single["normals_median_angle_mean"] == pytest.approx(alone["test_normals_median_angle"].mean())
    assert len(table.written.rows) == len(numbers)
    assert sum(table.written.marked) == 42


def test_delta_m_is_over_the_nine_alone(swept: Path) -> None:
    table = found(swept / "equal")
    assert table is not None
    trials = pd.read_parquet(swept / "equal" / "results.parquet").set_index(["tasks", "lambda", "seed"])
    assert {name.removeprefix("test_") for name in trials if name.startswith("test_")} == {*NINE, "delta_m"}
    changes = []
    for seed in (0, 1):
        of_tasks = []
        for task, metrics in METRICS.items():
            pairs = [(trials.loc[(one, 0.0, seed)]) for one in ("segmentation+depth+normals", task)]
            of_tasks.append(
                np.mean(
                    [
                        (1 if more else -1) * (pairs[0][f"test_{name}"] / pairs[1][f"test_{name}"] - 1)
                        for name, more in metrics.items()
                        if pairs[1][f"test_{name}"] != 0
                    ]
                )
            )
        changes.append(np.mean(of_tasks))
    row = table.numbers[(table.numbers["weighting"] == "EW") & (table.numbers["lambda"] == 0)].iloc[0]
    assert row["delta_m_all_mean"] == pytest.approx(np.mean(changes))


def test_the_note_says_in_what_the_setting_differs(swept: Path, tmp_path: Path) -> None:
    folder = copied(swept / "equal", tmp_path)
    table = found(folder)
    assert table is not None
    assert not table.comparable
    assert "Ours do NOT compare with them: backbone resnet18, not resnet50; " in table.written.note
    edit_info(folder, recipe=load_recipe("nyuv2-mtan").model_dump(mode="json"))
    table = found(folder)
    assert table is not None
    assert table.comparable
    assert "NOT" not in table.written.note
    assert all(source.name in table.written.note for source in SOURCES.values())


@pytest.mark.parametrize("field", ["protocol", "dataset", "classes"])
def test_another_setting_has_no_table(swept: Path, tmp_path: Path, field: str) -> None:
    folder = copied(swept / "equal", tmp_path)
    info = load_sweeps([folder]).info
    if field == "classes":
        edit_info(
            folder, tasks=info["tasks"] | {"segmentation": info["tasks"]["segmentation"] | {"classes": ["a"] * 40}}
        )
    else:
        edit_info(folder, recipe=info["recipe"] | {field: "rooms" if field == "dataset" else "standard"})
    assert found(folder) is None


def test_the_report_has_it(swept: Path, tmp_path: Path) -> None:
    folder = copied(swept / "equal", tmp_path)
    analyze([folder])
    assert "published results beside ours" in (folder / "analysis" / "report.html").read_text(encoding="utf-8")
    written = (folder / "analysis" / "tables" / "nyuv2_mtan.md").read_text(encoding="utf-8")
    assert "| Nash-MTL " in written.replace("**", "")
    assert len(pd.read_csv(folder / "analysis" / "tables" / "nyuv2_mtan.csv")) == 42 + 2 + 1

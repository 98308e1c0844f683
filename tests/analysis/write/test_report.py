"""The whole analysis, from the files of a sweep to its report."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyze import analyze
from analysis.compute import summary
from analysis.compute.best import find_best
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.settings import settings_table
from analysis.figures.layers import ABSENT
from analysis.read.load import load_sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import LAMBDAS, write_sweep

HOSTILE = "loss is nan </pre><script>alert('x')</script>\x00 \x1b[31mred\x1b[0m & more"
FIGURES = ("claims", "front", "attainment", "fig3a", "fig3b", "fig3c", "affinity")
FILES = {
    *("front.csv", "hypervolume.csv", "report.html", "tables/results.csv", "tables/results.md", "tables/trade_offs.md"),
    *(f"tables/{name}.csv" for name in ("runs", "hypervolume_by_seed", "attainment", "best", "claims", "claims_data")),
    *(f"tables/{name}.csv" for name in ("affinity", "missing", "constant_predictor")),
    "tables/claims.md",
    *(f"tables/paper_table_{number}.{kind}" for number in (1, 3) for kind in ("csv", "md")),
    "trials.csv",
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "csv")),
}


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """46 of 70 trials done, 2 failed, the rest not there; the errors try to break out of the page."""
    folder = tmp_path_factory.mktemp("sweep")
    results = load_sweep(write_sweep(folder / "whole")).results.iloc[:48].copy()
    results.loc[[13, 35], ["status", "error"]] = ["failed", HOSTILE]
    write_sweep(folder / "half", results=results)
    analyze(folder / "half")
    return folder / "half"


def page(folder: Path) -> str:
    return (folder / "analysis" / "report.html").read_text(encoding="utf-8")


def test_writes_every_file_and_leaves_nothing_else(half_done: Path) -> None:
    written = {
        str(path.relative_to(half_done / "analysis")) for path in (half_done / "analysis").rglob("*") if path.is_file()
    }
    assert written == FILES


def test_report_is_well_formed_and_holds_each_figure_with_ids_of_its_own(half_done: Path) -> None:
    root = ElementTree.fromstring(page(half_done))
    figures = [element for element in root.iter() if element.tag.endswith("figure")]
    assert len(figures) == len(FIGURES)
    assert all(list(figure.iter("{http://www.w3.org/2000/svg}svg")) for figure in figures)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page(half_done)))
    assert used
    assert used <= set(ids)


def test_report_loads_nothing(half_done: Path) -> None:
    content = page(half_done)
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:|//)""", content, re.IGNORECASE)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:|//)", content, re.IGNORECASE)
    assert content.count("<script>") == content.count("<script") == 1
    assert content.count("<link") == content.count('<link rel="icon" href="data:,"') == 1
    assert "<img" not in content
    scripts = re.findall(r"<script>(.*?)</script>", content, re.DOTALL)
    assert not re.search(r"fetch|XMLHttpRequest|import|WebSocket|eval", scripts[0])


def test_report_escapes_what_trials_said(half_done: Path) -> None:
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; red &amp; more" in page(half_done)


def test_report_says_what_is_missing_and_marks_the_front(half_done: Path) -> None:
    content = page(half_done)
    assert "46 of 70 planned trials are done, 2 failed. 22 of 70 trials are not finished" in content
    assert content.count("<pre>loss is nan") == 1
    assert "2 failed. They are in no mean" in content
    assert "No layers.parquet" in content
    assert ABSENT in content
    assert content.count("No trial's latency was measured") + content.count("No trial&#39;s latency was measured") == 1
    missing = content[content.index("<h2>Missing trials</h2>") :]
    assert missing[: missing.index("</section>")].count("<tr>") - 1 == 24
    assert content.count("●</td>") == pd.read_csv(half_done / "analysis" / "front.csv")["on_front"].sum()


def test_analysing_again_gives_the_same_bytes(half_done: Path) -> None:
    before = {name: (half_done / "analysis" / name).read_bytes() for name in FILES}
    result = analyze(half_done)
    assert {name: (half_done / "analysis" / name).read_bytes() for name in FILES} == before
    assert str(result).endswith(f"report: {result.report}")
    assert result.report == half_done / "analysis" / "report.html"
    assert set(result.files) == {half_done / "analysis" / name for name in FILES}


@pytest.mark.parametrize(
    "options",
    [
        {"combinations": ["segmentation+depth"]},  # no baselines
        {"combinations": ["depth"], "lambdas": [0.0]},
        {"combinations": ["depth"], "lambdas": [1e-4], "seeds": [0]},
        {"combinations": ["depth"], "info": {"constant_predictor": {}, "git_commit": None, "versions": {}}},
        {"tasks": {"male": {"primary": "male_accuracy"}}, "metrics": {"male_accuracy": {"direction": "maximize"}}},
        {"combinations": ["depth"], "info": {"recipe": {}}},
    ],
)
def test_every_kind_of_sweep_gets_a_report(tmp_path: Path, options: dict[str, object]) -> None:
    result = analyze(write_sweep(tmp_path, **options))  # type: ignore[arg-type]
    ElementTree.fromstring(result.report.read_text(encoding="utf-8"))
    assert len(result.summary) >= 1


def test_many_trials_and_failures_stay_within_a_few_megabytes(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "source", seeds=list(range(30)))).results
    results.loc[::2, ["status", "error"]] = ["failed", "x" * 100_000]
    results.loc[::4, "error"] = [f"error {number} {'y' * 5000}" for number in range(len(results.iloc[::4]))]
    content = analyze(write_sweep(tmp_path / "sweep", seeds=list(range(30)), results=results)).report.read_text()
    assert len(content) < 5_000_000
    assert "The first 500 of 1050 trials" in content
    assert "and 253 more" in content
    trials = ElementTree.fromstring(content).find(".//table[@id='trials']/tbody")
    assert trials is not None
    assert len(trials) == 500


def test_stopped_trials_are_shown_and_in_no_mean(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "source", combinations=["depth"], seeds=[0, 1, 2])).results
    results.loc[results["seed"] == 2, "status"] = "stopped"
    report = analyze(write_sweep(tmp_path / "s", combinations=["depth"], seeds=[0, 1, 2], results=results)).report
    content = report.read_text()
    assert "5 were stopped early" in content
    assert content.count("<td>stopped</td>") >= 5
    assert "sample standard deviation over 2 seeds" in content


def test_nothing_is_written_for_bad_input(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path)).results.assign(status="failed")
    results.to_parquet(tmp_path / "results.parquet")
    with pytest.raises(BadInput, match="nothing finished yet"):
        analyze(tmp_path)
    assert not (tmp_path / "analysis").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_sweep(tmp_path, combinations=["depth"], lambdas=[0.0])
    (tmp_path / "analysis").write_text("in the way")
    with pytest.raises(BadInput, match="analysis"):
        analyze(tmp_path)


def sentences(folder: Path) -> tuple[str, list[str], list[str]]:
    sweep = load_sweep(folder)
    marked = with_fronts(sweep, settings_table(sweep))
    found = summary.findings(sweep, marked, find_best(sweep, marked), hypervolume_table(sweep, marked))
    return summary.progress(sweep), found, summary.cautions(sweep, marked)


def test_a_whole_sweep_is_summed_up_in_words(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "source", combinations=["depth"], lambdas=[0, 1e-4])).results
    results["group_sparsity"], results["delta_m"] = [0, 0, 0.7, 0.72], [0, 0, -0.02, -0.02]
    results["test_delta_m"] = [0, 0, -0.02, -0.03]
    results["val_depth_mae"] = [0.4, 0.4, 0.41, 0.43]
    progress, found, cautions = sentences(
        write_sweep(tmp_path / "s", combinations=["depth"], lambdas=[0, 1e-4], results=results)
    )
    assert progress == "4 of 4 planned trials are done."
    # Of the 0.58 between the dense model and the constant predictor 0.02 are lost.
    assert found[0] == (
        "Model to use for depth: λ = 1e-4: 71 % of the channel groups gone, Δm −2.5 ± 0.7 % against dense single-task "
        "models (test split, mean ± sample standard deviation over 2 seeds). It loses 3.4 % of what the dense "
        "model has over one that sees nothing of the image, and is the cheapest that loses at most 5 %. Its trial "
        f"depth-0.0001-0: parsimony compact {tmp_path}/s/trials/depth-0.0001-0/model.pt"
    )
    assert cautions == []


def test_trials_that_started_are_counted_from_the_history(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path)).results
    results.iloc[:-3].to_parquet(tmp_path / "results.parquet")
    history = pd.read_parquet(tmp_path / "history.parquet")
    history[history["trial_id"] != results["trial_id"].iloc[-1]].to_parquet(tmp_path / "history.parquet")
    assert "3 of 70 trials are not finished (2 of them have started)" in sentences(tmp_path)[0]


def test_cautions_name_one_seed_and_lost_baselines(tmp_path: Path) -> None:
    assert "one seed" in sentences(write_sweep(tmp_path / "one", seeds=[0]))[2][0]
    assert (
        "known for segmentation+depth"
        in sentences(write_sweep(tmp_path / "two", combinations=["segmentation+depth"]))[2][0]
    )
    results = load_sweep(write_sweep(tmp_path / "source")).results
    lost = (results["tasks"] == "depth+normals") & (results["seed"] == 1)
    results.loc[lost, ["delta_m", "test_delta_m"]] = np.nan
    caution = sentences(write_sweep(tmp_path / "three", results=results))[2]
    assert caution == [
        f"In {len(LAMBDAS)} of 35 settings Δm is the mean of fewer trials than the other numbers, as a dense "
        "single-task model of some seed is not there."
    ]


def test_a_task_on_which_no_model_beats_the_constant_predictor_is_named(tmp_path: Path) -> None:
    write_sweep(tmp_path, info={"constant_predictor": {"depth_mae": 0.1, "segmentation_miou": 0.04}})
    assert sentences(tmp_path)[2] == ["No model beats the constant predictor on depth (depth MAE 0.1)."]

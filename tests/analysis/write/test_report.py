"""The whole analysis, from the files of a sweep to its report."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyze import analyze, folder_name
from analysis.compute import summary
from analysis.compute.best import find_best
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.figures.layers import ABSENT
from analysis.read.load import load_sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import write_sweep
from tests.support.written import copied, edit_info, edit_table

FIGURES = (
    *(
        "claims",
        "cost",
        "cost_parameters",
        "cost_latency",
        "front",
        "attainment",
        "performance_against_lambda",
        "sparsity_against_lambda",
        "sparsity_while_training",
        "latency_against_lambda",
        "latency_against_sparsity",
    ),
    *("groups_by_layer", "stages", "layers", "overlap", "affinity"),
)
TABLES = (
    *("runs", "hypervolume_by_seed", "attainment", "best", "claims", "claims_data", "affinity", "missing", "results"),
    "against_single_tasks",
    *("constant_predictor", "layers", "stages", "overlap", "paper_table_1", "paper_table_3"),
)
FILES = {
    *("front.csv", "hypervolume.csv", "trials.csv", "report.html"),
    *(f"tables/{name}.csv" for name in TABLES),
    *(
        f"tables/{name}.{kind}"
        for name in ("results", "trade_offs", "claims", "against_single_tasks", "paper_table_1", "paper_table_3")
        for kind in ("md", "tex")
    ),
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "pdf", "csv")),
}


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
    drawn = [figure for figure in figures if list(figure.iter("{http://www.w3.org/2000/svg}svg"))]
    assert len(drawn) == len(FIGURES) - 1  # the claims are of other datasets
    assert len(figures) == len(drawn) + 1  # the one that the page's script draws
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    without_library = re.sub(r"<script.*?</script>", "", page(half_done), flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', without_library))
    assert used
    assert used <= set(ids)


def test_report_loads_nothing(half_done: Path) -> None:
    content = page(half_done)
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:|//)""", content, re.IGNORECASE)
    assert not re.search(r"@import|url\(\s*['\"]?(https?:|//)", content, re.IGNORECASE)
    data = content.count('<script type="application/json" id="')
    assert (content.count("<script>"), data, content.count("<script")) == (1, 2, 3)
    assert content.count("<link") == content.count('<link rel="icon" href="data:,"') == 1
    assert "<img" not in content
    scripts = re.findall(r"<script>(.*?)</script>", content, re.DOTALL)
    assert not re.search(r"fetch|XMLHttpRequest|import|WebSocket|eval", scripts[0])
    # A reader of XML finds the same in them as a browser does.
    root = ElementTree.fromstring(content)
    for name in ("explore-data", "vega"):
        element = root.find(f".//script[@id='{name}']")
        assert element is not None
        assert not re.search("[<>&]", str(element.text))
        assert json.loads(str(element.text))


def test_the_first_thing_said_is_what_to_use(half_done: Path) -> None:
    main = ElementTree.fromstring(page(half_done)).find("./body/main")
    assert main is not None
    heads = [str(head.text) for head in main.iter("h2")]
    assert heads[:2] == ["What to use", "Explore the front"]
    assert heads[-1] == "What was run"
    answer = main.find("./section/article[@class='answer']")
    assert answer is not None
    best = pd.read_csv(half_done / "analysis" / "tables" / "best.csv").set_index("tasks")
    chosen = best.loc["segmentation+depth+normals"]
    told = "".join(answer.itertext())
    assert f"parsimony compact {chosen['model']}" in told
    tiles = {str(one.findtext("dt")): str(one.findtext("dd")) for one in answer.iterfind(".//dl/div")}
    assert tiles["of the dense model's MACs"] == f"{100 * chosen['model_macs_share']:.0f}\N{NO-BREAK SPACE}%"
    assert list(tiles)[-1].startswith("Δm against dense")


@pytest.mark.parametrize(("dataset", "shown"), [("rooms", False), ("folder", False), ("nyuv2", True)])
def test_the_papers_claims_are_shown_for_its_datasets_and_after_the_answer(
    storage: Path, tmp_path: Path, dataset: str, shown: bool
) -> None:
    folder = copied(storage / "other", tmp_path)
    recipe = json.loads((folder / "sweep.json").read_text())["recipe"] | {"dataset": dataset}
    content = analyze(edit_info(folder, recipe=recipe)).report.read_text(encoding="utf-8")
    assert ("The paper's claims" in content) == ("Cannot tell" in content) == shown
    assert (folder / "analysis" / "tables" / "claims.csv").is_file()
    if shown:
        assert content.index("What to use") < content.index("Explore the front") < content.index("Cannot tell")


def test_another_datasets_page_has_no_table_of_the_paper(half_done: Path) -> None:
    assert (half_done / "analysis" / "tables" / "paper_table_1.csv").is_file()
    assert "The paper's" not in page(half_done)


def test_what_was_run_has_dates_hours_and_versions(half_done: Path) -> None:
    results = pd.read_csv(half_done / "analysis" / "trials.csv")
    section = page(half_done).split('<section id="run">')[1]
    day = str(results["started_at"].min())[:16].replace("T", " ")
    assert f"<dt>first trial began</dt><dd>{day} UTC</dd>" in section
    seconds = results["train_seconds"].sum()
    assert f"<dd>{seconds:.0f} s, the sum over {results['train_seconds'].notna().sum()} trials</dd>" in section
    assert "<dt>torch</dt>" in section
    assert "Where the recipe of second differs" in section
    assert "<dt>sampler</dt><dd>tpe</dd>" in section


def test_report_escapes_what_trials_said(half_done: Path) -> None:
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; red &amp; more" in page(half_done)


def test_report_says_what_is_missing_and_marks_the_front(half_done: Path) -> None:
    content = page(half_done)
    assert (
        "25 of 30 planned trials are done, 2 failed, 1 was stopped early (not in the means). 2 of 30 trials are not "
        "finished"
    ) in content
    assert content.count("<pre>loss is nan") == 1
    assert "2 failed. They are in no mean" in content
    missing = content[content.index("<h2>Missing trials</h2>") :]
    assert missing[: missing.index("</section>")].count("<tr>") - 1 == 2 + 1 + 2
    marks = pd.read_csv(half_done / "analysis" / "front.csv")[["on_front", "on_cost_front"]]
    assert content.count("●</td>") == marks.to_numpy().sum()
    assert content.count("<td>stopped</td>") == 2  # among the trials and among the missing ones


def test_analysing_again_gives_the_same_bytes(half_done: Path, storage: Path, tmp_path: Path) -> None:
    folder = copied(half_done, tmp_path)
    places = [str(half_done), str(storage / "second")]
    result = analyze([folder, storage / "second"], places=places, out=folder / "analysis")
    for name in FILES:
        assert (folder / "analysis" / name).read_bytes() == (half_done / "analysis" / name).read_bytes(), name
    assert str(result).endswith(f"report: {result.report}")
    assert result.report == folder / "analysis" / "report.html"
    assert set(result.files) == {folder / "analysis" / name for name in FILES}


def test_several_sweeps_leave_the_first_ones_own_report(half_done: Path, storage: Path, tmp_path: Path) -> None:
    folder = copied(half_done, tmp_path)
    own = folder / "analysis" / "report.html"
    own.parent.mkdir()
    own.write_text("of the first alone")
    result = analyze([folder, storage / "second"])
    assert result.report == folder / "analysis-with-second" / "report.html"
    assert own.read_text() == "of the first alone"
    assert folder_name(["a", *("b" * 50 for _ in range(9))]) == "analysis-with-9-others"


@pytest.mark.parametrize("name", ["l1", "search"])
def test_sweeps_without_baselines_and_searches_get_a_report(storage: Path, tmp_path: Path, name: str) -> None:
    result = analyze(copied(storage / name, tmp_path))
    ElementTree.fromstring(result.report.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit_info(folder, constant_predictor={}, git_commit=None, versions={}),
        lambda folder: edit_info(folder, recipe={}),
        lambda folder: edit_table(folder, lambda rows: rows[rows["lambda"] == 0]),
        lambda folder: edit_table(folder, lambda rows: rows[rows["lambda"] > 0]),
        lambda folder: [(folder / f"{name}.parquet").unlink() for name in ("history", "layers")],
    ],
)
def test_every_kind_of_sweep_gets_a_report(storage: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder = copied(storage / "other", tmp_path)
    change(folder)
    result = analyze(folder)
    content = result.report.read_text(encoding="utf-8")
    ElementTree.fromstring(content)
    assert len(result.summary) >= 1
    if not (folder / "layers.parquet").is_file():
        assert ABSENT in content
        assert "No layers.parquet" in content


def test_many_trials_and_failures_stay_within_a_few_megabytes(storage: Path, tmp_path: Path) -> None:
    def many(results: pd.DataFrame) -> pd.DataFrame:
        results = pd.concat([results] * 350, ignore_index=True).astype({"error": object})
        results["seed"] = results.index // 2
        results["trial_id"] += results["seed"].astype(str)
        results.loc[::2, ["status", "error"]] = ["failed", "x" * 100_000]
        results.loc[::4, "error"] = [f"error {number} {'y' * 5000}" for number in range(len(results.iloc[::4]))]
        return results

    content = analyze(edit_table(copied(storage / "other", tmp_path), many)).report.read_text()
    assert len(content) < 5_000_000
    assert "The first 500 of 700 trials" in content
    assert "and 165 more" in content
    trials = ElementTree.fromstring(content).find(".//table[@id='trials']/tbody")
    assert trials is not None
    assert len(trials) == 500


def test_nothing_is_written_for_bad_input(first: Path) -> None:
    edit_table(first, lambda results: results.assign(status="failed"))
    with pytest.raises(BadInput, match="nothing finished yet"):
        analyze(first)
    assert not (first / "analysis").exists()


def test_a_folder_that_cannot_be_written_is_named(storage: Path, tmp_path: Path) -> None:
    folder = copied(storage / "other", tmp_path)
    (folder / "analysis").write_text("in the way")
    with pytest.raises(BadInput, match="analysis"):
        analyze(folder)


def sentences(*folders: Path) -> tuple[str, list[str], list[str]]:
    sweep = load_sweeps(folders)
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


def test_trials_that_started_are_counted_from_the_history(first: Path) -> None:
    last = pd.read_parquet(first / "results.parquet")["trial_id"].iloc[-1]
    edit_table(first, lambda results: results.iloc[:-3])
    edit_table(first, lambda history: history[history["trial_id"] != last], "history")
    assert "3 of 15 trials are not finished (2 of them have started)" in sentences(first)[0]


def test_cautions_name_one_seed_and_lost_baselines(storage: Path, first: Path) -> None:
    assert "one seed" in sentences(first)[2][0]
    assert "known for depth+normals" in sentences(storage / "l1")[2][0]
    # Without its own Δm, and with no dense single-task model that it could be filled in from.
    lost = ["depth", "depth+normals", "segmentation+depth+normals"]
    edit_table(first, lambda results: results[(results["tasks"] != "depth") | (results["lambda"] > 0)])
    edit_table(first, lambda rows: rows.assign(**dict.fromkeys(("delta_m", "test_delta_m"), np.nan)))
    assert (
        "In 8 of 15 settings Δm is the mean of fewer trials than the other numbers, as a dense single-task model of "
        "some seed is not there."
    ) in sentences(first, storage / "second")[2]
    assert len(lost) * 3 - 1 == 8


def test_a_task_on_which_no_model_beats_the_constant_predictor_is_named(first: Path) -> None:
    edit_info(first, constant_predictor={"depth_mae": 1e-3, "segmentation_miou": 0.0})
    assert sentences(first)[2][1:] == ["No model beats the constant predictor on depth (depth MAE 0.001)."]

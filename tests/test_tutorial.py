"""The tutorial notebook: it runs as a reader would run it, and its kept outputs are whole."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
LARGEST_BYTES = 300_000


def read() -> Any:
    return nbformat.read(TUTORIAL, as_version=4)


def outputs(notebook: Any, source: str) -> list[Any]:
    """Of the cell with this source in it."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return list(cell.outputs)


def shown(notebook: Any, source: str, kind: str = "text/html") -> str:
    return "".join(one.data[kind] for one in outputs(notebook, source) if kind in one.get("data", {}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after it has run in an empty folder; a cell that fails raises."""
    folder = tmp_path_factory.mktemp("tutorial")
    notebook = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.mark.parametrize("kept", [True, False], ids=["kept outputs", "run again"])
def test_it_shows_what_it_says(kept: bool, request: pytest.FixtureRequest) -> None:
    notebook = read() if kept else request.getfixturevalue("run")
    assert "Model to use for segmentation+depth: " in shown(notebook, "result.best()")
    rows = re.findall(r"<tr>.*?</tr>", shown(notebook, "result.front"), re.DOTALL)
    assert len(rows) >= 3
    assert any("segmentation+depth" in row and "25 %" in row for row in rows)
    assert len(shown(notebook, "result.plot_front()", "image/png")) > 10_000
    assert shown(notebook, "result.predict(").count("<img ") == 3
    (printed,) = outputs(notebook, "result.compact()")
    assert re.fullmatch(r"the dense model [\d,]+ parameters, the small one [\d,]+\n", printed.text)
    before, after = (int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", printed.text))
    assert after < 0.5 * before
    assert len(re.findall(r"<tr>", shown(notebook, "run_search("))) == 4  # the dense model and three λ


def test_the_progress_is_a_bar_of_the_notebook(run: Any) -> None:
    states = [
        one["state"] for one in run.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    ]
    bars = [
        (one["value"], one["max"], one["bar_style"]) for one in states if one["_model_name"] == "FloatProgressModel"
    ]
    assert (18.0, 18.0, "success") in bars
    # tqdm writes spaces that are as wide as a digit.
    labels = [one["value"].replace("\u2007", " ") for one in states if one["_model_name"] == "HTMLModel"]
    assert any("18/18 done" in label and "best so far Δm" in label and "of the MACs" in label for label in labels)
    said = [
        one for cell in run.cells if cell.cell_type == "code" for one in cell.outputs if one.output_type == "stream"
    ]
    assert {one.name for one in said} == {"stdout"}, "what goes to standard error looks like an error"


def test_the_kept_outputs_are_whole_and_small() -> None:
    notebook = read()
    assert TUTORIAL.stat().st_size < LARGEST_BYTES
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kept = [one for cell in code for one in cell.outputs]
    assert all(one.output_type != "error" for one in kept)
    # A bar that nobody moves any more shows as nothing, or as a line of code.
    assert "widget" not in str(kept)
    assert str(Path.home()) not in str(kept)
    assert "/tmp" not in str(kept)

"""`report.html`: everything the analysis found on one page that needs no network and no other file."""

import base64
import re
from dataclasses import dataclass
from importlib.resources import files

import jinja2
import pandas as pd

from analysis.compute import summary
from analysis.compute.everything import Computed
from analysis.compute.recommendation import recommendations
from analysis.compute.text_table import TextTable
from analysis.figures import palette
from analysis.figures.drawing import Drawing
from analysis.figures.every import Figures
from analysis.figures.inline import PIXELS, Parts, parts
from analysis.read.load import Sweep
from analysis.write import report_tables
from analysis.write.explore import explorer, in_script
from analysis.write.run_facts import run_facts
from analysis.write.single_task_table import written_against_single_tasks
from analysis.write.vega import library

# Terminal colours and control characters, which tracebacks may carry and HTML may not.
NOT_TEXT = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MOST_INLINE = 200_000  # bytes of a CSV file that the page itself holds; it links a larger one beside it
PAPER_DATASETS = ("nyuv2", "celebamask_hq")  # of arXiv 2308.12114
MOST_DATA_ROWS = 100  # of a figure's numbers on the page


@dataclass(frozen=True)
class ShownFigure:
    """A drawing as the page holds it."""

    name: str
    title: str
    caption: str
    parts: Parts
    columns: int  # of panels on paper
    panel: int  # its width in pixels
    numbers: TextTable
    csv: str  # where the numbers are: a data: URI or a file beside the page


def render_report(computed: Computed, figures: Figures, trade_offs: TextTable, results: TextTable) -> str:
    """The page, well-formed as XML. Text from the sweep's files is escaped; only our own drawings are not."""
    sweep = computed.sweep
    # StrictUndefined: a name that the template misspells is an error, not an empty place.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        name=sweep.name,
        recipe=sweep.info["recipe"],
        facts=run_facts(sweep),
        css=_style(),
        script=_part("report.js") + _part("explore.js"),
        vega=in_script(library()),
        explore=explorer(computed),
        progress=summary.progress(sweep),
        answers=recommendations(sweep, computed.marked, computed.bests, computed.volumes),
        cautions=computed.cautions,
        claims=computed.claims if is_papers(sweep) else (),
        figures={name: _shown(drawing) for name, drawing in figures.drawn.items()},
        absent=figures.absent,
        trade_offs=trade_offs,
        single_task=written_against_single_tasks(computed.single_task),
        results=report_tables.first_rows(results, "tables/results.csv"),
        paper_tables=computed.paper_tables if is_papers(sweep) else (),
        benchmark=computed.benchmark,
        constants=report_tables.written_constants(computed),
        trials=report_tables.written_trials(sweep),
        missing=report_tables.written_missing(computed.missing),
        failures=[(failure, failure.error) for failure in report_tables.failures(sweep)],
        failed=len(sweep.trials("failed")),
    )
    return NOT_TEXT.sub("", page)


def is_papers(sweep: Sweep) -> bool:
    """Whether the paper says anything of this sweep's dataset."""
    return any(part.info["recipe"].get("dataset") in PAPER_DATASETS for part in sweep.parts or (sweep,))


def csv_bytes(table: pd.DataFrame) -> bytes:
    """The table as a CSV file."""
    return table.to_csv(index=False, lineterminator="\n").encode()


def _part(name: str) -> str:
    return files("analysis.write").joinpath(name).read_text(encoding="utf-8")


def _style() -> str:
    """The style sheet with the figures' colours."""
    colors = {"LIGHT_PALETTE": palette.css("light"), "DARK_PALETTE": palette.css("dark")}
    return re.sub("|".join(colors), lambda found: colors[found[0]], _part("report.css"))


def _shown(drawing: Drawing) -> ShownFigure:
    numbers = csv_bytes(drawing.data)
    csv = f"figures/{drawing.name}.csv"
    if len(numbers) <= MOST_INLINE:
        csv = f"data:text/csv;charset=utf-8;base64,{base64.b64encode(numbers).decode()}"
    return ShownFigure(
        name=drawing.name,
        title=drawing.title,
        caption=drawing.caption,
        parts=parts(drawing),
        columns=drawing.columns,
        panel=round(drawing.panels[0].width * PIXELS),
        numbers=report_tables.written_numbers(drawing.data, MOST_DATA_ROWS),
        csv=csv,
    )

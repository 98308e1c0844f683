"""All of the analysis of one sweep: its files in, tables, figures and the report out."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import summary
from analysis.figures import draw_all
from analysis.files import write_bytes
from analysis.fronts import hypervolume_table, with_fronts
from analysis.load import load_sweep
from analysis.report import render_report
from analysis.settings import settings_table
from analysis.tables import front_table, results_table, written_results, written_trade_offs


@dataclass(frozen=True)
class AnalysisResult:
    """What was written, and what it says: `summary` holds the sentences at the head of the report."""

    report: Path
    files: tuple[Path, ...]
    summary: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.summary, f"report: {self.report}"])


def analyze(folder: Path | str) -> AnalysisResult:
    """Analyses the sweep in `folder`, finished or running, and writes `folder`/analysis/.

    Everything is computed before anything is written, and each file is replaced as a whole.

    Raises:
        BadInput: the folder is no sweep, its files cannot be used, or no trial is done yet.
    """
    sweep = load_sweep(folder)
    marked = with_fronts(sweep, settings_table(sweep))
    volumes = hypervolume_table(sweep, marked)
    results, trade_offs = written_results(sweep, marked), written_trade_offs(marked, volumes)
    drawings = draw_all(sweep, marked)
    contents: dict[str, bytes] = {
        "front.csv": _csv(front_table(sweep, marked)),
        "hypervolume.csv": _csv(volumes),
        "tables/results.csv": _csv(results_table(sweep, marked)),
        "tables/results.md": results.markdown().encode(),
        "tables/trade_offs.md": trade_offs.markdown().encode(),
    }
    for drawing in drawings:
        contents[f"figures/{drawing.name}.png"] = drawing.png
        contents[f"figures/{drawing.name}.svg"] = drawing.svg.encode()
    contents["report.html"] = render_report(sweep, marked, volumes, drawings, trade_offs, results).encode()

    target = sweep.folder / "analysis"
    for name, content in contents.items():
        write_bytes(target / name, content)
    return AnalysisResult(
        report=target / "report.html",
        files=tuple(target / name for name in contents),
        summary=(summary.progress(sweep), *summary.findings(marked, volumes), *summary.cautions(sweep, marked)),
    )


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()

"""All of the analysis of one sweep: its files in, tables, figures and the report out."""

from dataclasses import dataclass
from pathlib import Path

from analysis import summary
from analysis.computed import compute
from analysis.figures.every import draw_all
from analysis.files import write_bytes
from analysis.report import csv_bytes, render_report
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
    computed = compute(folder)
    sweep, marked = computed.sweep, computed.marked
    results, trade_offs = written_results(sweep, marked), written_trade_offs(marked, computed.volumes)
    figures = draw_all(computed)
    contents: dict[str, bytes] = {
        "front.csv": csv_bytes(front_table(sweep, marked)),
        "hypervolume.csv": csv_bytes(computed.volumes),
        "trials.csv": csv_bytes(sweep.results),
        "tables/results.csv": csv_bytes(results_table(sweep, marked)),
        "tables/results.md": results.markdown().encode(),
        "tables/trade_offs.md": trade_offs.markdown().encode(),
    }
    for drawing in figures.drawn.values():
        contents[f"figures/{drawing.name}.png"] = drawing.png
        contents[f"figures/{drawing.name}.svg"] = drawing.svg.encode()
        contents[f"figures/{drawing.name}.csv"] = csv_bytes(drawing.data)
    contents["report.html"] = render_report(computed, figures, trade_offs, results).encode()

    target = sweep.folder / "analysis"
    for name, content in contents.items():
        write_bytes(target / name, content)
    return AnalysisResult(
        report=target / "report.html",
        files=tuple(target / name for name in contents),
        summary=(summary.progress(sweep), *summary.findings(marked, computed.volumes), *computed.cautions),
    )

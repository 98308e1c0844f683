"""The whole analysis of one sweep or several: reads their files, writes tables, figures and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.compute import summary
from analysis.compute.everything import Computed, compute
from analysis.compute.text_table import TextTable
from analysis.figures.drawing import COLUMN, PAGE
from analysis.figures.every import draw_all
from analysis.files import write_bytes
from analysis.write.claims_tables import claim_data_table, claims_table, written_claims
from analysis.write.latex import latex
from analysis.write.report import csv_bytes, render_report
from analysis.write.single_task_table import written_against_single_tasks
from analysis.write.tables import best_table, front_table, results_table, written_results, written_trade_offs
from mtl.vocabulary.objective import Objective

MOST_NAME = 200  # bytes


@dataclass(frozen=True)
class AnalysisResult:
    """What was written; `summary` holds the sentences at the head of the report."""

    report: Path
    files: tuple[Path, ...]
    summary: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.summary, f"report: {self.report}"])


def analyze(
    sweeps: Sequence[Path | str] | Path | str,
    objectives: Sequence[Objective] = (),
    places: Sequence[str] = (),
    out: Path | None = None,
    *,
    paper: bool = False,
) -> AnalysisResult:
    """Analyses one sweep or several, finished or running, and writes a folder of tables, figures and report.html.

    Everything is computed before anything is written, and each file is replaced as a whole.

    Args:
        sweeps: a sweep's folder, or several, which are merged (see `analysis.compute.merge`).
        objectives: what the fronts trade; those of `sweep.json` where empty.
        places: where people find each folder's sweep, where that is not the folder.
        out: the folder to write. Left out: analysis/ in the sweep's folder, and of several sweeps, whose own reports
            stay, analysis-with-OTHERS/ in the first one's.
        paper: whether to write figures for print too: NAME-page.svg and NAME-column.pdf and .svg.

    Raises:
        BadInput: a folder is no sweep, its files cannot be used, or no trial is done yet.
    """
    computed = compute(sweeps, objectives, places)
    sweep, marked, volumes = computed.sweep, computed.marked, computed.volumes
    results, trade_offs = written_results(sweep, marked), written_trade_offs(marked, computed.bests, volumes)
    figures = draw_all(computed)
    contents: dict[str, bytes] = {
        "front.csv": csv_bytes(front_table(sweep, marked)),
        "hypervolume.csv": csv_bytes(volumes),
        "trials.csv": csv_bytes(sweep.results),
        "tables/results.csv": csv_bytes(results_table(sweep, marked)),
        **_written({"results": results, "trade_offs": trade_offs}),
        **computed_files(computed),
    }
    for drawing in figures.drawn.values():
        contents[f"figures/{drawing.name}.png"] = drawing.png
        contents[f"figures/{drawing.name}.svg"] = drawing.svg.encode()
        page = drawing.paper(PAGE)
        contents[f"figures/{drawing.name}.pdf"] = page.pdf
        if paper:
            column = drawing.paper(COLUMN)
            contents[f"figures/{drawing.name}-page.svg"] = page.svg.encode()
            contents[f"figures/{drawing.name}-column.pdf"] = column.pdf
            contents[f"figures/{drawing.name}-column.svg"] = column.svg.encode()
        contents[f"figures/{drawing.name}.csv"] = csv_bytes(drawing.data)
    contents["report.html"] = render_report(computed, figures, trade_offs, results).encode()

    target = out or sweep.folder / folder_name([Path(one).name for one in _listed(sweeps)])
    for name, content in contents.items():
        write_bytes(target / name, content)
    return AnalysisResult(
        report=target / "report.html",
        files=tuple(target / name for name in contents),
        summary=(
            summary.progress(sweep),
            *summary.findings(sweep, marked, computed.bests, volumes),
            *computed.cautions,
        ),
    )


def folder_name(sweeps: Sequence[str]) -> str:
    """Of the analysis of these sweeps, by their names, below the first one's folder."""
    others = "+".join(sweeps[1:])
    if not others:
        return "analysis"
    # A file system takes 255 bytes.
    shown = others if len(others.encode()) <= MOST_NAME else f"{len(sweeps) - 1}-others"
    return f"analysis-with-{shown}"


def _listed(sweeps: Sequence[Path | str] | Path | str) -> Sequence[Path | str]:
    return [sweeps] if isinstance(sweeps, Path | str) else sweeps


def computed_files(computed: Computed) -> dict[str, bytes]:
    """The tables that `Computed` holds beyond the settings' own, by file name below analysis/."""
    tables = {
        "runs": computed.runs,
        "hypervolume_by_seed": computed.run_volumes,
        "attainment": computed.attainment,
        "best": best_table(computed.sweep, computed.marked, computed.bests),
        "claims": claims_table(computed.claims),
        "claims_data": claim_data_table(computed.claims),
        "against_single_tasks": computed.single_task,
        "affinity": computed.affinity,
        "missing": computed.missing,
        "constant_predictor": computed.constant_predictor,
    }
    if layers := computed.layers:
        tables |= {"layers": layers.layers, "stages": layers.stages, "overlap": layers.overlap}
    contents = {f"tables/{name}.csv": csv_bytes(table) for name, table in tables.items()}
    single_task = written_against_single_tasks(computed.single_task)
    contents |= _written({"claims": written_claims(computed.claims), "against_single_tasks": single_task})
    for table in computed.paper_tables:
        contents[f"tables/paper_table_{table.number}.csv"] = csv_bytes(table.numbers)
        contents |= _written({f"paper_table_{table.number}": table.written}, table.title)
    if found := computed.benchmark:
        contents["tables/nyuv2_mtan.csv"] = csv_bytes(found.numbers)
        contents |= _written({"nyuv2_mtan": found.written}, found.title)
    return contents


def _written(tables: Mapping[str, TextTable], title: str = "") -> dict[str, bytes]:
    """Tables for people, as Markdown and as LaTeX, by file name below analysis/."""
    contents = {}
    for name, table in tables.items():
        contents[f"tables/{name}.md"] = (f"# {title}\n\n" * bool(title) + table.markdown()).encode()
        contents[f"tables/{name}.tex"] = latex(table, title).encode()
    return contents

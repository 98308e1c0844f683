"""`report.html`: everything the analysis found on one page that needs no network and no other file."""

import re
from collections.abc import Hashable
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd

from analysis import summary, text
from analysis.drawing import Drawing
from analysis.load import Sweep
from analysis.tables import TextTable

# Terminal colours and control characters, which tracebacks may carry and HTML may not.
NOT_TEXT = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def render_report(
    sweep: Sweep,
    marked: pd.DataFrame,
    volumes: pd.DataFrame,
    drawings: list[Drawing],
    trade_offs: TextTable,
    results: TextTable,
) -> str:
    """The page, well-formed as XML. Text from the sweep's files is escaped; only our own drawings are not."""
    # StrictUndefined: a name that the template misspells is an error, not an empty place.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("analysis").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        name=sweep.name,
        recipe=sweep.info["recipe"],
        versions=sweep.info.get("versions") or {},
        git_commit=sweep.info.get("git_commit"),
        progress=summary.progress(sweep),
        findings=summary.findings(marked, volumes),
        cautions=summary.cautions(sweep, marked),
        figures={drawing.name: _figure(drawing) for drawing in drawings},
        trade_offs=trade_offs,
        results=results,
        failed=[_failure(row) for row in sweep.trials("failed").to_dict("records")],
    )


def _failure(row: dict[Hashable, Any]) -> dict[str, str]:
    error = str(row["error"]) if pd.notna(row["error"]) else "no error was recorded"
    return {
        "trial_id": str(row["trial_id"]),
        "what": f"{row['tasks']}, λ = {text.strength(row['lambda'])}, seed {row['seed']:g}",
        "error": NOT_TEXT.sub("", error),
    }


def _figure(drawing: Drawing) -> dict[str, Any]:
    return {"title": drawing.title, "caption": drawing.caption, "svg": inline_svg(drawing.svg, drawing.name)}


def inline_svg(svg: str, prefix: str) -> str:
    """The `<svg>` element alone, its ids prefixed so that several of them can stand in one document."""
    element = svg[svg.index("<svg") :]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", element)

"""`parsimony analyze`: fronts, tables, figures and the report of one or more sweeps."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.analyze import analyze
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from mtl.paths import user_path
from mtl.vocabulary.objective import Objective
from search.store.copies import local_copy
from search.store.storage import CHECK_SECONDS, Store


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput."""
    remote = [folder for folder in options.dirs if "://" in folder]
    if remote and len(options.dirs) > 1:
        raise BadInput(f"analyze {remote[0]}: one of {len(options.dirs)} sweeps; allowed: a single URL, or folders")
    objectives = parse_objectives(options.objectives) if options.objectives is not None else ()
    out = None if options.out is None else user_path("--out", options.out).absolute()
    if remote:
        print(analyze_store(remote[0], objectives, out, paper=options.paper))
    else:
        print(
            analyze([user_path("analyze", folder) for folder in options.dirs], objectives, out=out, paper=options.paper)
        )
    return 0


def analyze_store(uri: str, objectives: Sequence[Objective], out: Path | None = None, *, paper: bool = False) -> str:
    """Analyse the sweep at this URI; returns the summary. Without objectives, its own are used.

    out: a folder of this machine to write to, in place of the sweep's own; paper: with figures for print. Raises
        BadInput.
    """
    store = Store.of_sweep(uri).waiting(CHECK_SECONDS)
    with local_copy(store) as folder:
        written = analyze([folder], objectives, [str(store)], out, paper=paper)
        if out is not None:
            return str(written)
        for path in written.files:
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return "\n".join([*written.summary, f"report: {store.shown('analysis/report.html')}"])

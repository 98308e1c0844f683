"""`parsimony analyze`: fronts, tables, figures and the report of one sweep or several."""

import argparse
from collections.abc import Sequence

from analysis.analyze import analyze
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from mtl.errors import BadInput as UnreadableSweep
from mtl.paths import user_path
from mtl.vocabulary.objective import Objective
from search.commands.local_copy import local_copy
from search.store.storage import CHECK_SECONDS, Store


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput."""
    remote = [folder for folder in options.dirs if "://" in folder]
    if remote and len(options.dirs) > 1:
        raise BadInput(f"analyze {remote[0]}: one of {len(options.dirs)} sweeps; allowed: a URL alone, or folders")
    try:
        objectives = parse_objectives(options.objectives) if options.objectives is not None else ()
        if remote:
            print(analyze_store(remote[0], objectives))
        else:
            print(analyze([user_path("analyze", folder) for folder in options.dirs], objectives))
    except UnreadableSweep as error:
        raise BadInput(str(error)) from error
    return 0


def analyze_store(uri: str, objectives: Sequence[Objective]) -> str:
    """Analyse the sweep at this URI, by these objectives or else its own; what the analysis says. Raises BadInput."""
    store = Store.of_sweep(uri).waiting(CHECK_SECONDS)
    with local_copy(store) as folder:
        written = analyze([folder], objectives, [str(store)])
        for path in written.files:
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return "\n".join([*written.summary, f"report: {store.shown('analysis/report.html')}"])

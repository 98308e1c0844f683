"""The analysis of a sweep in an object store: made in a folder of its own, and its files put beside the sweep."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from analysis.analyze import analyze
from analysis.errors import BadInput as UnreadableSweep
from analysis.objectives import Objective
from mtl.errors import BadInput
from search.errors import StorageError
from search.storage import CHECK_SECONDS, HISTORY, LAYERS, RESULTS, SWEEP, Store


def analyze_store(uri: str, objectives: Sequence[Objective]) -> str:
    """Analyse the sweep at this URI, by these objectives or else its own; what the analysis says. Raises BadInput."""
    store = Store.of_sweep(uri).waiting(CHECK_SECONDS)
    with tempfile.TemporaryDirectory(prefix="parsimony-analysis-") as scratch:
        folder = Path(scratch) / store.name
        folder.mkdir()
        try:
            for name in (SWEEP, RESULTS, HISTORY, LAYERS):
                data = store.read(name)
                if data is not None:
                    (folder / name).write_bytes(data)
            written = analyze([folder], objectives)
            for path in written.files:
                store.write(path.relative_to(folder).as_posix(), path.read_bytes())
        except UnreadableSweep as error:
            raise BadInput(str(error).replace(str(folder), str(store))) from error
        except StorageError as error:
            raise BadInput(str(error)) from error
    return "\n".join([*written.summary, f"report: {store.shown('analysis/report.html')}"])

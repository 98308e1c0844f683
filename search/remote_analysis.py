"""The analysis of a sweep that may lie in an object store: read from a copy of its tables, written beside the sweep."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.analyze import analyze
from analysis.errors import BadInput as UnreadableSweep
from analysis.load import Objective
from mtl.errors import BadInput
from search.errors import StorageError
from search.storage import CHECK_SECONDS, HISTORY, LAYERS, RESULTS, SWEEP, Store


@contextlib.contextmanager
def local_copy(store: Store) -> Iterator[Path]:
    """A folder with the sweep's tables as they are now, for as long as it is used.

    Raises BadInput where the store cannot be read, and for what the analysis raises of the folder.
    """
    with tempfile.TemporaryDirectory(prefix="parsimony-analysis-") as scratch:
        folder = Path(scratch) / store.name
        folder.mkdir()
        try:
            for name in (SWEEP, RESULTS, HISTORY, LAYERS):
                data = store.read(name)
                if data is not None:
                    (folder / name).write_bytes(data)
            yield folder
        except UnreadableSweep as error:
            raise BadInput(str(error).replace(str(folder), str(store))) from error
        except StorageError as error:
            raise BadInput(str(error)) from error


def analyze_store(uri: str, objectives: Sequence[Objective]) -> str:
    """Analyse the sweep at this URI, by these objectives or else its own; what the analysis says. Raises BadInput."""
    store = Store.of_sweep(uri).waiting(CHECK_SECONDS)
    with local_copy(store) as folder:
        written = analyze([folder], objectives, [str(store)])
        for path in written.files:
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return "\n".join([*written.summary, f"report: {store.shown('analysis/report.html')}"])

"""The tables of a sweep, wherever it lies, in a folder of this machine."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mtl.errors import BadInput
from mtl.errors import BadInput as UnreadableSweep
from mtl.vocabulary.files import HISTORY, LAYERS, RESULTS, SWEEP
from search.store.errors import StorageError
from search.store.storage import Store


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

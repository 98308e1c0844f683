"""A sweep's tables on this machine, wherever they are stored."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mtl.errors import BadInput
from mtl.vocabulary.files import HISTORY, LAYERS, RESULTS, SWEEP
from search.store.errors import StorageError
from search.store.storage import Store


@contextlib.contextmanager
def local_copy(store: Store) -> Iterator[Path]:
    """A temporary folder of this machine with the sweep's current tables.

    A StorageError inside becomes BadInput, and a BadInput about the folder names the store instead.
    """
    with tempfile.TemporaryDirectory(prefix="parsimony-analysis-") as scratch:
        folder = Path(scratch) / store.name
        folder.mkdir()
        try:
            for name in (SWEEP, RESULTS, HISTORY, LAYERS):
                if (data := store.read(name)) is not None:
                    (folder / name).write_bytes(data)
            yield folder
        except (BadInput, StorageError) as error:
            raise BadInput(str(error).replace(str(folder), str(store))) from error

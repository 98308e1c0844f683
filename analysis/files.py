"""The one place where `analysis` reads and writes bytes, so that another storage needs a change here only."""

import os
from pathlib import Path

from mtl.errors import BadInput


def read_bytes(path: Path) -> bytes:
    """The whole file; `BadInput` names it where it is not there or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside the target and renames: a reader sees the old file or the new one, never half of one.

    Makes the folders on the way. Raises `BadInput` naming the file where it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None

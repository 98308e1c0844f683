"""Files that a user hands us, as torch.save wrote them: read without unpickling."""

import pickle
from pathlib import Path
from typing import Any

import torch

from mtl.errors import BadInput


def read_tensors(what: str, path: Path | str, missing: str, unreadable: str) -> Any:
    """The content, on the CPU: tensors and plain data alone.

    what: the file's part, which begins the line; missing, unreadable: what is allowed instead of a file that cannot be
    opened, and of one that is damaged or would have to be unpickled. Raises BadInput, one line.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{what} {path}: {error.strerror or error}; allowed: {missing}") from error
    # Whatever else: bytes that are no such file make torch and zip raise errors of many kinds.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise BadInput(
            f"{what} {path}: cannot be read with weights_only=True ({type(error).__name__}); allowed: {unreadable}"
        ) from error

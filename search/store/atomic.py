"""Writes files so that they exist whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mtl.errors import BadInput


class Unfinished:
    """A file that is written under a temporary name, `path`. `finish` renames it; else it is removed at the end.

    option: the option that names the file, for the BadInput if it cannot be written.
    """

    def __init__(self, target: Path, option: str) -> None:
        """Raises BadInput if `target` is a folder, or a device or pipe, which would be replaced for everybody."""
        if not target.name or target.is_dir():
            raise BadInput(f"{option} {target}: is a folder; allowed: a file")
        if target.exists() and not target.is_file():
            raise BadInput(f"{option} {target}: is a device or a pipe; allowed: a file")
        self.target, self._option = target, option
        self.path = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, the system's errors become BadInput that names this file."""
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            yield
        except (OSError, RuntimeError) as error:
            # torch.save raises RuntimeError if the folder does not exist or may not be written.
            if isinstance(error, RuntimeError) and os.access(self.target.parent, os.W_OK):
                raise
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise BadInput(f"{self._option} {self.target}: cannot be written ({reason})") from error

    def finish(self) -> None:
        with self.writing():
            self.path.replace(self.target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.path.unlink()

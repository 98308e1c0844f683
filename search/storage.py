"""Where results are kept: a folder, or any object store that pyarrow knows. Nothing else names a sweep's files."""

import os
from pathlib import Path

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from mtl.errors import BadInput

SWEEP, RESULTS, HISTORY, PROGRESS = "sweep.json", "results.parquet", "history.parquet", "progress.json"


def trial_file(trial_id: str, name: str) -> str:
    """A trial's own file: checkpoint.pt while it is unfinished, model.pt and result.json afterwards."""
    return f"trials/{trial_id}/{name}"


class Store:
    """The files of one sweep, by their names below STORAGE/NAME. A write is whole or not there at all."""

    def __init__(self, storage: str, name: str) -> None:
        if not name or "/" in name or name in (".", ".."):
            raise BadInput(f"--name {name!r}; allowed: a name without /")
        # Absolute, as a trial's process has a working folder of its own.
        self.storage = storage if "://" in storage else os.path.abspath(os.path.expanduser(storage))
        self.name = name
        self._shown = f"{storage.rstrip('/')}/{name}"
        try:
            self._files, root = FileSystem.from_uri(storage) if "://" in storage else (LocalFileSystem(), self.storage)
        except (ValueError, OSError, ArrowException) as error:
            raise BadInput(
                f"--storage {storage}: {_one_line(error)}; allowed: a folder, s3://... or gs://..."
            ) from error
        self._root = f"{root.rstrip('/')}/{name}"
        self._local = isinstance(self._files, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """The sweep's folder, STORAGE/NAME; None where it is kept in an object store."""
        return Path(self._root) if self._local else None

    def __str__(self) -> str:
        """As the user wrote it."""
        return self._shown

    def check_writable(self) -> None:
        """Raise BadInput where nothing can be written; leave nothing behind."""
        probe = ".writable"
        made = self._missing_folders()
        try:
            self.write(probe, b"")
            self.delete(probe)
        except (OSError, ArrowException) as error:
            raise BadInput(f"--storage {self._shown}: cannot be written ({_one_line(error)})") from error
        finally:
            for folder in made:
                if os.path.isdir(folder):
                    os.rmdir(folder)

    def read(self, name: str) -> bytes | None:
        """The file's bytes, or None where there is no such file."""
        try:
            with self._files.open_input_stream(f"{self._root}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Replace the file. On a folder through a temporary name; an object store's put is atomic of itself."""
        path = f"{self._root}/{name}"
        if not self._local:
            with self._files.open_output_stream(path) as stream:
                stream.write(data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""
        path = f"{self._root}/{name}"
        if self._files.get_file_info(path).type != FileType.NotFound:
            self._files.delete_file(path)

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder of the sweep; none where there is no such folder."""
        selector = FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        return sorted(info.base_name for info in self._files.get_file_info(selector) if info.type == FileType.File)

    def finished_trials(self) -> list[str]:
        """Ids of the trials that have a folder with a result."""
        selector = FileSelector(f"{self._root}/trials", allow_not_found=True, recursive=True)
        found = [info.path for info in self._files.get_file_info(selector) if info.base_name == "result.json"]
        return sorted(path.split("/")[-2] for path in found)

    def _missing_folders(self) -> list[str]:
        """Folders that a write would make, the innermost first."""
        folders = [Path(self._root), *Path(self._root).parents] if self._local else []
        return [str(folder) for folder in folders if not folder.exists()]


def _one_line(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]

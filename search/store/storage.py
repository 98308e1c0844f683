"""The store of a sweep's files: a folder, or an object store. Every write replaces a whole file."""

import contextlib
import copy
import errno
import os
import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileType, LocalFileSystem

from mtl.errors import BadInput
from mtl.paths import check_text, user_path
from mtl.vocabulary.files import FILES, RESULT, TRIAL_FILES, TRIAL_ID, TRIALS, trial_file
from search.store.connect import connect, one_line, without_secret
from search.store.errors import StorageError
from search.store.messages import say
from search.store.process import ProcessId

# Long enough for an outage of minutes; a trial must not hold a GPU for hours while the storage is away.
PATIENCE_SECONDS = 300.0
# At a sweep's start somebody is watching: long enough for a short fault, and a wrong address shows soon.
CHECK_SECONDS = 3.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 10.0
MOST_NAME_BYTES = 255  # of a folder's name, on all common file systems

# The path is no file, or no folder, or cannot exist.
MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
LASTING = {errno.EACCES, errno.EPERM, errno.EROFS} | MISPLACED
LASTING_S3 = re.compile(
    "AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH) "
)
TEMPORARY = re.compile(r"\.([0-9a-f]+-\d+-\d+)\.[0-9a-f]{32}\.tmp$")
# Age at which a temporary file is removed if its writer's machine is another: a living writer touches its file.
TEMPORARY_SECONDS = 3600.0

T = TypeVar("T")


class Store:
    """The files of one sweep, by their names below STORAGE/NAME. Other processes see a new file whole or not at all.

    If the storage fails, each action is repeated for `patience` seconds, with a message on standard error, and then
    raises StorageError. The query of a URI (`s3://bucket/prefix?endpoint_override=...`) says how to reach the storage;
    it is not part of any name.
    """

    def __init__(self, storage: str, name: str, patience: float = PATIENCE_SECONDS) -> None:
        check_text("--name", name)
        if not name.strip() or not name.isprintable() or "/" in name or "?" in name or name in (".", ".."):
            raise BadInput(f"--name {name!r}; allowed: a name without / and ?")
        if (size := len(name.encode())) > MOST_NAME_BYTES:
            raise BadInput(f"--name {name[:20]}...: has {size:,} bytes; allowed: at most {MOST_NAME_BYTES}")
        self.name, self.patience = name, patience
        self._files, root, self.storage = connect(storage)
        self._root = f"{root.rstrip('/')}/{name}"
        self._local = isinstance(self._files, LocalFileSystem)
        if self._local:
            user_path("--storage", self._root)
        self._shown, _, self._query = without_secret(storage).partition("?") if "://" in storage else (storage, "", "")

    @classmethod
    def of_sweep(cls, folder: str) -> "Store":
        """The store of the sweep in this folder, STORAGE/NAME, or at this URI, STORAGE/NAME?QUERY."""
        if "://" not in folder:
            parent, name = os.path.split(os.path.abspath(user_path("sweep", folder)))
            if not name:
                raise BadInput(f"{folder}: no sweep; allowed: STORAGE/NAME of a sweep")
            return cls(parent, name)
        place, mark, query = folder.partition("?")
        parent, _, name = place.rstrip("/").rpartition("/")
        if not parent or parent.endswith(":/"):
            raise BadInput(f"{without_secret(folder)}: no sweep; allowed: STORAGE/NAME of a sweep")
        return cls(parent + mark + query, name)

    @property
    def folder(self) -> Path | None:
        """The sweep's folder, STORAGE/NAME; None in an object store."""
        return Path(self._root) if self._local else None

    def __str__(self) -> str:
        """As the user wrote it."""
        return self.shown()

    def shown(self, name: str = "") -> str:
        """The place of the sweep, or of one of its files, as the user wrote it; a URI's secret is left out."""
        path = f"{self._shown.rstrip('/')}/{self.name}" + (f"/{name}" if name else "")
        return f"{path}?{self._query}" if self._query else path

    def waiting(self, patience: float) -> "Store":
        """The same store with another patience."""
        other = copy.copy(self)
        other.patience = patience
        return other

    def check(self) -> None:
        """Raise BadInput if the storage does not answer or cannot be written; leave nothing behind.

        In an object store only a write shows whether writes are allowed, and a deleted file leaves a trace. There the
        first file that is really needed, the driver's lease, shows it.
        """
        hurried = self.waiting(CHECK_SECONDS)
        self._check_places()
        made = self.missing_folders()
        try:
            if self._local:
                hurried.write(".writable", b"")
                hurried.delete(".writable")
            else:
                bucket = self._root.split("/")[0]
                info = hurried._retried("reached", lambda: self._files.get_file_info(bucket)) if bucket else None
                if info is not None and info.type == FileType.NotFound:
                    raise BadInput(f"--storage {self.shown()}: no bucket {bucket}; allowed: one that exists")
                hurried.files()
        except StorageError as error:
            raise BadInput(f"--{error}") from error
        finally:
            self.remove_empty(made)

    def _check_places(self) -> None:
        """Raise BadInput if there is a folder in the place of a file that will be written, or a file in that of a
        folder."""
        if self.folder is None:
            return
        for folder, name in ((self.folder, ""), (self.folder / TRIALS, TRIALS)):
            if folder.exists() and not folder.is_dir():
                raise BadInput(f"{self.shown(name)}: is a file; allowed: a folder, or nothing there")
        for name in FILES:
            path = self.folder / name
            if path.is_dir():
                raise BadInput(f"{self.shown(name)}: is a folder; allowed: a file, or nothing there")
            try:
                path.stat()
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise BadInput(f"{self.shown(name)}: is a link to itself; allowed: a file, or nothing") from error

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None if there is no such file. Raises BadInput if it is something else than a file."""
        path = f"{self._root}/{name}"

        def read() -> bytes | None:
            try:
                if self._local:
                    return Path(path).read_bytes()
                with self._files.open_input_stream(path) as stream:
                    return stream.read()
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in MISPLACED:
                    raise
                raise BadInput(
                    f"{self.shown(name)}: cannot be read ({one_line(error)}); allowed: a file, or nothing there"
                ) from error

        return self._retried("read", read, name)

    def write(self, name: str, data: bytes) -> None:
        """Replace the file. A folder needs a temporary name for this; an object store's put is atomic."""
        path = f"{self._root}/{name}"
        self._retried("written", lambda: _write_file(path, data) if self._local else self._put(path, data), name)

    def append(self, name: str, data: bytes) -> None:
        """Append to a file, and wait until it is on the disk. Only for folders: object stores cannot append."""
        path = f"{self._root}/{name}"
        self._retried("written", lambda: _append_to_file(path, data), name)

    def try_write(self, name: str, data: bytes) -> bool:
        """Try once to write a file that can wait; returns whether it was written."""
        try:
            self.waiting(0).write(name, data)
        except StorageError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.delete_file(f"{self._root}/{name}")

        self._retried("written", delete, name)

    def files(self) -> dict[str, float]:
        """The files directly in the sweep's folder, with their last change by the storage's own clock."""
        return {info.base_name: info.mtime_ns / 1e9 for info in self._list(self._root) if info.type == FileType.File}

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder of the sweep, which need not exist."""
        return sorted(info.base_name for info in self._list(f"{self._root}/{folder}") if info.type == FileType.File)

    def siblings(self) -> "list[Store]":
        """The stores of the other sweeps in the same storage, by name."""
        parent = self._root.rpartition("/")[0]
        names = sorted(info.base_name for info in self._list(parent) if info.type == FileType.Directory)
        others = []
        for name in names:
            if name != self.name and "?" not in name:
                other = copy.copy(self)
                other.name, other._root = name, f"{parent}/{name}"
                others.append(other)
        return others

    def finished_trials(self) -> list[str]:
        """Ids of the trials that have a folder with a result.

        Raises BadInput if there is a folder in the place of a trial's file, or a file in that of its folder.
        """
        finished = []
        for info in self._list(f"{self._root}/{TRIALS}", recursive=True):
            *above, trial_id, name = info.path.split("/")
            result = f"{info.path}/{RESULT}"
            if trial_id == TRIALS and self._local and os.path.islink(result) and not os.path.exists(result):
                finished.append(name)  # a broken link, which the listing leaves out: reading it shows what is wrong
            if trial_id == TRIALS and info.type == FileType.File and self._local and TRIAL_ID.fullmatch(name):
                raise BadInput(f"{self.shown(trial_file(name, ''))}: is a file; allowed: a trial's folder, or nothing")
            if above[-1] != TRIALS or name not in TRIAL_FILES:
                continue
            if info.type == FileType.Directory:
                raise BadInput(f"{self.shown(trial_file(trial_id, name))}: is a folder; allowed: a file, or nothing")
            if name == RESULT:
                finished.append(trial_id)
        return sorted(finished)

    def remove_temporaries(self) -> None:
        """Remove the temporary files of killed writers. Object stores have none."""
        if not self._local:
            return
        for path in Path(self._root).rglob("*.tmp"):
            match = TEMPORARY.search(path.name)
            try:
                lives = ProcessId.parse(match[1]).lives() if match else True
                if lives is False or (lives is None and time.time() - path.stat().st_mtime > TEMPORARY_SECONDS):
                    path.unlink()
            except (OSError, ValueError):
                continue  # its writer has just renamed it, or another program has named it

    def missing_folders(self) -> list[str]:
        """The folders that a write would make, the innermost first."""
        folders = [Path(self._root), *Path(self._root).parents] if self._local else []
        return [str(folder) for folder in folders if not folder.exists()]

    def remove_empty(self, folders: list[str]) -> None:
        """Remove these folders if they are empty."""
        for folder in folders:
            try:
                os.rmdir(folder)
            except OSError:  # not there, or in use
                return

    def _list(self, folder: str, recursive: bool = False) -> list[FileInfo]:
        """What is in a folder; nothing if there is no such folder."""
        selector = FileSelector(folder, allow_not_found=True, recursive=recursive)
        return self._retried("read", lambda: self._files.get_file_info(selector))

    def _put(self, path: str, data: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(data)

    def _retried(self, done: str, action: Callable[[], T], name: str = "") -> T:
        """The action's value, tried again after errors. For messages: `done` is what fails ("cannot be read"), `name`
        the file."""
        began, pause, said = time.monotonic(), FIRST_PAUSE_SECONDS, False
        since = datetime.now().strftime("%H:%M:%S")
        while True:
            try:
                value = action()
                break
            except (OSError, ArrowException) as error:
                left = began + self.patience - time.monotonic()
                if left <= 0 or _lasts(error):
                    tried = f"tried for {self.patience:.0f} s: " if self.patience and not _lasts(error) else ""
                    # An outage concerns the whole storage, a lasting error perhaps only this file.
                    place = self.shown(name if _lasts(error) else "")
                    raise StorageError(f"storage {place}: cannot be {done} ({tried}{one_line(error)})") from error
                if not said and time.monotonic() - began > CHECK_SECONDS:
                    said = True
                    say(f"storage {self.shown()} cannot be {done} since {since} ({one_line(error)}); waiting for it")
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if said:
            say(f"storage {self.shown()} answers again")
        return value


def _write_file(path: str, data: bytes) -> None:
    """Write under a temporary name that no other process on any machine uses, then rename."""
    folder = os.path.dirname(path)
    temporary = f"{path}.{ProcessId.own()}.{uuid.uuid4().hex}.tmp"
    try:
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _append_to_file(path: str, data: bytes) -> None:
    """Append to the file; if only a part can be written, remove the part."""
    with open(path, "ab", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
        except BaseException:
            stream.truncate(size)
            raise


def _sync_folder(folder: str) -> None:
    """Make the new name survive a power cut. Some network file systems cannot do this, and need not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _lasts(error: BaseException) -> bool:
    """Whether waiting cannot help, as with a wrong name or a missing right; a disk or a network may recover."""
    return getattr(error, "errno", None) in LASTING or LASTING_S3.search(str(error)) is not None

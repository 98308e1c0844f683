"""Where results are kept: a folder, or an object store that pyarrow knows. Files are replaced whole."""

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
from urllib.parse import parse_qsl, urlencode, urlsplit

from pyarrow import ArrowException
from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSelector,
    FileSystem,
    FileType,
    LocalFileSystem,
    S3FileSystem,
)

from mtl.errors import BadInput
from mtl.paths import check_text, user_path
from mtl.vocabulary.files import FILES, RESULT, TRIAL_FILES, TRIAL_ID, TRIALS, trial_file
from search.store.errors import StorageError
from search.store.messages import say
from search.store.process import ProcessId

# An outage of minutes passes; a trial must not hold a GPU for hours for one that does not.
PATIENCE_SECONDS = 300.0
# As a sweep begins somebody watches: a slip of the network is waited out, a wrong address told at once.
CHECK_SECONDS = 3.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 10.0
# A server that accepts and then says nothing would otherwise block a driver.
S3_CONNECT_SECONDS, S3_ANSWER_SECONDS = 5.0, 30.0
S3_OPTIONS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")
GS_RETRY_SECONDS = 5  # of Google's client, by default a quarter of an hour: `Store` tries again, and says so
# What pyarrow is asked for: of others it knows some end the process.
SCHEMES = ("s3", "gs", "file")
ALLOWED = "a folder, s3://... or gs://..."
MOST_NAME_BYTES = 255  # of a folder on the file systems that there are

# What lies there is no file or no folder, or its name can be none.
MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
LASTING = {errno.EACCES, errno.EPERM, errno.EROFS} | MISPLACED
LASTING_S3 = re.compile(
    "AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH) "
)
TEMPORARY = re.compile(r"\.([0-9a-f]+-\d+-\d+)\.[0-9a-f]{32}\.tmp$")
# Writers on machines whose processes cannot be seen from here; one that is at work touches its file.
TEMPORARY_SECONDS = 3600.0

T = TypeVar("T")


class Store:
    """The files of one sweep, by their names below STORAGE/NAME. A write is whole or not there at all.

    What fails is tried again for `patience` seconds, with a line on standard error, and then raises StorageError.
    The query of a URI (`s3://bucket/prefix?endpoint_override=...`) says how to reach it and is no part of any name.
    """

    def __init__(self, storage: str, name: str, patience: float = PATIENCE_SECONDS) -> None:
        check_text("--name", name)
        if not name.strip() or not name.isprintable() or "/" in name or "?" in name or name in (".", ".."):
            raise BadInput(f"--name {name!r}; allowed: a name without / and ?")
        if (size := len(name.encode())) > MOST_NAME_BYTES:
            raise BadInput(f"--name {name[:20]}...: has {size:,} bytes; allowed: at most {MOST_NAME_BYTES}")
        self.name, self.patience = name, patience
        try:
            self._files, root, self.storage = _connect(storage)
        except BadInput:
            raise
        except (ValueError, OSError, ArrowException) as error:
            raise BadInput(f"--storage {_without_secret(storage)}: {_one_line(error)}; allowed: {ALLOWED}") from error
        self._root = f"{root.rstrip('/')}/{name}"
        self._local = isinstance(self._files, LocalFileSystem)
        if self._local:
            user_path("--storage", self._root)
        self._shown, _, self._query = _without_secret(storage).partition("?") if "://" in storage else (storage, "", "")

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
            raise BadInput(f"{_without_secret(folder)}: no sweep; allowed: STORAGE/NAME of a sweep")
        return cls(parent + mark + query, name)

    @property
    def folder(self) -> Path | None:
        """The sweep's folder, STORAGE/NAME; None where it is kept in an object store."""
        return Path(self._root) if self._local else None

    def __str__(self) -> str:
        """As the user wrote it."""
        return self.shown()

    def shown(self, name: str = "") -> str:
        """Where the sweep, or a file of it, lies, as the user wrote it; without a secret that a URI may carry."""
        path = f"{self._shown.rstrip('/')}/{self.name}" + (f"/{name}" if name else "")
        return f"{path}?{self._query}" if self._query else path

    def waiting(self, patience: float) -> "Store":
        """The same store with another patience."""
        other = copy.copy(self)
        other.patience = patience
        return other

    def check(self) -> None:
        """Raise BadInput where the storage does not answer or nothing can be written; leave nothing behind.

        In an object store only a write can tell whether writes are allowed, and deleting leaves a trace: there the
        driver's lease, which is the first file, tells.
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
        """Raise BadInput where a folder lies in the place of a file that will be written, or a file in a folder's."""
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
        """The file's bytes, or None where there is no such file. Raises BadInput where something else lies there."""
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
                    f"{self.shown(name)}: cannot be read ({_one_line(error)}); allowed: a file, or nothing there"
                ) from error

        return self._retried("read", read, name)

    def write(self, name: str, data: bytes) -> None:
        """Replace the file. On a folder through a temporary name; an object store's put is atomic of itself."""
        path = f"{self._root}/{name}"
        self._retried("written", lambda: _write_file(path, data) if self._local else self._put(path, data), name)

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a file, on the disk when this returns. Only in a folder: an object store cannot."""
        path = f"{self._root}/{name}"
        self._retried("written", lambda: _append_to_file(path, data), name)

    def try_write(self, name: str, data: bytes) -> bool:
        """Write what can be done without for a while: tried once; whether it was written."""
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
        """The files directly in the sweep's folder, with the storage's own time of their last change."""
        selector = FileSelector(self._root, allow_not_found=True)
        found = self._retried("read", lambda: self._files.get_file_info(selector))
        return {info.base_name: info.mtime_ns / 1e9 for info in found if info.type == FileType.File}

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder of the sweep; none where there is no such folder."""
        selector = FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        found = self._retried("read", lambda: self._files.get_file_info(selector))
        return sorted(info.base_name for info in found if info.type == FileType.File)

    def siblings(self) -> "list[Store]":
        """The stores of the other sweeps in the same storage, by name."""
        parent = self._root.rpartition("/")[0]
        selector = FileSelector(parent, allow_not_found=True)
        found = self._retried("read", lambda: self._files.get_file_info(selector))
        names = sorted(info.base_name for info in found if info.type == FileType.Directory)
        others = []
        for name in names:
            if name != self.name and "?" not in name:
                other = copy.copy(self)
                other.name, other._root = name, f"{parent}/{name}"
                others.append(other)
        return others

    def finished_trials(self) -> list[str]:
        """Ids of the trials that have a folder with a result.

        Raises BadInput where a folder lies in the place of a trial's file, or a file in that of its folder.
        """
        selector = FileSelector(f"{self._root}/{TRIALS}", allow_not_found=True, recursive=True)
        found = self._retried("read", lambda: self._files.get_file_info(selector))
        finished = []
        for info in found:
            *above, trial_id, name = info.path.split("/")
            result = f"{info.path}/{RESULT}"
            if trial_id == TRIALS and self._local and os.path.islink(result) and not os.path.exists(result):
                finished.append(name)  # the listing leaves out a link that leads nowhere; reading it says what is wrong
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
        """Remove what killed writers left. An object store shows no such files."""
        if not self._local:
            return
        for path in Path(self._root).rglob("*.tmp"):
            match = TEMPORARY.search(path.name)
            try:
                lives = ProcessId.parse(match[1]).lives() if match else True
                if lives is False or (lives is None and time.time() - path.stat().st_mtime > TEMPORARY_SECONDS):
                    path.unlink()
            except (
                OSError,
                ValueError,
            ):  # a writer has just renamed it, or another program named it; the next start sees it again
                continue

    def missing_folders(self) -> list[str]:
        """Folders that a write would make, the innermost first."""
        folders = [Path(self._root), *Path(self._root).parents] if self._local else []
        return [str(folder) for folder in folders if not folder.exists()]

    def remove_empty(self, folders: list[str]) -> None:
        """Remove these folders, as far as they are empty."""
        for folder in folders:
            try:
                os.rmdir(folder)
            except OSError:  # not there, or in use
                return

    def _put(self, path: str, data: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(data)

    def _retried(self, done: str, action: Callable[[], T], name: str = "") -> T:
        """The action's value. `done` says what the storage cannot be where it fails, `name` of which file."""
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
                    # An outage is of the whole storage; what lasts may be the one file's.
                    place = self.shown(name if _lasts(error) else "")
                    raise StorageError(f"storage {place}: cannot be {done} ({tried}{_one_line(error)})") from error
                if not said and time.monotonic() - began > CHECK_SECONDS:
                    said = True
                    say(f"storage {self.shown()} cannot be {done} since {since} ({_one_line(error)}); waiting for it")
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if said:
            say(f"storage {self.shown()} answers again")
        return value


def _connect(storage: str) -> tuple[FileSystem, str, str]:
    """The file system, the path in it, and the storage as other processes shall name it."""
    check_text("--storage", storage)
    scheme, colon, _ = storage.partition(":")
    if "://" not in storage and not (colon and scheme in SCHEMES):
        # Absolute, as a trial's process has a working folder of its own.
        path = os.path.abspath(user_path("--storage", storage))
        return LocalFileSystem(), path, path
    parts = urlsplit(storage)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme or 'no scheme'}:// is not known")
    if parts.scheme != "file" and not parts.netloc.rpartition("@")[2]:
        raise ValueError("has no bucket")
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "s3":
        for option in options:
            if option not in S3_OPTIONS:
                raise ValueError(f"{option} after the ?; allowed there: {', '.join(S3_OPTIONS)}")
    if parts.scheme == "gs":
        patient = {"retry_limit_seconds": str(GS_RETRY_SECONDS), **options}
        files, root = FileSystem.from_uri(parts._replace(query=urlencode(patient, safe=":/")).geturl())
        return files, root, storage
    files, root = FileSystem.from_uri(storage)
    if not isinstance(files, S3FileSystem):
        return files, root, storage
    # pyarrow has asked for the bucket's region, which a trial that starts in an outage could not; and the processes of
    # trials on other nodes may have another environment.
    options["region"] = files.region
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options.setdefault("endpoint_override", endpoint)
    user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
    files = S3FileSystem(
        access_key=user or None,
        secret_key=secret or None,
        connect_timeout=S3_CONNECT_SECONDS,
        request_timeout=S3_ANSWER_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),  # `Store` tries again, and says so
        **options,
    )
    return files, root, parts._replace(query=urlencode(options, safe=":/")).geturl()


def _write_file(path: str, data: bytes) -> None:
    """Under a name that no other process on any machine takes, then renamed."""
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
    """What could be written of it only in part is taken away again."""
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
    """Make the new name last through a power cut. Some network file systems cannot, and need not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _lasts(error: BaseException) -> bool:
    """Whether no waiting mends it: a wrong name or a missing right, and not a disk or network that fails."""
    return getattr(error, "errno", None) in LASTING or LASTING_S3.search(str(error)) is not None


def _without_secret(storage: str) -> str:
    return re.sub(r"//[^/@]*@", "//", storage, count=1)


def _one_line(error: BaseException) -> str:
    text = str(getattr(error, "strerror", None) or error).splitlines()[0]
    # pyarrow puts what it did before what went wrong, and the server's request number after it.
    return re.sub(r" \(Request ID: .*\)$", "", re.sub(r"^.*?(AWS Error )", r"\1", text))

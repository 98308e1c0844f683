"""Connecting to a storage: a folder, or an object store that pyarrow knows."""

import os
import re
from urllib.parse import parse_qsl, urlencode, urlsplit

from pyarrow import ArrowException
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem

from mtl.errors import BadInput
from mtl.paths import check_text, user_path

# Limits for a server that accepts a connection and then says nothing, which would otherwise block a driver.
S3_CONNECT_SECONDS, S3_ANSWER_SECONDS = 5.0, 30.0
S3_OPTIONS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")
GS_RETRY_SECONDS = 5  # Google's client itself retries for 15 minutes by default; `Store` retries too, and says so
# Of the other schemes that pyarrow knows, some end the process.
SCHEMES = ("s3", "gs", "file")


def connect(storage: str) -> tuple[FileSystem, str, str]:
    """The file system, the path in it, and the storage's name for other processes. Raises BadInput."""
    check_text("--storage", storage)
    try:
        return _connect(storage)
    except BadInput:
        raise
    except (ValueError, OSError, ArrowException) as error:
        said = f"--storage {without_secret(storage)}: {one_line(error)}"
        raise BadInput(f"{said}; allowed: a folder, s3://... or gs://...") from error


def _connect(storage: str) -> tuple[FileSystem, str, str]:
    scheme, colon, _ = storage.partition(":")
    if "://" not in storage and not (colon and scheme in SCHEMES):
        # Absolute, because the process of a trial has its own working folder.
        path = os.path.abspath(user_path("--storage", storage))
        return LocalFileSystem(), path, path
    parts = urlsplit(storage)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{parts.scheme or 'no scheme'}:// is not known")
    if parts.scheme != "file" and not parts.netloc.rpartition("@")[2]:
        raise ValueError("has no bucket")
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "gs":
        patient = {"retry_limit_seconds": str(GS_RETRY_SECONDS), **options}
        return (*FileSystem.from_uri(parts._replace(query=urlencode(patient, safe=":/")).geturl()), storage)
    if parts.scheme == "s3" and (unknown := [option for option in options if option not in S3_OPTIONS]):
        raise ValueError(f"{unknown[0]} after the ?; allowed there: {', '.join(S3_OPTIONS)}")
    files, root = FileSystem.from_uri(storage)
    if not isinstance(files, S3FileSystem):
        return files, root, storage
    # pyarrow has asked for the bucket's region; a trial that starts during an outage could not ask. The processes of
    # trials on other nodes may also have other environment variables.
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
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),  # `Store` retries, and says so
        **options,
    )
    return files, root, parts._replace(query=urlencode(options, safe=":/")).geturl()


def without_secret(storage: str) -> str:
    """The storage without the user and the key that a URI may contain."""
    return re.sub(r"//[^/@]*@", "//", storage, count=1)


def one_line(error: BaseException) -> str:
    """What went wrong. pyarrow puts before it what it did, and after it the number of the server's request."""
    text = str(getattr(error, "strerror", None) or error).splitlines()[0]
    return re.sub(r" \(Request ID: .*\)$", "", re.sub(r"^.*?(AWS Error )", r"\1", text))

"""A real S3 server on loopback, which can be stopped and started again without losing what it holds."""

import contextlib
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

from pyarrow.fs import FileSelector, S3FileSystem

from tests.support.waiting import DEADLINE_SECONDS

REGION = "us-east-1"


class S3Server:
    """Moto's server in a thread of this process, in whose memory the buckets outlive each start and stop."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._server: Any = None

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app: Any = DomainDispatcherApplication(create_backend_app)
        # It listens from here on: who connects before the thread runs is served a little later.
        self._server = make_server("127.0.0.1", self._port, app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Connections are refused meanwhile."""
        self.stop()
        try:
            with socket.socket() as place:  # that nobody listens at, and nobody else can take meanwhile
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                place.bind(("127.0.0.1", self._port))
                yield
        finally:
            self.start()

    def uri(self, path: str) -> str:
        """The storage at BUCKET/PREFIX."""
        return f"s3://{path}?endpoint_override={self.endpoint}&region={REGION}"

    def reset(self) -> None:
        """Empty, but for a bucket called `bucket`."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=DEADLINE_SECONDS).close()
        self._files().create_dir("bucket")

    def fill(self, names: Iterable[str], data: bytes) -> None:
        """Put many files into `bucket`, past the network."""
        from moto.backends import get_backend
        from moto.core import DEFAULT_ACCOUNT_ID

        backend = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
        for name in names:
            backend.put_object("bucket", name, data)

    def keys(self, path: str) -> list[str]:
        """The files at BUCKET/PREFIX, by their names below it."""
        found = self._files().get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{path}/") for info in found if info.is_file)

    def _files(self) -> S3FileSystem:
        return S3FileSystem(endpoint_override=self.endpoint, region=REGION, allow_bucket_creation=True)

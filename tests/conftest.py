"""What all tests share: one thread, a cache of their own, and skips that count as failures where asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.s3_server import S3Server

torch.set_num_threads(1)  # a network of a few kilobytes gains nothing from two, and tests may run beside trials

REQUIRE_ALL = os.environ.get("PARSIMONY_REQUIRE_ALL") == "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's cache; processes that tests start inherit this one."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARSIMONY_CACHE", str(folder))
        yield folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that must still be empty when the test ends."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server that runs, with a bucket called `bucket`, and credentials for it in the environment."""
    pytest.importorskip("moto", reason="moto, the S3 server of these tests, is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    server = S3Server()
    server.start()
    server.reset()
    yield server
    server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With PARSIMONY_REQUIRE_ALL=1 a skip is a failure, except for tests that need a GPU."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped, and PARSIMONY_REQUIRE_ALL=1: {report.longrepr}"
    return report

"""What all tests share: one thread, a cache and an environment of their own, and skips that count as failures.

The last only where asked for.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.support.s3_server import S3Server

# What this machine's user has set for these says nothing of ours: another Ray cluster, another bucket, another server.
for _name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_", "PG", "RAY_", "TUNE_", "WANDB_"))]:
    del os.environ[_name]
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = f"{os.devnull}/none"
# An example may take any time on a busy machine; the same ones are tried at each run.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")
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

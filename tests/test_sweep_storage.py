"""Whole sweeps whose storage is an S3 server, goes away, comes back, fills up, or is another driver's."""

import json
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtl.errors import BadInput
from search.cli import main
from search.errors import StorageError
from search.lease import Lease
from search.results import read_results
from search.storage import Store
from search.trial import RunContext, TrialRun
from tests.s3_server import S3Server
from tests.test_storage import full_disk
from tests.test_sweep import finished, parsimony, wait_until

TINY = [
    "image_size=32", "backbone_width=4", "head_channels=8", "epochs=1", "batch_size=8", "seeds=1", "combinations=depth",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8", "lambdas=0", "cpus_per_trial=1",
]  # fmt: skip


def words(command: str, storage: str, *sets: str) -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", storage, *overrides]


def test_a_sweep_on_s3_that_loses_its_storage_for_a_while(s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    uri = s3.uri("bucket/prefix")
    folder = Store(uri, "rooms")
    sweep = words("sweep", uri, "lambdas=0,1e-2", "epochs=40", "checkpoint_seconds=0", "max_retries=0")
    driver = parsimony(*sweep)
    try:
        wait_until(lambda: any("checkpoint.pt" in key for key in s3.keys("bucket")) or driver.poll() is not None)
        with s3.outage():
            time.sleep(5)
            assert driver.poll() is None
        out, _ = finished(driver, 0)
    finally:
        driver.kill()
    assert f"2 trials done, 0 failed, 0 missing: {folder.shown('results.parquet')}" in out
    names = {key.rpartition("/")[2] for key in s3.keys("bucket/prefix/rooms")}
    assert names == {"sweep.json", "progress.json", "results.parquet", "history.parquet", "model.pt", "result.json"}
    assert {result.status for result in read_results(folder).values()} == {"done"}
    assert main(["status", str(folder)]) == 0
    assert "2 done, 0 failed, 0 not ended, of 2" in capsys.readouterr().out
    _, err = finished(parsimony(*sweep), 0)
    assert "2 done before, 0 to run" in err


@contextmanager
def short_patience(monkeypatch: pytest.MonkeyPatch, seconds: float):
    original = Store.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Store, "__init__", lambda self, storage, name: original(self, storage, name, seconds))
        yield

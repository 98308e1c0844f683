"""Whole sweeps whose storage is an S3 server, goes away, comes back, fills up, or is another driver's."""

import os
import signal
import time
from pathlib import Path

import pytest

from mtl.config import TrialConfig
from mtl.datasets.registry import load_dataset
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import TrialRun
from search.recipe import expand
from search.recipe_file import load_recipe
from search.store.errors import StorageError
from search.store.lease import Lease
from search.store.results import read_results
from search.store.storage import Store
from search.sweep import Sweep
from tests.search.store.test_storage import full_disk
from tests.support.commands import finished, halted, said_here
from tests.support.in_process import PENALTY_ALONE
from tests.support.s3_server import S3Server

TINY = [
    *PENALTY_ALONE,
    "image_size=32", "backbone_width=4", "head_channels=8", "epochs=1", "batch_size=8", "seeds=1", "combinations=depth",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8", "lambdas=0", "cpus_per_trial=1",
]  # fmt: skip
# Longer than what the storage is silent about; how much of it the trials notice changes nothing of what must hold.
OUTAGE_SECONDS = 5.0
TABLES = ("results.parquet", "history.parquet", "layers.parquet")


def words(command: str, storage: str, *sets: str) -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", storage, *overrides]


def test_a_sweep_on_s3_that_loses_its_storage_for_a_while(s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    uri = s3.uri("bucket/prefix")
    folder = Store(uri, "rooms")
    sweep = words("sweep", uri, "lambdas=0,1e-2", "epochs=5", "checkpoint_seconds=0", "max_retries=0")
    with halted("epochs", 1, *sweep) as driver:
        assert any("checkpoint.pt" in key for key in s3.keys("bucket"))
        with s3.outage():
            driver.send_signal(signal.SIGCONT)
            time.sleep(OUTAGE_SECONDS)
            assert driver.poll() is None, driver.communicate()
        out, _ = finished(driver, 0)
    assert f"2 trials done, 0 failed, 0 missing: {folder.shown('results.parquet')}" in out
    names = {key.rpartition("/")[2] for key in s3.keys("bucket/prefix/rooms")}
    assert names == {"sweep.json", "progress.json", *TABLES, "model.pt", "result.json"}
    assert {result.status for result in read_results(folder).values()} == {"done"}
    assert main(["status", str(folder)]) == 0
    assert "2 done, 0 failed, 0 not ended, of 2" in capsys.readouterr().out
    _, err = said_here(sweep, 0, capsys)
    assert "2 done before, 0 to run" in err


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if minutes had passed."""
    monkeypatch.setattr(Store.__init__, "__defaults__", (0.5,))
    monkeypatch.setattr(Sweep.write_tables, "__defaults__", (0.5, None))


def test_train_status_and_analyze_on_s3(s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    uri = s3.uri("bucket/prefix")
    folder = str(Store(uri, "rooms"))
    assert main(["status", folder]) == 2
    assert main(["analyze", folder]) == 2
    assert f"{folder} is no sweep" in capsys.readouterr().err
    assert main(words("train", uri)) == 0
    capsys.readouterr()
    assert main(["status", folder]) == 0
    assert "1 done, 0 failed, 0 not ended, of 1" in capsys.readouterr().out
    assert main(["analyze", folder]) == 0
    assert f"report: {Store(uri, 'rooms').shown('analysis/report.html')}" in capsys.readouterr().out
    assert {"analysis/report.html", "analysis/figures/front.png"} <= set(s3.keys("bucket/prefix/rooms"))
    assert not [key for key in s3.keys("bucket/prefix/rooms") if key.startswith("driver-")]
    with s3.outage():
        assert main(["status", folder]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_trial_whose_storage_is_gone_has_no_result(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config()
    run = TrialRun(config, RunContext(s3.uri("bucket"), "rooms", None, threads=1, gpus=0, checkpoint_seconds=0))
    run.store = run.store.waiting(0.5)
    with s3.outage(), pytest.raises(StorageError):
        run.step()
    with monkeypatch.context() as patch:
        patch.setattr(run, "_done_before", lambda: False)  # it fails a moment later, as the checkpoint is looked for
        with s3.outage(), pytest.raises(StorageError):
            run.step()
    assert run.result is None
    assert s3.keys("bucket/rooms") == []
    run.step()
    assert run.result is not None
    assert run.result.status == "done"


def test_a_full_disk_ends_with_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("train", str(tmp_path / "other"))) == 0  # fills the cache
    capsys.readouterr()
    with monkeypatch.context() as patch, full_disk():
        impatient(patch)
        assert main(words("train", str(tmp_path))) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert err[0].startswith(f"parsimony: storage {tmp_path}/rooms: cannot be written (tried for")
    assert err[0].endswith("the same command continues it")
    assert not list((tmp_path / "rooms").rglob("result.json"))
    assert main(words("train", str(tmp_path))) == 0


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_a_second_driver_is_bad_input(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lease(Store(str(tmp_path), "rooms")):
        assert main(words(command, str(tmp_path))) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"is driven by pid {os.getpid()} on " in err
        assert [path.name.partition("-")[0] for path in (tmp_path / "rooms").iterdir()] == ["driver"]


def load_config() -> TrialConfig:
    """The only trial of `words`."""
    recipe = load_recipe("rooms", TINY)
    return expand(recipe, load_dataset(recipe.dataset, None, recipe.dataset_options).fingerprint())[0]

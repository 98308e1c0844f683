"""What TensorBoard, MLflow and Weights & Biases have of a sweep, read back by their own means."""

import io
import logging
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from mlflow import MlflowClient
from mlflow.entities import Run
from pyarrow.fs import _MockFileSystem
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record
from werkzeug.serving import make_server

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.metric import Metric
from search.deltas import Deltas
from search.listener import Listener
from search.loggers.background import WAITING_CALLS, Background
from search.loggers.finals import WithDeltas
from search.loggers.names import folder_name, run_name
from search.loggers.registry import make_loggers
from search.recipe import differing_settings, expand
from search.recipe_file import format_recipe, load_recipe
from search.store.results import Status, TrialResult
from search.store.storage import Store
from tests.support.small import config
from tests.support.waiting import DEADLINE_SECONDS

ONE, TWO = config(tasks=("depth",), seed=1, strength=0.5), config(tasks=("depth", "male"), seed=2, strength=0)
METRICS = {"val_depth_mae": 0.25, "test_depth_mae": 0.75, "group_sparsity": 0.5}


def epoch_row(trial: TrialConfig, epoch: int) -> dict[str, float]:
    """Values that a float32 holds exactly and no other trial and epoch has."""
    return {"epoch": epoch, "val_depth_mae": trial.seed + epoch / 8, "group_sparsity": epoch / 4, "seconds": 0.5}


def curve(trial: TrialConfig, epochs: int) -> list[tuple[int, float]]:
    """The steps and values of val_depth_mae that a service ought to have."""
    return [(epoch, trial.seed + epoch / 8) for epoch in range(epochs)]


def result(trial: TrialConfig, epochs: int, status: Status = "done", error: str = "") -> TrialResult:
    rows = tuple(epoch_row(trial, epoch) for epoch in range(epochs))
    metrics = METRICS if status == "done" else {}
    return TrialResult(trial, status, "2026-01-01", "2026-01-02", 1.0, metrics, rows, error)


def folder_of(root: Path, trial: TrialConfig) -> Path:
    """Of a trial's event files."""
    return root / "night" / "tensorboard" / folder_name(trial)


def loggers_of(store: Store, *sets: str) -> list[Listener]:
    return make_loggers(load_recipe("rooms", sets), store)


def tell(loggers: Sequence[Listener], epochs: Sequence[tuple[TrialConfig, int]], *results: TrialResult) -> None:
    """A sweep's calls in this order, and its end."""
    for logger in loggers:
        for trial, epoch in epochs:
            logger.epochs(trial, [epoch_row(trial, epoch)])
        for ended in results:
            logger.ended(ended)
        logger.close()


INTERLEAVED = [(ONE, 0), (TWO, 0), (TWO, 1), (ONE, 1), (TWO, 2)]


def interrupted_then_resumed(store: Store, *sets: str) -> None:
    """ONE is stopped after two epochs; the next sweep gets its rows from the first one on, one of them twice."""
    tell(loggers_of(store, *sets), [(ONE, 0), (ONE, 1)])
    tell(loggers_of(store, *sets), [(ONE, 0), (ONE, 1), (ONE, 2), (ONE, 2), (ONE, 3)], result(ONE, 4))


def bad_input(store: Store, *sets: str) -> str:
    """The one line with which the loggers are refused."""
    with pytest.raises(BadInput) as caught:
        loggers_of(store, *sets)
    message = str(caught.value)
    assert "\n" not in message
    assert "allowed: " in message
    return message


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path), "night")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a service takes longer than a sweep would wait for it at its end."""
    monkeypatch.setattr(Background.__init__, "__defaults__", (WAITING_CALLS, DEADLINE_SECONDS))


@pytest.fixture(autouse=True)
def nothing_said(capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Iterator[None]:
    """A logger that does its work is silent, on the terminal's live line above all."""
    yield
    if "said" not in request.fixturenames:
        assert capfd.readouterr() == ("", "")


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """For a test of what is said: with it a test may not be silent."""
    return capfd


# Δm and costs, which may be known only after a trial's end

DENSE = config(tasks=("depth",), seed=1, strength=0)
PRIMARIES = {"depth": Metric("depth_mae", "MAE", "m", "minimize")}
FINALS = {"final/delta_m": 0.75, "final/test_delta_m": 0.5, "final/model_macs_share": 0.25, "final/model_macs": 2e6}


def of_depth(trial: TrialConfig, val: float, test: float, macs: float) -> TrialResult:
    done = result(trial, 1)
    return replace(done, metrics={"val_depth_mae": val, "test_depth_mae": test, "model_macs": macs})


def with_deltas(loggers: Sequence[Background], *earlier: TrialResult) -> WithDeltas:
    return WithDeltas(loggers, Deltas(PRIMARIES, DENSE.setup_id, earlier))


@pytest.fixture(params=["at the end", "later"])
def ending(request: pytest.FixtureRequest) -> list[TrialResult]:
    """The dense model that a trial is measured against ends before it, or after it."""
    trials = [of_depth(DENSE, 1.0, 2.0, 8e6), of_depth(ONE, 0.25, 1.0, 2e6)]
    return trials if request.param == "at the end" else trials[::-1]


def end_all(loggers: Sequence[Background], results: Sequence[TrialResult]) -> None:
    everyone = with_deltas(loggers)
    for one in results:
        everyone.ended(one)
    everyone.close()


def test_tensorboard_has_delta_m_and_the_cost(store: Store, tmp_path: Path, ending: list[TrialResult]) -> None:
    end_all(make_loggers(load_recipe("rooms", ["tensorboard=true"]), store), ending)
    folder = folder_of(tmp_path, ONE)
    assert {name: points(folder, name) for name in FINALS} == {name: [(1, value)] for name, value in FINALS.items()}
    told = HParamsPluginData.FromString(
        events(folder).SummaryMetadata("_hparams_/experiment").plugin_data.content
    ).experiment.metric_infos
    assert {one.name.tag for one in told} >= set(FINALS)


def test_tensorboard_goes_on_in_the_folder_of_an_earlier_version(store: Store, tmp_path: Path) -> None:
    tell(loggers_of(store, "tensorboard=true"), [(ONE, 0)])
    old = folder_of(tmp_path, ONE).rename(tmp_path / "night" / "tensorboard" / ONE.trial_id)
    tell(loggers_of(store, "tensorboard=true"), [(ONE, 0), (ONE, 1)], result(ONE, 2))
    assert points(old) == curve(ONE, 2)
    assert [path.name for path in old.parent.iterdir()] == [ONE.trial_id]


def test_mlflow_has_delta_m_and_the_cost(store: Store, database: str, ending: list[TrialResult]) -> None:
    end_all(make_loggers(load_recipe("rooms", [f"mlflow={database}"]), store), ending)
    run = runs(database)[ONE.trial_id]
    assert {name: run.data.metrics[name] for name in FINALS} == FINALS
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"depth λ 0.5 seed 1 · {ONE.trial_id[:8]}"


def test_wandb_has_delta_m_and_the_cost(store: Store, tmp_path: Path, offline: None, ending: list[TrialResult]) -> None:
    end_all(make_loggers(load_recipe("rooms", ["wandb=parsimonious"]), store), ending)
    found = written(tmp_path / "night", ONE)
    summary = {i.key or "/".join(i.nested_key): i.value_json for record in found for i in record.summary.update}
    assert {name: float(summary[name]) for name in FINALS} == FINALS
    about = next(record.run for record in found if record.HasField("run"))
    assert (about.display_name, about.run_group) == (run_name(ONE), "night")


def test_what_becomes_known_is_told_once() -> None:
    notebook = Notebook()
    other = config(tasks=("depth",), seed=2, strength=0.5)
    failed = replace(of_depth(config(tasks=("depth",), seed=3, strength=0), 1, 1, 1), status="failed", metrics={})
    everyone = with_deltas(
        [Background(notebook)], of_depth(config(tasks=("depth",), seed=4, strength=1), 1.0, 1.0, 1e6)
    )
    dense = of_depth(DENSE, 1.0, 2.0, 8e6)
    for one in (of_depth(ONE, 0.25, 1.0, 2e6), of_depth(other, 1.0, 1.0, 1e6), failed, dense, dense):
        everyone.ended(one)
    everyone.close()
    told = [line for line in notebook.told if line.startswith(("end", "later"))]
    assert told == [
        "end 1",
        "end 2",
        "end 3",
        "end 1 delta_m model_macs_share test_delta_m",
        "later 4 model_macs_share",
        "later 1 delta_m model_macs_share test_delta_m",
        "later 2 model_macs_share",
        "end 1 delta_m model_macs_share test_delta_m",
    ]


def test_names_that_people_can_read() -> None:
    path = config(
        tasks=("segmentation", "depth"), strength=0, compressor="path", target_macs=0.25, warm_started_from="a"
    )
    assert run_name(path) == f"segmentation+depth path 25 % seed 0 · {path.trial_id[:8]}"
    assert folder_name(path) == f"segmentation+depth_path_25pct_seed_0_{path.trial_id[:8]}"
    assert folder_name(ONE) == f"depth_lambda_0.5_seed_1_{ONE.trial_id[:8]}"
    assert run_name(DENSE).startswith("depth dense seed 1 · ")
    assert "λ 0.5 fine_tune seed" in run_name(config(strength=0.5, retraining="fine_tune"))
    many = config(tasks=tuple(f"attribute_{number}" for number in range(40)))
    assert run_name(many).startswith("40 tasks λ 0.001 seed 0 · ")
    assert len(run_name(many)) <= 128


# TensorBoard


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def points(folder: Path, tag: str = "val_depth_mae") -> list[tuple[int, float]]:
    # Of files of the same second TensorBoard reads number 10 before number 9.
    return sorted((event.step, event.value) for event in events(folder).Scalars(tag))


def hyperparameters(folder: Path) -> dict[str, Any]:
    data = events(folder).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(data).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def test_tensorboard_has_every_epoch_of_two_interleaved_trials(store: Store, tmp_path: Path) -> None:
    failed = result(TWO, 3, "failed", "TrialFailed: the loss became not finite")
    tell(loggers_of(store, "tensorboard=true"), INTERLEAVED, result(ONE, 2), failed)
    one, two = folder_of(tmp_path, ONE), folder_of(tmp_path, TWO)
    assert set(one.parent.iterdir()) == {one, two}
    assert points(one) == curve(ONE, 2)
    assert points(two) == curve(TWO, 3)
    assert points(one, "group_sparsity") == [(0, 0.0), (1, 0.25)]
    assert points(one, "final/test_depth_mae") == [(2, 0.75)]
    assert "epoch" not in events(one).Tags()["scalars"]
    found = hyperparameters(two)
    assert (found["lambda"], found["tasks"], found["seed"]) == (0.0, "depth+male", 2.0)
    assert b"not finite" in events(two).Tensors("error/text_summary")[0].tensor_proto.string_val[0]


def test_tensorboard_repeats_no_step_after_a_resume(store: Store, tmp_path: Path) -> None:
    interrupted_then_resumed(store, "tensorboard=true")
    assert points(folder_of(tmp_path, ONE)) == curve(ONE, 4)


def test_tensorboard_takes_the_final_metrics_of_a_trial_for_no_epoch(store: Store, tmp_path: Path) -> None:
    tell(loggers_of(store, "tensorboard=true"), [(ONE, 0)], result(ONE, 1))
    tell(loggers_of(store, "tensorboard=true"), [(ONE, 0), (ONE, 1)])
    assert points(folder_of(tmp_path, ONE)) == curve(ONE, 2)


def bucket(*trials: TrialConfig) -> Store:
    """An object store in memory."""
    store = Store("/bucket", "night")
    store._files, store._root, store._local = _MockFileSystem(), "bucket/night", False
    for trial in trials:  # which a bucket would not need
        store._files.create_dir(f"bucket/night/tensorboard/{folder_name(trial)}", recursive=True)
    return store


def downloaded(store: Store, trial: TrialConfig, folder: Path) -> Path:
    folder.mkdir()
    for name in store.names(f"tensorboard/{folder_name(trial)}"):
        (folder / name).write_bytes(store.read(f"tensorboard/{folder_name(trial)}/{name}") or b"")
    return folder


def test_tensorboard_in_an_object_store_goes_on_after_a_resume(tmp_path: Path) -> None:
    store = bucket(ONE)
    interrupted_then_resumed(store, "tensorboard=true")
    assert len(store.names(f"tensorboard/{folder_name(ONE)}")) == 2  # one of each sweep
    assert points(downloaded(store, ONE, tmp_path / "all")) == curve(ONE, 4)


def test_tensorboard_puts_a_running_trial_into_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.loggers.tensorboard.UPLOAD_SECONDS", 0)
    store, written = bucket(ONE), threading.Event()
    write = store.write

    def watched(name: str, data: bytes) -> None:
        write(name, data)
        written.set()

    monkeypatch.setattr(store, "write", watched)
    (logger,) = loggers_of(store, "tensorboard=true")
    logger.epochs(ONE, [epoch_row(ONE, 0)])
    assert written.wait(DEADLINE_SECONDS)
    assert points(downloaded(store, ONE, tmp_path / "running")) == curve(ONE, 1)
    logger.close()


# MLflow


def runs(uri: str, sweep: str = "night") -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_trial = {run.data.tags["trial_id"]: run for run in found}
    assert len(by_trial) == len(found), "a trial has two runs"
    return by_trial


def metric_points(uri: str, run: Run, name: str = "val_depth_mae") -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.value) for metric in history)


def test_mlflow_has_a_run_of_each_of_two_interleaved_trials(store: Store, tmp_path: Path) -> None:
    failed = result(TWO, 3, "failed", "TrialFailed: the loss became not finite")
    tell(loggers_of(store, f"mlflow={tmp_path}/ml"), INTERLEAVED, result(ONE, 2), failed)
    uri = f"sqlite:///{tmp_path}/ml/mlflow.db"
    found = runs(uri)
    one, two = found[ONE.trial_id], found[TWO.trial_id]
    assert metric_points(uri, one) == curve(ONE, 2)
    assert metric_points(uri, two) == curve(TWO, 3)
    assert one.data.metrics["final/test_depth_mae"] == 0.75
    assert (one.data.params["lambda"], one.data.params["tasks"], one.data.params["seed"]) == ("0.5", "depth", "1")
    assert one.data.tags["sweep"] == "night"
    assert (one.info.status, two.info.status) == ("FINISHED", "FAILED")
    assert two.data.tags["error"] == "TrialFailed: the loss became not finite"


def test_mlflow_goes_on_with_the_run_of_a_resumed_trial(store: Store, database: str) -> None:
    tell(loggers_of(store, f"mlflow={database}"), [(ONE, 0), (ONE, 1)], result(TWO, 1, "stopped"))
    stopped = runs(database)
    assert {run.info.status for run in stopped.values()} == {"KILLED"}
    interrupted_then_resumed(store, f"mlflow={database}")
    run = runs(database)[ONE.trial_id]
    assert run.info.run_id == stopped[ONE.trial_id].info.run_id
    assert run.info.status == "FINISHED"
    assert metric_points(database, run) == curve(ONE, 4)


@pytest.fixture(scope="module")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, which takes MLflow seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "ml.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(made_database: Path, tmp_path: Path) -> str:
    """The URI of an empty MLflow database of the test's own."""
    return f"sqlite:///{shutil.copy(made_database, tmp_path / 'ml.db')}"


def test_mlflow_keeps_the_parameters_of_a_trial_whose_weights_lie_elsewhere(store: Store, database: str) -> None:
    here = ONE.model_copy(update={"weights": "/here.pt", "weights_version": "v"})
    there = here.model_copy(update={"weights": "/there.pt"})
    for trial in (here, there):
        tell(loggers_of(store, f"mlflow={database}"), [(trial, 0)], result(trial, 1))
    assert runs(database)[here.trial_id].data.params["weights"] == "/here.pt"


@pytest.fixture
def mlflow_server(tmp_path: Path, database: str) -> Iterator[str]:
    """The address of MLflow's own server, in a thread: as a process it takes a quarter of a minute to start."""
    from mlflow.server import app
    from mlflow.server.handlers import initialize_backend_stores

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    initialize_backend_stores(database, default_artifact_root=str(tmp_path))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_mlflow_server_goes_on_with_the_run_of_a_resumed_trial(
    store: Store, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    interrupted_then_resumed(store, "mlflow=env")
    run = runs(mlflow_server)[ONE.trial_id]
    assert metric_points(mlflow_server, run) == curve(ONE, 4)
    assert run.info.status == "FINISHED"


def test_mlflow_that_cannot_be_used_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_try = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
    monkeypatch.setattr("search.loggers.mlflow.ONE_TRY", one_try)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert f"mlflow = {address}: no MLflow server answers there" in bad_input(store, f"mlflow={address}")
    assert "no MLflow server answers there" in bad_input(store, f"mlflow={address}")  # nothing listens any more
    assert time.monotonic() - started < 100  # by MLflow's own limits it would be many minutes
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
    assert "mlflow = ftp://x: " in bad_input(store, "mlflow=ftp://x")
    assert "mlflow = env: MLFLOW_TRACKING_URI is not set" in bad_input(store, "mlflow=env")
    (tmp_path / "file").write_text("")
    assert "cannot be made (Not a directory)" in bad_input(store, f"mlflow={tmp_path}/file/ml")


def test_mlflow_experiment_that_was_deleted_is_refused(store: Store, database: str) -> None:
    client = MlflowClient(database)
    client.delete_experiment(client.create_experiment("night"))
    assert "its experiment night is deleted" in bad_input(store, f"mlflow={database}")


# Weights & Biases


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """wandb without a network; its process is ended with the test."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("search.loggers.wandb.CONNECTION_SECONDS", DEADLINE_SECONDS)
    wandb.teardown()
    yield
    wandb.teardown()


def records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: after a header of 7 bytes, LevelDB's log format."""
    file, whole = io.BytesIO(path.read_bytes()), b""
    file.seek(7)
    while file.tell() < len(file.getbuffer()):
        left = 32768 - file.tell() % 32768
        if left < 7:
            file.seek(left, io.SEEK_CUR)
            continue
        header = file.read(7)
        whole += file.read(int.from_bytes(header[4:6], "little"))
        if header[6] in (1, 4):  # whole in itself, or the last part
            yield Record.FromString(whole)
            whole = b""


def written(folder: Path, trial: TrialConfig) -> list[Record]:
    """Everything in a trial's offline runs, in the order in which they were made."""
    wandb.teardown()  # its own process may still have been writing
    # Of two runs begun in the same second wandb numbers the second's folder.
    files = sorted(folder.glob(f"wandb/offline-run-*-{trial.trial_id}*/*.wandb"), key=lambda path: path.stat().st_mtime)
    return [record for file in files for record in records(file)]


def wandb_points(found: Sequence[Record], name: str = "val_depth_mae") -> list[tuple[int, float]]:
    rows = [{item.key or "/".join(item.nested_key): item.value_json for item in r.history.item} for r in found]
    return [(int(row["_step"]), float(row[name])) for row in rows if name in row]


def test_wandb_has_a_run_of_each_of_two_interleaved_trials(store: Store, tmp_path: Path, offline: None) -> None:
    failed = result(TWO, 3, "failed", "TrialFailed: the loss became not finite")
    tell(loggers_of(store, "wandb=parsimonious"), INTERLEAVED, result(ONE, 2), failed)
    one, two = written(tmp_path / "night", ONE), written(tmp_path / "night", TWO)
    assert wandb_points(one) == curve(ONE, 2)
    assert wandb_points(two) == curve(TWO, 3)
    about = next(record.run for record in one if record.HasField("run"))
    assert (about.project, about.run_group, about.run_id) == ("parsimonious", "night", ONE.trial_id)
    settings = {item.key: item.value_json for item in about.config.update}
    assert (settings["lambda"], settings["tasks"], settings["seed"]) == ("0.5", '"depth"', "1")
    summary = {
        item.key or "/".join(item.nested_key): item.value_json for record in one for item in record.summary.update
    }
    assert summary["final/test_depth_mae"] == "0.75"
    assert [[r.exit.exit_code for r in found if r.HasField("exit")] for found in (one, two)] == [[0], [1]]


def test_wandb_offline_repeats_no_step_after_a_resume(store: Store, tmp_path: Path, offline: None) -> None:
    tell(loggers_of(store, "wandb=parsimonious"), [(ONE, 0), (ONE, 1)])
    wandb.teardown()  # the next sweep is another process
    first = list((tmp_path / "night").glob("wandb/offline-run-*"))
    again = [(ONE, 0), (ONE, 1), (ONE, 2), (ONE, 2), (ONE, 3)]
    tell(loggers_of(store, "wandb=parsimonious"), again, result(ONE, 4))
    assert len(first) == 1
    assert wandb_points(written(tmp_path / "night", ONE)) == curve(ONE, 4)


def test_wandb_without_a_key_is_refused_and_nobody_is_asked(
    store: Store, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    assert "wandb = mine: this machine has no key" in bad_input(store, "wandb=mine")


# What they share


@pytest.mark.parametrize("value", ["tensorboard=true", "mlflow=ml", "wandb=mine"])
def test_missing_package_is_refused(store: Store, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = value.partition("=")[0]
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"search.loggers.{package}", raising=False)
    message = bad_input(store, value)
    assert message.startswith(value.replace("=", " = "))
    assert f"the package {package} is not installed; allowed: pip install {package}" in message


def test_loggers_change_nothing_of_the_trials() -> None:
    plain = load_recipe("rooms")
    watched = load_recipe("rooms", ["tensorboard=true", "mlflow=sqlite:///x.db", "wandb=mine"])
    assert make_loggers(plain, Store(".", "unused")) == []
    assert [c.trial_id for c in expand(plain, "v")] == [c.trial_id for c in expand(watched, "v")]
    earlier = plain.model_dump(mode="json")
    assert differing_settings(earlier, watched) == []
    for field in ("tensorboard", "mlflow", "wandb"):
        del earlier[field]  # a sweep from before there were loggers
    assert differing_settings(earlier, watched) == []
    assert "WANDB_MODE=offline" in format_recipe(plain)


class Notebook:
    """A service that records its calls, and can be made to wait or to fail at an epoch."""

    name = "notebook"

    def __init__(self, had: int = 0, fails_at: int | None = None, gate: threading.Event | None = None) -> None:
        self.had, self.fails_at, self.gate = had, fails_at, gate
        self.told: list[str] = []
        self.waiting = threading.Event()

    def open(self, trial: TrialConfig) -> int:
        self.told.append(f"open {trial.seed}")
        return self.had

    def log(self, trial: TrialConfig, row: Mapping[str, float]) -> None:
        if self.gate is not None:
            self.waiting.set()
            self.gate.wait()
        if row["epoch"] == self.fails_at:
            raise ConnectionError("the server is gone\nwith a page of HTML")
        self.told.append(f"{trial.seed}:{row['epoch']}")

    def end(self, ended: TrialResult, more: Mapping[str, float]) -> None:
        self.told.append(" ".join([f"end {ended.config.seed}", *sorted(more)]))

    def later(self, ended: TrialResult, more: Mapping[str, float]) -> None:
        self.told.append(" ".join([f"later {ended.config.seed}", *sorted(more)]))

    def close(self) -> None:
        self.told.append("close")


def test_each_epoch_once_whoever_repeats_it() -> None:
    notebook = Notebook()
    tell([Background(notebook)], [(ONE, 0), (ONE, 0), (TWO, 0), (ONE, 1), (ONE, 0), (ONE, 1), (ONE, 2)])
    assert notebook.told == ["open 1", "1:0", "open 2", "2:0", "1:1", "1:2", "close"]


def test_rows_that_came_while_nobody_listened_are_in_the_result() -> None:
    notebook = Notebook(had=1)
    tell([Background(notebook)], [], result(ONE, 3))
    assert notebook.told == ["open 1", "1:1", "1:2", "end 1", "close"]


def test_a_failed_trial_that_is_tried_again_is_opened_again() -> None:
    notebook = Notebook()
    (logger,) = [Background(notebook)]
    logger.ended(result(ONE, 0, "failed"))
    logger.epochs(ONE, [epoch_row(ONE, 0)])
    logger.ended(result(ONE, 1))
    tell([logger], [(ONE, 0)])  # which its run has, so that it stays closed
    assert notebook.told == ["open 1", "end 1", "open 1", "1:0", "end 1", "close"]


def test_a_logger_that_fails_is_switched_off_with_one_line(said: pytest.CaptureFixture[str]) -> None:
    notebook, other = Notebook(fails_at=1), Notebook()
    tell([Background(notebook), Background(other)], [(ONE, 0), (ONE, 1), (ONE, 2)], result(ONE, 3))
    assert notebook.told == ["open 1", "1:0"]
    assert other.told == ["open 1", "1:0", "1:1", "1:2", "end 1", "close"]
    line = "notebook: switched off, the sweep goes on: ConnectionError: the server is gone\n"
    assert said.readouterr() == ("", line)


def test_a_slow_logger_does_not_slow_the_sweep_and_gets_everything() -> None:
    with ExitStack() as stack:
        notebook = Notebook(gate=threading.Event())
        gate = notebook.gate
        assert gate is not None
        stack.callback(gate.set)
        logger = Background(notebook)
        for epoch in range(1000):
            logger.epochs(ONE, [epoch_row(ONE, epoch)])
        assert notebook.waiting.wait(DEADLINE_SECONDS)
        assert notebook.told == ["open 1"]
        gate.set()
        logger.close()
    assert notebook.told == ["open 1", *(f"1:{epoch}" for epoch in range(1000)), "close"]


def test_a_logger_that_falls_behind_or_never_ends_is_given_up(said: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        for waiting_calls, line in ((2, "it is 2 rows behind"), (10, "did not take the last rows within 0.2 s")):
            notebook = Notebook(gate=threading.Event())
            assert notebook.gate is not None
            stack.callback(notebook.gate.set)
            logger = Background(notebook, waiting_calls, close_seconds=0.2)
            logger.epochs(ONE, [epoch_row(ONE, 0)])
            assert notebook.waiting.wait(DEADLINE_SECONDS)
            for epoch in range(1, 6):
                logger.epochs(ONE, [epoch_row(ONE, epoch)])
            logger.close()
            out, err = said.readouterr()
            assert (out, err.count("\n")) == ("", 1)
            assert err.startswith("notebook: ")
            assert line in err

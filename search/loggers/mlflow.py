"""MLflow: a run for each trial, in an experiment with the sweep's name."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# MLflow reads these: it sends no usage data, and prints nothing among the sweep's results on standard output.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException, RestException

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.paths import user_path
from search.loggers.base import final_metrics, parameters, prefixed, series
from search.loggers.names import run_name
from search.store.results import Status, TrialResult

ALLOWED = "a folder, sqlite:///FILE, the http:// address of a server that runs, or env for MLFLOW_TRACKING_URI"
ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
STATUSES: dict[Status, str] = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
# Each epoch also logs its number as a metric: MLflow lists the steps of a run only by a metric's name.
EPOCH = "epoch"


class MLflow:
    """A run is found by its tag trial_id, so a resumed trial continues its existing run."""

    name = "mlflow"

    def __init__(self, location: str, sweep: str) -> None:
        """Raises BadInput if there is no MLflow store at `location`, the recipe's field."""
        # Without this, messages about new tables and about retries would overwrite the sweep's live line.
        for noisy, level in (("mlflow", logging.WARNING), ("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
            logging.getLogger(noisy).setLevel(level)
        self._sweep = sweep
        self._runs: dict[str, str] = {}
        uri = _tracking_uri(location)
        try:
            # One try of a few seconds; MLflow's default, minutes, is right during a sweep.
            with _environment(ONE_TRY):
                self._client = MlflowClient(uri)
                found = self._client.get_experiment_by_name(sweep)
                self._experiment = found.experiment_id if found else self._client.create_experiment(sweep)
        except Exception as error:  # by MLflow, by requests, or by a database's driver
            raise BadInput(f"mlflow = {location}: {_reason(error)}; allowed: {ALLOWED}") from error
        if found and found.lifecycle_stage != "active":
            raise BadInput(
                f"mlflow = {location}: its experiment {sweep} is {found.lifecycle_stage}; allowed: one that is "
                "restored (mlflow experiments restore), or another --name"
            )

    def open(self, config: TrialConfig) -> int:
        run = self._found(config)
        if run is not None:
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {"trial_id": config.trial_id, "sweep": self._sweep}
            run = self._client.create_run(self._experiment, tags=tags, run_name=run_name(config))
        run_id = self._runs[config.trial_id] = run.info.run_id
        # Parameters cannot be changed, but a killed sweep may not have written all of them.
        missing = {name: value for name, value in parameters(config).items() if name not in run.data.params}
        if missing:
            self._client.log_batch(run_id, params=[Param(name, str(value)) for name, value in missing.items()])
        return max((metric.step + 1 for metric in self._client.get_metric_history(run_id, EPOCH)), default=0)

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        epoch = int(row["epoch"])
        # The epoch comes last: if a store writes metrics one by one, an incomplete row is written again.
        self._log(self._runs[config.trial_id], series(row) | {EPOCH: epoch}, epoch)

    def end(self, result: TrialResult, more: Mapping[str, float]) -> None:
        run_id = self._runs.pop(result.config.trial_id)
        self._log(run_id, final_metrics(result, more), len(result.history))
        if result.error:
            self._client.log_batch(run_id, tags=[RunTag("error", result.error)])
        self._client.set_terminated(run_id, STATUSES[result.status])

    def later(self, result: TrialResult, more: Mapping[str, float]) -> None:
        if (run := self._found(result.config)) is not None:
            self._log(run.info.run_id, prefixed(more), len(result.history))

    def _found(self, config: TrialConfig) -> Run | None:
        found = self._client.search_runs([self._experiment], f"tags.trial_id = '{config.trial_id}'", max_results=1)
        return found[0] if found else None

    def close(self) -> None:
        for run_id in self._runs.values():
            self._client.set_terminated(run_id, "KILLED")
        self._runs.clear()

    def _log(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])


def _tracking_uri(location: str) -> str:
    """MLflow's URI for the recipe's field. A folder gets a database: MLflow no longer supports plain folders."""
    if location == "env":
        location = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not location:
            raise BadInput(f"mlflow = env: MLFLOW_TRACKING_URI is not set; allowed: {ALLOWED}")
    if ":" in location or location == "databricks":
        return location
    folder = user_path("mlflow =", location).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"mlflow = {location}: cannot be made ({error.strerror}); allowed: {ALLOWED}") from error
    return f"sqlite:///{folder}/mlflow.db"


def _reason(error: Exception) -> str:
    """Why a store cannot be used, in one short line."""
    if isinstance(error, MlflowException) and not isinstance(error, RestException) and "API request" in str(error):
        return "no MLflow server answers there"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables, and puts them back as they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

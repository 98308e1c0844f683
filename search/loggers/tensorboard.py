"""TensorBoard: a folder of event files for each trial, in the sweep's own storage."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import hparams, text

from mtl.config import TrialConfig
from search.deltas import NAMES
from search.loggers.base import FINAL, final_metrics, parameters, prefixed, series
from search.loggers.names import folder_name
from search.store.results import TrialResult
from search.store.storage import Store

FOLDER = "tensorboard"
# Object stores take only whole files: they are written on this machine and uploaded now and then.
UPLOAD_SECONDS = 30.0


class TensorBoard:
    """Event files in STORAGE/NAME/tensorboard, in a folder for each trial with a name that people can read, as
    TensorBoard lists runs by their folders."""

    name = "tensorboard"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scratch = None if store.folder else tempfile.TemporaryDirectory(prefix="parsimony-tensorboard-")
        self._root = Path(self._scratch.name) if self._scratch else Path(store.folder or "") / FOLDER
        self._writers: dict[str, FileWriter] = {}
        self._uploaded: dict[str, float] = {}
        self._folders: dict[str, str] = {}

    def open(self, config: TrialConfig) -> int:
        trial = config.trial_id
        folder = self._root / self._folder(config)
        if self._scratch:
            self._download(folder.name)
        logged = _epochs_logged(folder)
        self._writers[trial] = FileWriter(str(folder))
        self._uploaded[trial] = time.monotonic()
        return logged

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        trial = config.trial_id
        self._write(trial, series(row), int(row["epoch"]))
        if self._scratch and time.monotonic() - self._uploaded[trial] >= UPLOAD_SECONDS:
            self._upload(trial)

    def end(self, result: TrialResult, more: Mapping[str, float]) -> None:
        trial, final = result.config.trial_id, final_metrics(result, more)
        self._write(trial, final, len(result.history))
        writer = self._writers[trial]
        # SummaryWriter.add_hparams would write these into another folder, which TensorBoard shows as another run.
        # Also those that may become known later: the table of hyperparameters has only metrics that it is told of here.
        told = dict.fromkeys(prefixed(dict.fromkeys(NAMES, 0.0)), 0.0) if result.status == "done" else {}
        for summary in hparams(parameters(result.config), told | final):
            writer.add_summary(summary)
        if result.error:
            writer.add_summary(text("error", result.error))
        self._finish(trial)

    def later(self, result: TrialResult, more: Mapping[str, float]) -> None:
        trial = result.config.trial_id
        self.open(result.config)
        self._write(trial, prefixed(more), len(result.history))
        self._finish(trial)

    def close(self) -> None:
        for trial in list(self._writers):
            self._finish(trial)
        if self._scratch:
            self._scratch.cleanup()

    def _write(self, trial: str, values: Mapping[str, float], step: int) -> None:
        """Write all values as one record, so that a step is in the file whole or not at all."""
        writer = self._writers[trial]
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        writer.add_summary(Summary(value=points), step)
        writer.flush()

    def _finish(self, trial: str) -> None:
        self._writers.pop(trial).close()
        if self._scratch:
            self._upload(trial)

    def _upload(self, trial: str) -> None:
        name = self._folders[trial]
        for file in (self._root / name).iterdir():
            self._store.write(f"{FOLDER}/{name}/{file.name}", file.read_bytes())
        self._uploaded[trial] = time.monotonic()

    def _folder(self, config: TrialConfig) -> str:
        """Earlier versions called it after the trial's id alone."""
        trial = config.trial_id
        if trial not in self._folders:
            old = bool(self._store.names(f"{FOLDER}/{trial}"))
            self._folders[trial] = trial if old else folder_name(config)
        return self._folders[trial]

    def _download(self, folder: str) -> None:
        """Fetch the files of an earlier run, which tell what is logged already."""
        for name in self._store.names(f"{FOLDER}/{folder}"):
            path = self._root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._store.read(f"{FOLDER}/{folder}/{name}") or b"")


def _epochs_logged(folder: Path) -> int:
    """The number of epochs in a trial's event files."""
    if not folder.is_dir():
        return 0
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 1})  # only the last point of each series
    events.Reload()
    curves = [tag for tag in events.Tags()["scalars"] if not tag.startswith(FINAL)]
    return max((events.Scalars(tag)[-1].step + 1 for tag in curves), default=0)

"""Weights & Biases: a run for each trial, in one group for each sweep."""

import os
from collections.abc import Mapping
from pathlib import Path

# wandb reads this when it is imported: it sends no error reports.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from mtl.config import TrialConfig
from mtl.errors import BadInput
from search.loggers.base import final_metrics, parameters, series
from search.loggers.names import run_name
from search.store.results import TrialResult
from search.store.storage import Store

CONNECTION_SECONDS = 15.0  # to begin or to end a run; less than the time that a logger has at the end of a sweep


class WeightsAndBiases:
    """A run has the trial's id, so a resumed trial continues its existing run."""

    name = "wandb"

    def __init__(self, project: str, store: Store) -> None:
        """Raises BadInput if wandb has no key, or if its server does not accept the key."""
        self._project, self._sweep = project, store.name
        # By default wandb makes its folder in the current folder.
        self._folder = None if "WANDB_DIR" in os.environ else store.folder
        self._runs: dict[str, wandb.Run] = {}
        # By default wandb retries for minutes, and a process that was refused would not end before that.
        mode = wandb.setup(wandb.Settings(silent=True, x_graphql_retry_max=0)).settings.mode
        if mode == "online":
            _check_key(project)

    def open(self, config: TrialConfig) -> int:
        run = wandb.init(
            project=self._project,
            id=config.trial_id,
            resume="allow",
            group=self._sweep,
            name=run_name(config),
            config=parameters(config),
            dir=self._folder,
            # Trials run side by side, each with its own run; the output and the load of this process are not theirs.
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                x_disable_stats=True,
                disable_code=True,
                finish_timeout=CONNECTION_SECONDS,
                init_timeout=CONNECTION_SECONDS,
            ),
        )
        self._runs[config.trial_id] = run
        if not run.offline:
            return run.starting_step
        note = _note(run)
        return int(note.read_text(encoding="utf-8")) if note.is_file() else 0

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        run, epoch = self._runs[config.trial_id], int(row["epoch"])
        run.log(series(row) | {"epoch": epoch}, step=epoch)
        if run.offline:
            _note(run).write_text(str(epoch + 1), encoding="utf-8")

    def end(self, result: TrialResult, more: Mapping[str, float]) -> None:
        run = self._runs.pop(result.config.trial_id)
        run.summary.update(final_metrics(result, more) | {"status": result.status, "error": result.error})
        run.finish(exit_code=int(result.status == "failed"))

    def later(self, result: TrialResult, more: Mapping[str, float]) -> None:
        self.open(result.config)
        self.end(result, more)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)
        self._runs.clear()


def _check_key(project: str) -> None:
    allowed = "allowed: after `wandb login`, with WANDB_API_KEY, or with WANDB_MODE=offline"
    try:
        if wandb.login(prompt=False):
            return
    except wandb.Error as error:
        raise BadInput(f"wandb = {project}: {str(error).splitlines()[0][:200]}; {allowed}") from error
    raise BadInput(f"wandb = {project}: this machine has no key for Weights & Biases; {allowed}")


def _note(run: wandb.Run) -> Path:
    """A file with the number of epochs in a trial's offline runs, which wandb knows only after their upload."""
    return Path(run.settings.wandb_dir) / f"epochs-{run.id}.txt"

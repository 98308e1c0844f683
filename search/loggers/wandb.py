"""Weights & Biases: a run for each trial, those of one sweep in one group."""

import os
from collections.abc import Mapping
from pathlib import Path

# Read by wandb as it is imported: no calls home besides the runs.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from mtl.config import TrialConfig
from mtl.errors import BadInput
from search.loggers.base import final_metrics, parameters, series, title
from search.store.results import TrialResult
from search.store.storage import Store

CONNECTION_SECONDS = 15.0  # to begin a run and to end one: less than a logger gets when the sweep ends


class WeightsAndBiases:
    """Runs whose id is the trial's, so that a resumed trial goes on with the one it has."""

    name = "wandb"

    def __init__(self, project: str, store: Store) -> None:
        """Raises BadInput where wandb would ask for a key, or has one that its server does not take."""
        self._project, self._sweep = project, store.name
        # Where no folder is named wandb makes one in the folder that the sweep is started in.
        self._folder = None if "WANDB_DIR" in os.environ else store.folder
        self._runs: dict[str, wandb.Run] = {}
        # By default wandb tries for minutes, and a process that has been refused would not end before that.
        mode = wandb.setup(wandb.Settings(silent=True, x_graphql_retry_max=0)).settings.mode
        if mode == "online":
            _check_key(project)

    def open(self, config: TrialConfig) -> int:
        run = wandb.init(
            project=self._project,
            id=config.trial_id,
            resume="allow",
            group=self._sweep,
            name=title(config),
            config=parameters(config),
            dir=self._folder,
            # Trials run side by side, each with a run of its own; what this process prints and uses is none of theirs.
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
        return _logged_offline(run) if run.offline else run.starting_step

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        run, epoch = self._runs[config.trial_id], int(row["epoch"])
        run.log(series(row) | {"epoch": epoch}, step=epoch)
        if run.offline:
            _note(run).write_text(str(epoch + 1), encoding="utf-8")

    def end(self, result: TrialResult) -> None:
        run = self._runs.pop(result.config.trial_id)
        run.summary.update(final_metrics(result) | {"status": result.status, "error": result.error})
        run.finish(exit_code=int(result.status == "failed"))

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
    """How many epochs are in a trial's offline runs: wandb itself cannot say before they are uploaded."""
    return Path(run.settings.wandb_dir) / f"epochs-{run.id}.txt"


def _logged_offline(run: wandb.Run) -> int:
    note = _note(run)
    return int(note.read_text(encoding="utf-8")) if note.is_file() else 0

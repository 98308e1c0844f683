"""Sweeps and searches whose trials run in this process, one after the other, instead of on Ray."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import search.sweep
import search.tuning.search
from search.engine.context import RunContext
from search.engine.trial import run_trial
from search.engine.trial_source import TrialSource
from search.store.progress import Progress
from search.store.results import TrialResult

# A trial of an epoch of two steps: some hundredths of a second.
TINY = [
    *("image_size=32", "backbone_width=8", "backbone_layers=[1,1,1,1]", "head_channels=8", "epochs=1", "batch_size=8"),
    *("seeds=1", "tasks=depth", "dataset_options.train=16", "dataset_options.val=8", "dataset_options.test=8"),
    *("lambdas=0,1e-2", "early_stopping=none"),
]


def words(command: str, storage: Path, *more: str, sets: tuple[str, ...] = ()) -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", str(storage), *overrides, *more]


def drive_here(
    recipe: object,
    store: object,
    context: RunContext,
    source: TrialSource,
    base: object,
    results: dict[str, TrialResult],
    *,
    progress: Progress,
    prepare: Callable[[], None],
    ended: Callable[[TrialResult], None] = lambda result: None,
    **rest: Any,
) -> None:
    """As `search.engine.drive.drive`."""
    prepare()
    while (config := source.next()) is not None:
        results[config.trial_id] = run_trial(config, context)
        progress.ended(config.trial_id, failed=results[config.trial_id].status == "failed")
        ended(results[config.trial_id])
    progress.show(final=True)


@contextmanager
def without_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.sweep, "drive", drive_here)
        patch.setattr(search.tuning.search, "drive", drive_here)
        yield

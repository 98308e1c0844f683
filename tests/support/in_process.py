"""Sweeps and searches whose trials run in this process, one after the other, instead of on Ray."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search.engine.runner import LocalRunner

# Takes what `rooms` has besides the penalty away.
PENALTY_ALONE = (
    *("compressors=penalty", "targets=", "path_epochs=0"),
    *("search_space.compressor=", "search_space.target_macs="),
)
# A trial of an epoch of two steps: some hundredths of a second.
TINY = [
    *("image_size=32", "backbone_width=8", "backbone_layers=[1,1,1,1]", "head_channels=8", "epochs=1", "batch_size=8"),
    *("seeds=1", "tasks=depth", "dataset_options.train=16", "dataset_options.val=8", "dataset_options.test=8"),
    *("lambdas=0,1e-2", "early_stopping=none"),
    *PENALTY_ALONE,
]


def words(command: str, storage: Path, *more: str, sets: tuple[str, ...] = ()) -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", str(storage), *overrides, *more]


@contextmanager
def without_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for command in ("sweep", "search"):
            patch.setattr(f"search.commands.{command}.RayRunner", lambda address: LocalRunner())
        yield

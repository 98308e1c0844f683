"""What sweeps and a search really write: run once for all tests of the analysis, with trials in the tests' process.

Tests read these folders and change copies.
"""

import os
from collections.abc import Callable
from pathlib import Path

import filelock
import pandas as pd
import pytest

from analysis.analyze import analyze
from analysis.compute.everything import Computed, compute
from search.cli import main
from tests.support.in_process import without_ray, words
from tests.support.written import copied, edit_table

COMBINATIONS = ["segmentation", "depth", "normals", "depth+normals", "segmentation+depth+normals"]
SMALL = ("image_size=16", "backbone_width=4", "measure_latency=true", "tasks=segmentation,depth,normals", "epochs=2")
SWEEP = (f"combinations={','.join(COMBINATIONS)}", "lambdas=0,3e-2,1")
RUNS: dict[str, tuple[str, ...]] = {
    # Two sweeps of one setup, whose recipes differ in what is no part of it.
    "first": (*SWEEP, "seeds=[0]"),
    "second": (
        *SWEEP,
        "seeds=[1]",
        "racing=false",
        *("early_stopping=asha", "grace_epochs=2"),  # which stops none of two epochs
        "sampler=tpe",
        "search_space.lr=[1e-3,1e-2]",
    ),
    # Of the same setup, another penalty without dense models; and one of another setup.
    "l1": ("combinations=depth+normals", "lambdas=0.3", "seeds=2", "penalty=l1"),
    "other": ("combinations=depth", "lambdas=0,1", "seeds=[0]", "lr=3e-3"),
    # Of the first setup again: what makes models small besides the penalty.
    "small": (
        *("combinations=depth,normals,depth+normals", "lambdas=0,3e-2", "seeds=2", "measure_latency=false"),
        *("compressors=penalty,selection,narrow", "targets=0.5,0.2"),
    ),
}
HOSTILE = "loss is nan </pre><script>alert('x')</script>\x00 \x1b[31mred\x1b[0m & more"
SEARCH = (
    *("tasks=depth,normals", "seeds=2", "retraining=fine_tune", "racing=false", "sampler=random", "epochs=1"),
    *("search_space.lr=[1e-3,1e-2]", "search_space.lambda=[1e-3,1]"),
)


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder that the first of pytest-xdist's processes that needs it builds for all of them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "complete").is_file():
            folder.mkdir()
            build(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweeps `first`, `second`, `l1`, `other` and `small`, and the search `search`."""

    def build(folder: Path) -> None:
        with without_ray():
            for name, sets in RUNS.items():
                assert main(words("sweep", folder, "--name", name, sets=(*SMALL, *sets))) == 0
            found = words("search", folder, "--name", "search", "--trials", "3", sets=(*SMALL, *SEARCH))
            assert main(found) == 0

    return built_once(tmp_path_factory, "real_sweeps", build)


@pytest.fixture(scope="session")
def merged(storage: Path) -> Computed:
    """Five combinations, three λ and two seeds."""
    return compute([storage / "first", storage / "second"])


@pytest.fixture(scope="session")
def small(storage: Path) -> Computed:
    """Three combinations, dense, one λ, and two compressors at two targets, with two seeds."""
    return compute(storage / "small")


@pytest.fixture
def first(storage: Path, tmp_path: Path) -> Path:
    """A copy of the sweep `first`, without its models."""
    return copied(storage / "first", tmp_path)


@pytest.fixture(scope="session")
def half_done(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The analysed sweeps `first` and `second`: of 30 trials 25 done, 2 failed, 1 stopped and 2 not there; the errors
    try to break out of the page."""

    def halve(results: pd.DataFrame) -> pd.DataFrame:
        results = results.iloc[:-2].astype({"error": object})
        results.loc[[3, 4], ["status", "error"]] = ["failed", HOSTILE]
        results.loc[5, "status"] = "stopped"
        return results

    def build(folder: Path) -> None:
        swept = edit_table(copied(storage / "first", folder), halve)
        analyze([swept, storage / "second"], out=swept / "analysis")

    return built_once(tmp_path_factory, "half_done", build) / "first"

"""Baselines of one sweep that another takes over."""

from pathlib import Path

import pytest

from search.baselines import reuse_trials
from search.config import load_recipe
from search.results import read_results
from search.storage import SWEEP, Store
from search.sweep import Sweep, open_sweep, run_one, run_sweep

TINY = [
    "image_size=32", "backbone_width=8", "head_channels=8", "epochs=1", "batch_size=8", "seeds=1",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8",
]  # fmt: skip


def opened(storage: Path, name: str, *sets: str) -> Sweep:
    return open_sweep(load_recipe("rooms", [*TINY, "combinations=depth", *sets]), str(storage), name, None)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a sweep whose dense model of depth is done, and one whose description is damaged."""
    folder = tmp_path_factory.mktemp("storage")
    first = opened(folder, "first", "lambdas=0")
    assert run_one(first, first.configs[0]).status == "done"
    Store(str(folder), "damaged").write(SWEEP, b"{")
    return folder


def test_a_sweep_of_nothing_but_known_baselines_trains_nothing(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.sweep.drive", lambda *arguments, **options: pytest.fail("Ray is not needed"))
    second = opened(storage, "second", "lambdas=0")
    results = run_sweep(second, "local")
    assert [result.status for result in results] == ["done"]
    assert "1 done before (1 baselines of other sweeps in the storage), 0 to run" in capsys.readouterr().err
    folder = storage / "second"
    assert {path.name for path in folder.iterdir()} >= {SWEEP, "results.parquet"}
    trial = second.configs[0].trial_id
    for name in ("model.pt", "result.json"):
        copied = folder / "trials" / trial / name
        assert copied.read_bytes() == (storage / "first" / "trials" / trial / name).read_bytes()


def test_what_is_not_the_same_trial_is_not_taken(storage: Path) -> None:
    other = opened(storage, "third", "lambdas=0", "lr=1e-2")
    assert reuse_trials(other.store, other.configs) == []
    assert read_results(other.store) == {}

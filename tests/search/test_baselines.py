"""Dense models: those of one sweep that another takes over, and those of as many epochs as retrained ones."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.compute.everything import compute
from analysis.figures.latency import latency_panels
from mtl.vocabulary.delta_m import delta_m
from mtl.vocabulary.files import HISTORY, RESULTS, SWEEP
from search.cli import main
from search.engine.runner import RayRunner
from search.recipe_file import load_recipe
from search.run import run_one, run_sweep
from search.store.results import read_results
from search.store.reuse import reuse_trials
from search.store.storage import Store
from search.sweep import Sweep, open_sweep
from tests.support.in_process import PENALTY_ALONE, without_ray, words

TINY = [
    *PENALTY_ALONE,
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
    result = run_one(first, first.configs[0])
    assert result is not None
    assert result.status == "done"
    Store(str(folder), "damaged").write(SWEEP, b"{")
    return folder


def test_a_sweep_of_nothing_but_known_baselines_trains_nothing(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.run.Run.go", lambda *arguments, **options: pytest.fail("Ray is not needed"))
    second = opened(storage, "second", "lambdas=0")
    results = run_sweep(second, RayRunner("local"))
    assert [result.status for result in results] == ["done"]
    assert "1 done before (1 baselines of other sweeps in the storage), 0 to run" in capsys.readouterr().err
    folder = storage / "second"
    assert {path.name for path in folder.iterdir()} >= {SWEEP, "results.parquet"}
    trial = second.configs[0].trial_id
    for name in ("model.pt", "result.json"):
        copied = folder / "trials" / trial / name
        assert copied.read_bytes() == (storage / "first" / "trials" / trial / name).read_bytes()


def test_a_sweep_without_single_tasks_says_that_delta_m_stays_unknown(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.run.Run.go", lambda *arguments, **options: None)
    for name, combinations, missing in (
        ("pair", "segmentation+depth", "segmentation, depth"),
        ("some", "segmentation+depth,depth", "segmentation"),
        ("each", "segmentation+depth,depth,segmentation", ""),
    ):
        sweep = open_sweep(
            load_recipe("rooms", [*TINY, "lambdas=0", f"combinations={combinations}"]), str(storage), name, None
        )
        run_sweep(sweep, RayRunner("local"))
        said = capsys.readouterr().err
        assert (f"single-task models of {missing} are not" in said) if missing else ("Δm stays unknown" not in said)


def test_what_is_not_the_same_trial_is_not_taken(storage: Path) -> None:
    other = opened(storage, "third", "lambdas=0", "lr=1e-2")
    assert reuse_trials(other.store, other.configs) == []
    assert read_results(other.store) == {}


def test_beside_retrained_models_stands_a_dense_one_of_as_many_epochs_that_nothing_takes_for_the_dense_model(
    tmp_path: Path,
) -> None:
    retraining = (
        "epochs=2",
        "lambdas=0,0.3",
        "retraining=none,scratch",
        "lr_schedule=constant",
        "measure_latency=true",
    )
    with without_ray():
        assert main(words("sweep", tmp_path, sets=retraining)) == 0
    table = pd.read_parquet(tmp_path / "rooms" / RESULTS).set_index("retraining")
    dense, longer = table[table["lambda"] == 0].loc[["none", "longer"]].to_dict("records")
    assert table.loc["none", "epochs_run"].tolist() == [2, 2]
    assert (longer["epochs_run"], table.loc["scratch", "epochs_run"]) == (4, 4)
    history = pd.read_parquet(tmp_path / "rooms" / HISTORY).set_index(["trial_id", "epoch"])["train_depth_loss"]
    # A single training: it continues where the dense model's ends.
    assert history[longer["trial_id"]].tolist()[:2] == history[dense["trial_id"]].tolist()
    assert (dense["delta_m"], dense["test_delta_m"]) == (0, 0)
    assert longer["test_delta_m"] == pytest.approx(1 - longer["test_depth_mae"] / dense["test_depth_mae"])
    assert longer["test_delta_m"] != 0
    found = compute(tmp_path / "rooms")
    primaries = {task: [found.sweep.metrics[primary]] for task, primary in found.sweep.tasks.items()}
    again = delta_m(found.sweep.results, "test", primaries)
    assert again.tolist() == pytest.approx(found.sweep.results["test_delta_m"].tolist())
    rows = found.marked.set_index(["method", "lambda"])["trials"]
    assert rows.to_dict() == {
        ("group_lasso", 0): 1,
        ("dense, 2 × epochs", 0): 1,
        ("group_lasso", 0.3): 1,
        ("group_lasso + scratch", 0.3): 1,
    }
    assert found.missing.empty
    (said,) = [one for one in found.cautions if one.startswith("Retrained models have had twice the epochs")]
    assert "against dense, 2 × epochs" in said
    assert "none of" not in said
    for panel in latency_panels(found.sweep):  # of each method and the dense model, which the longer one is not
        at_zero = panel.rows.loc[panel.rows["lambda"] == 0, "latency_ms_mean"]
        assert at_zero.tolist() == pytest.approx([dense["latency_ms"]])


def test_a_retrained_model_without_a_dense_one_of_as_many_epochs_is_named(tmp_path: Path) -> None:
    with without_ray():
        assert main(words("sweep", tmp_path, sets=("lambdas=0.3", "retraining=scratch"))) == 0
    assert [one for one in compute(tmp_path / "rooms").cautions if one.endswith(" There is none of depth.")]

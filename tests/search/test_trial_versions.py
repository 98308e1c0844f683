"""What a trial depends on besides its recipe: the precision it runs at, the method's version, torch's version."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import search.store.results
from analysis.compute.everything import compute
from mtl.config import METHOD_VERSION, TrialConfig
from mtl.networks.checkpoint import load_checkpoint
from mtl.vocabulary.files import RESULTS, SWEEP
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import TrialRun
from search.recipe import differing_settings, expand
from search.recipe_file import load_recipe
from search.store.results import TrialResult, mixed_versions
from search.tuning.space import make_space
from tests.support.in_process import without_ray, words
from tests.support.small import TASKS, arrays, config

WHEN = "2026-01-01T00:00:00+00:00"


def trials(*overrides: str) -> list[TrialConfig]:
    """Of a sweep and of a search."""
    recipe = load_recipe("rooms", ["combinations=depth", "lambdas=0,1e-3,1", "seeds=1", *overrides])
    space = make_space(recipe, "v")
    return [*expand(recipe, "v"), *space.configs(space.dense_params)]


def test_a_trials_name_has_the_precision_it_runs_at() -> None:
    on_cpu, on_gpu, shared = trials(), trials("gpus_per_trial=1"), trials("gpus_per_trial=0.5")
    assert {one.precision for one in on_cpu} == {"float32"}
    assert {one.precision for one in on_gpu} == {"bfloat16"}
    assert [one.trial_id for one in on_gpu] == [one.trial_id for one in shared]
    assert {one.trial_id for one in on_gpu}.isdisjoint(one.trial_id for one in on_cpu)
    same = trials("gpus_per_trial=1", "precision=float32")
    assert [one.trial_id for one in same] == [one.trial_id for one in on_cpu]


def test_a_gpu_is_a_resource_but_for_the_precision_it_brings() -> None:
    before = load_recipe("rooms").model_dump(mode="json")
    assert differing_settings(before, load_recipe("rooms", ["gpus_per_trial=1"])) == ["gpus_per_trial"]
    assert differing_settings(before, load_recipe("rooms", ["gpus_per_trial=1", "precision=float32"])) == ["precision"]
    exact = load_recipe("rooms", ["precision=float32"]).model_dump(mode="json")
    assert differing_settings(exact, load_recipe("rooms", ["gpus_per_trial=1", "precision=float32"])) == []
    on_gpu = load_recipe("rooms", ["gpus_per_trial=1"])
    assert differing_settings(on_gpu.model_dump(mode="json"), load_recipe("rooms", ["gpus_per_trial=0.5"])) == []
    assert differing_settings(before | {"gpus_per_trial": "some"}, load_recipe("rooms")) == ["gpus_per_trial"]


def test_a_trials_name_has_the_methods_version() -> None:
    assert config().method_version == METHOD_VERSION
    assert config(method_version=METHOD_VERSION + 1).trial_id != config().trial_id


def old_result() -> dict[str, Any]:
    """As the first method wrote results, of a trial whose name is in people's folders."""
    fields = config().model_dump(mode="json")
    for name in ("weights_version", "stage_factors", "measure_latency", "retraining", "method_version", "weighting_lr"):
        fields.pop(name, None)
    times = {"started_at": WHEN, "ended_at": WHEN, "train_seconds": 1.0}
    return {"config": fields | {"precision": "auto"}, "status": "done", **times}


def test_results_of_the_first_method_keep_their_names() -> None:
    read = TrialResult.from_json(json.dumps(old_result()).encode())
    assert (read.config.method_version, read.config.precision, read.torch_version) == (1, "auto", "")
    assert read.config.trial_id == "9e34090fca9c633e"
    assert TrialResult.from_json(read.to_json()) == read


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a sweep of two trials, done."""
    storage = tmp_path_factory.mktemp("storage")
    with without_ray():
        assert main(words("sweep", storage)) == 0
    return storage


def rewritten(storage: Path, **fields: object) -> None:
    path = storage / "rooms" / SWEEP
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_sweep_of_another_method_or_precision_is_refused_in_a_line(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((swept / "rooms" / SWEEP).read_text())
    assert recorded["method_version"] == METHOD_VERSION
    before = (swept / "rooms" / RESULTS).read_bytes()
    rewritten(swept, method_version=1)
    assert main(words("sweep", swept)) == 2
    said = capsys.readouterr().err
    assert f"was run with method 1, this version of parsimony has method {METHOD_VERSION}" in said
    assert said.count("\n") == 1
    rewritten(swept, method_version=METHOD_VERSION)
    assert main(words("sweep", swept, sets=("gpus_per_trial=1",))) == 2
    said = capsys.readouterr().err
    assert "gpus_per_trial = 0.0, this recipe has 1.0, so its trials use bfloat16: allowed: " in said
    assert (swept / "rooms" / RESULTS).read_bytes() == before


def test_other_versions_of_torch_are_told_at_the_start_at_reuse_and_in_the_report(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(swept / "rooms" / RESULTS)
    own = search.store.results.torch_version()
    assert set(table["torch_version"]) == {own}
    assert not [one for one in compute(swept / "rooms").cautions if "torch" in one]
    capsys.readouterr()
    for place in ("search.store.results", "search.engine.trial", "search.run", "search.tuning.search"):
        monkeypatch.setattr(f"{place}.torch_version", lambda: "1.0.0")
    told = f"trials of torch 1.0.0 and {own} stand in one table"
    with without_ray():
        assert main(words("sweep", swept, "--name", "again")) == 0  # its baseline is the other sweep's
        assert capsys.readouterr().err.count(told) == 1
        assert main(words("sweep", swept)) == 0  # nothing to run, and of one version
        assert "torch" not in capsys.readouterr().err
        assert (
            main(words("search", swept, "--trials", "1", "--name", "found", sets=("search_space.lambda=1e-3,1",))) == 0
        )
        assert capsys.readouterr().err.count(told) == 1
    table = pd.read_parquet(swept / "again" / RESULTS)
    assert dict(zip(table["lambda"], table["torch_version"], strict=True)) == {0: own, 1e-2: "1.0.0"}
    said = [one for one in compute(swept / "again").cautions if "torch" in one]
    assert said == [
        f"The trials ran with torch 1.0.0 and {own}: the same trial may come to other numbers with another version."
    ]


def test_a_table_from_before_trials_told_of_torch_is_read(swept: Path, tmp_path: Path) -> None:
    for name in (SWEEP, RESULTS):
        (tmp_path / name).write_bytes((swept / "rooms" / name).read_bytes())
    pd.read_parquet(tmp_path / RESULTS).drop(columns="torch_version").to_parquet(tmp_path / RESULTS)
    assert not [one for one in compute(tmp_path).cautions if "torch" in one]


def test_a_trial_that_goes_on_with_another_torch_tells_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.engine.trial.trial_data", lambda c, data: (TASKS[1:2], arrays()))
    context = RunContext(str(tmp_path), "s", None, threads=1, gpus=0, checkpoint_seconds=0)
    chosen = config(tasks=("depth",), epochs=2)
    for version in ("1.0.0", "2.0.0"):
        monkeypatch.setattr("search.engine.trial.torch_version", lambda version=version: version)
        run = TrialRun(chosen, context)
        run.step()
    assert run.result is not None
    assert run.result.torch_version == "1.0.0, 2.0.0"
    assert "torch 1.0.0 and 2.0.0 " in mixed_versions([run.result])
    assert load_checkpoint(tmp_path / "s" / "trials" / chosen.trial_id / "model.pt").config == chosen


def test_a_study_of_another_method_is_refused_wherever_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search_words = words("search", tmp_path, "--trials", "1", "--study", f"sqlite:///{tmp_path}/study.db")
    search_words += ["--set", "search_space.lambda=1e-3,1"]
    with without_ray():
        assert main(search_words) == 0
        (tmp_path / "rooms" / SWEEP).unlink()
        monkeypatch.setattr("search.tuning.search.METHOD_VERSION", METHOD_VERSION + 1)
        assert main(search_words) == 2
    assert f"was made with method_version = {METHOD_VERSION}, this search has" in capsys.readouterr().err

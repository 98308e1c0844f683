"""Real small searches over compressors: what they write, continue after a kill, take from a sweep, and answer."""

from pathlib import Path

import pandas as pd
import pytest

from mtl.vocabulary.files import PROPOSALS
from search.cli import main
from search.recipe import Recipe
from search.recipe_file import load_recipe
from tests.support.commands import halted, refused, rows, run_here, said_here
from tests.support.in_process import PENALTY_ALONE, words

SELECTION = ("compressors=selection", "targets=0.5,0.1", "epochs=2")
MIXED = ("compressors=penalty,selection,narrow", "targets=0.5,0.1", "search_space.lambda=[1e-3, 1]")


def command(storage: Path, trials: int, *sets: str) -> list[str]:
    return [*words("search", storage, "--trials", str(trials), sets=sets)]


def told(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / PROPOSALS).sort_values("proposal").reset_index(drop=True)
    return table[[name for name in table if "seconds" not in name]]


def test_a_search_along_targets_continues_after_a_kill_to_the_same_proposals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = command(tmp_path / "whole", 6, *SELECTION)
    out, _ = run_here(whole, 0, capsys)
    broken = command(tmp_path / "broken", 6, *SELECTION)
    with halted("ended", 3, *broken, place="here") as driver:
        driver.kill()
    run_here(broken, 0, capsys)
    expected = told(tmp_path / "whole" / "rooms")
    pd.testing.assert_frame_equal(told(tmp_path / "broken" / "rooms"), expected)
    # The front along cost from the dense model to the smallest target, which no trial exceeds.
    assert (expected["target_macs"].max(), expected["target_macs"].min()) == (1, 0.1)
    full = expected["model_macs"].max()
    assert (expected["model_macs"] <= expected["target_macs"] * full).all()
    smaller = expected[expected["target_macs"] < 1]
    assert set(smaller["compressor"]) == {"selection"}
    assert len(smaller) == 6
    results = rows(tmp_path / "whole" / "rooms")
    named = results.loc[results["settings"] != "", "settings"]
    assert set(named) == {f"compressor=selection target_macs={value:g}" for value in smaller["target_macs"]}
    assert results["model_macs"].notna().all()
    assert ", selection target_macs=0.1: delta_m " in out
    assert "Model to use for depth" in out or "No model of depth" in out
    status, _ = said_here(["status", str(tmp_path / "whole" / "rooms")], 0, capsys)
    assert "7 done, 0 failed, 0 not ended, of 7" in status
    assert main(["analyze", str(tmp_path / "whole" / "rooms")]) == 0


def test_a_search_of_several_compressors_goes_on_from_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(words("sweep", tmp_path, sets=MIXED), 0, capsys)
    trials = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(trials) == 2 + 2 * 2
    out, err = run_here(command(tmp_path, 4, *MIXED), 0, capsys)
    assert "0 proposals made before, 6 taken from a sweep, 4 to make" in err
    assert {path: path.stat().st_mtime_ns for path in trials} == trials
    table = told(tmp_path / "rooms")
    assert (len(table), set(table["state"])) == (10, {"complete"})
    assert not table.duplicated(["compressor", "target_macs", "lambda"]).any()
    assert "narrow target_macs=" in out


def test_early_stopping_and_seeds_of_compressed_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = (*SELECTION, "seeds=2", "early_stopping=mo_asha", "grace_epochs=1", "reduction_factor=2", "epochs=3")
    run_here(command(tmp_path, 6, *sets), 0, capsys)
    table = rows(tmp_path / "rooms")
    stopped = table[table["status"] == "stopped"]
    assert len(stopped)
    assert set(stopped["settings"]).isdisjoint({""}), "the dense model is never stopped"
    assert set(told(tmp_path / "rooms")["state"]) == {"complete", "pruned"}


def test_dry_run_and_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, _ = said_here(
        [*command(tmp_path / "s", 6, *SELECTION), "--target", "model_macs<=400000", "--dry-run"], 0, capsys
    )
    assert "objectives: delta_m:maximize, model_macs:minimize" in out
    assert "constraints: model_macs<=400000" in out
    assert "compressor: ['selection']" in out
    early = (*MIXED, "early_stopping=mo_asha")
    assert "'model_macs' is known only of a trial that is done" in refused(command(tmp_path / "s", 6, *early), capsys)
    gp = (*MIXED, "sampler=gp")
    assert "sampler = gp with compressors penalty, selection" in refused(command(tmp_path / "s", 6, *gp), capsys)
    low = (*SELECTION, "targets=1e-6")
    assert "targets: 1e-06 with compressor selection; allowed: " in refused(command(tmp_path / "s", 6, *low), capsys)
    bound = [*command(tmp_path / "s", 6, *SELECTION), "--target", "model_macs<=10"]
    assert "model_macs<=10: " in refused(bound, capsys)
    assert list(tmp_path.iterdir()) == []


def recipe(*sets: str) -> Recipe:
    return load_recipe("rooms", ["combinations=depth", "seeds=1", *PENALTY_ALONE, *sets])


def test_what_is_compared_while_trials_run() -> None:
    assert recipe().stopping_objectives == ("delta_m", "group_sparsity")
    assert recipe("compressors=penalty,narrow", "targets=0.5").stopping_objectives == ("delta_m", "group_sparsity")
    assert recipe("compressors=narrow", "targets=0.5").stopping_objectives == ("delta_m", "model_macs")
    assert recipe("compressors=narrow", "targets=0.5", "objectives=delta_m").stopping_objectives == ("delta_m",)
    zero = recipe("compressors=penalty,narrow", "targets=0.5", "lambdas=0")
    assert zero.stopping_objectives == ("delta_m", "model_macs")


def test_the_dense_model_runs_beside_compressed_ones_whatever_the_lambdas() -> None:
    beside = recipe("compressors=penalty,narrow", "targets=0.5", "lambdas=1e-2")
    assert beside.trial_count == 3
    assert recipe("lambdas=1e-2").trial_count == 1

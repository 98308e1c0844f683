"""Sweeps end to end, on a real Ray: continued, killed, failing, and the same numbers whichever way a trial runs."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis.compute.summary import progress
from analysis.read.load import load_sweep
from mtl.vocabulary.files import HISTORY, RESULT, RESULTS, SWEEP, trial_file
from mtl.vocabulary.units import duration
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import TrialRun
from search.store.results import TrialResult, stopped_result
from tests.support.commands import finished, halted, parsimony, rows, run_here, said_here
from tests.support.in_process import PENALTY_ALONE, without_ray, words

# A trial of rooms at 32 x 32: 3 steps an epoch.
TINY = [
    *PENALTY_ALONE,
    "image_size=32", "backbone_width=8", "head_channels=8", "epochs=2", "batch_size=8", "seeds=1",
    "dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8",
]  # fmt: skip


def arguments(storage: Path, *sets: str, command: str = "sweep") -> list[str]:
    overrides = [word for text in (*TINY, *sets) for word in ("--set", text)]
    return [command, "rooms", "--storage", str(storage), *overrides]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of six trials: two single tasks and their pair, dense and sparse."""
    storage = tmp_path_factory.mktemp("swept")
    out, err = finished(parsimony(*arguments(storage, *SIX)), 0)
    assert "6 trials done, 0 failed, 0 missing" in out
    assert re.search(r"6/6 done", err)
    return storage / "rooms"


SIX = ["tasks=segmentation,depth", "lambdas=0,1e-2"]


def test_files_of_a_sweep(swept: Path) -> None:
    table = rows(swept)
    assert len(table) == 6
    assert table["trial_id"].is_unique
    assert set(table["status"]) == {"done"}
    assert set(table["tasks"]) == {"segmentation", "depth", "segmentation+depth"}
    assert set(table["lambda"]) == {0, 1e-2}
    dense = table[table["lambda"] == 0]
    assert (dense["group_sparsity"] == 0).all()
    assert (dense[dense["tasks"] != "segmentation+depth"]["delta_m"] == 0).all()
    assert (table[table["lambda"] > 0]["group_sparsity"] > 0).all()
    assert table["delta_m"].notna().all()
    assert table.loc[table["tasks"] == "depth", "test_segmentation_miou"].isna().all()
    history = rows(swept, HISTORY)
    assert len(history) == 6 * 2
    assert {"trial_id", "epoch", "lambda", "train_depth_loss", "val_depth_mae", "group_sparsity"} <= set(history)
    sweep = json.loads((swept / SWEEP).read_text())
    assert sweep["recipe"]["lambdas"] == [0, 1e-2]
    assert [o["column"] for o in sweep["objectives"]] == ["delta_m", "group_sparsity"]
    assert {o["direction"] for o in sweep["objectives"]} == {"maximize"}
    assert sweep["trials_planned"] == 6
    assert set(sweep["constant_predictor"]) >= {"segmentation_miou", "depth_mae"}
    assert {"parsimony", "torch", "ray"} <= set(sweep["versions"])
    assert all((swept / "trials" / trial / "model.pt").is_file() for trial in table["trial_id"])
    assert not list(swept.rglob("checkpoint.pt"))
    assert not list(swept.rglob("*.tmp"))


def test_the_same_command_again_runs_nothing(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in swept.rglob("result.json")}
    _, err = said_here(arguments(swept.parent, *SIX), 0, capsys)
    assert "6 done before, 0 to run" in err
    assert {path: path.read_bytes() for path in swept.rglob("result.json")} == before


def test_in_process_and_under_ray_a_trial_gives_the_same_row(swept: Path, tmp_path: Path) -> None:
    """One contract for both ways to run a trial: `train` in this process, `sweep` on Ray."""
    chosen = ["tasks=segmentation,depth", "combinations=segmentation+depth", "lambdas=1e-2"]
    assert main(arguments(tmp_path, *chosen, command="train")) == 0
    alone = rows(tmp_path / "rooms").dropna(axis="columns", how="all").drop(columns=["error"], errors="ignore")
    assert len(alone) == 1
    under_ray = rows(swept).set_index("trial_id").loc[alone["trial_id"]].reset_index()
    columns = [column for column in alone.columns if "delta_m" not in column]
    pd.testing.assert_frame_equal(alone[columns], under_ray[columns], check_exact=True)


def test_adding_a_lambda_runs_only_the_new_trials(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["tasks=depth", "combinations=depth"]
    run_here(arguments(tmp_path, *only, "lambdas=0"), 0, capsys)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    _, err = run_here(arguments(tmp_path, *only, "lambdas=0,1e-2"), 0, capsys)
    assert "1 done before, 1 to run" in err
    assert {path: path.stat().st_mtime_ns for path in first} == first
    extended = rows(tmp_path / "rooms")
    first_ids = list(extended["trial_id"])
    same = rows(swept).set_index("trial_id").loc[extended["trial_id"]]
    assert list(extended["test_depth_mae"]) == list(same["test_depth_mae"])
    assert json.loads((tmp_path / "rooms" / SWEEP).read_text())["trials_planned"] == 2
    # A narrower run afterwards takes nothing away.
    said_here(arguments(tmp_path, *only, "lambdas=1e-2"), 0, capsys)
    assert json.loads((tmp_path / "rooms" / SWEEP).read_text())["trials_planned"] == 2
    assert len(rows(tmp_path / "rooms")) == 2
    # What was planned and never ran is missing until a run no longer asks for it: sweep and analyze agree.
    path = tmp_path / "rooms" / SWEEP
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trials": [*first_ids, "0" * 16], "trials_planned": 3}))
    assert missing(tmp_path / "rooms", capsys) == "2 done, 0 failed, 1 not ended, of 3"
    said_here(arguments(tmp_path, *only, "lambdas=0"), 0, capsys)
    assert missing(tmp_path / "rooms", capsys) == "2 done, 0 failed, 0 not ended, of 2"
    assert progress(load_sweep(tmp_path / "rooms")) == "2 of 2 planned trials are done."


def test_the_trials_of_sweep_json_keep_their_order(tmp_path: Path) -> None:
    """Whichever of them is run again, the file is the same to the byte."""
    with without_ray():
        assert main(words("sweep", tmp_path)) == 0
        path = tmp_path / "rooms" / SWEEP
        before = path.read_bytes()
        planned = json.loads(before)["trials"]
        assert sorted(planned) == list(rows(tmp_path / "rooms")["trial_id"])
        for ran_again in planned:
            (tmp_path / "rooms" / trial_file(ran_again, RESULT)).unlink()
            assert main(words("sweep", tmp_path)) == 0
            assert path.read_bytes() == before


def missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `parsimony status` counts."""
    capsys.readouterr()
    assert main(["status", str(folder)]) == 0
    return capsys.readouterr().out.splitlines()[0].partition(": ")[2]


def test_kill_9_of_the_driver_then_the_same_command_gives_the_unbroken_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["tasks=depth", "combinations=depth", "lambdas=0,1e-2", "epochs=6", "checkpoint_seconds=0"]
    run_here(arguments(tmp_path / "whole", *sets), 0, capsys)
    with halted("epochs", 4, *arguments(tmp_path / "broken", *sets)) as driver:
        driver.kill()
    folder = tmp_path / "broken" / "rooms"
    assert len(list(folder.rglob("checkpoint.pt"))) >= 1
    assert len(list(folder.rglob("result.json"))) < 2
    _, err = run_here(arguments(tmp_path / "broken", *sets), 0, capsys)
    assert " to run" in err
    pd.testing.assert_frame_equal(rows(folder), rows(tmp_path / "whole" / "rooms"), check_exact=True)
    pd.testing.assert_frame_equal(rows(folder, HISTORY), rows(tmp_path / "whole" / "rooms", HISTORY), check_exact=True)


def test_a_trial_that_diverges_is_a_row_with_its_error(swept: Path, tmp_path: Path) -> None:
    sets = [
        "tasks=depth",
        "combinations=depth",
        "lambdas=0",
        "lr=1e3",
        "weight_decay=1e3",
        "lr_schedule=constant",
        "epochs=40",
    ]
    assert main(arguments(tmp_path, *sets, command="train")) == 1
    row = rows(tmp_path / "rooms").iloc[0]
    assert row["status"] == "failed"
    assert re.match("TrialFailed: the (loss of task depth became|gradient of [a-z0-9_.]+ is) not finite", row["error"])


def test_any_exception_of_a_trial_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object) -> None:
        raise InterruptedError("a call was interrupted")

    monkeypatch.setattr("mtl.training.Training.run_epoch", interrupted)
    sets = ["tasks=depth", "combinations=depth", "lambdas=0"]
    assert main(arguments(tmp_path, *sets, command="train")) == 1
    row = rows(tmp_path / "rooms").iloc[0]
    assert (row["status"], row["error"]) == (
        "failed",
        "InterruptedError: a call was interrupted (tried 2 times)",
    )


def test_a_trial_that_is_done_is_left_alone_whoever_takes_it_up_again(swept: Path) -> None:
    """Tune makes actors that it never uses, and may hand out a trial twice when a process dies."""
    path = sorted(swept.rglob("result.json"))[0]
    before = path.read_bytes()
    config = TrialResult.from_json(before).config
    run = TrialRun(config, RunContext(str(swept.parent), swept.name, None, threads=1, gpus=0, checkpoint_seconds=0))
    assert path.read_bytes() == before
    run.step()
    assert run.result is not None
    assert run.result.to_json() == before == path.read_bytes()


def test_a_trial_takes_no_more_threads_than_there_are_cores(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP crashes where it cannot start them."""
    asked: list[int] = []
    monkeypatch.setattr("search.engine.trial.torch.set_num_threads", asked.append)
    config = TrialResult.from_json(next((swept / "trials").glob("*/result.json")).read_bytes()).config
    TrialRun(config, RunContext(str(tmp_path), "rooms", None, threads=10**6, gpus=0, checkpoint_seconds=1e9)).step()
    assert asked == [os.cpu_count()]


def test_a_trial_that_was_stopped_goes_on_to_the_numbers_of_one_that_was_not(swept: Path, tmp_path: Path) -> None:
    result = next((swept / "trials").glob("*/result.json"))
    whole = TrialResult.from_json(result.read_bytes())
    trial_id = whole.config.trial_id
    context = RunContext(str(tmp_path), "rooms", None, threads=1, gpus=0, checkpoint_seconds=0)
    first = TrialRun(whole.config, context)
    first.step()
    stopped = stopped_result(whole.config, first.unreported_rows(), whole.started_at)
    context.store().write(f"trials/{trial_id}/result.json", stopped.to_json())
    second = TrialRun(whole.config, context)
    second.step()
    assert [row["epoch"] for row in second.unreported_rows()] == [0, 1]
    assert second.result is not None
    assert second.result.status == "done"
    assert second.result.metrics == whole.metrics


def test_status_and_dry_run(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(swept)]) == 0
    assert "6 done, 0 failed, 0 not ended, of 6" in capsys.readouterr().out
    assert main([*arguments(tmp_path, *SIX), "--dry-run"]) == 0
    listed, told = (text.splitlines() for text in capsys.readouterr())
    assert told[0] == "6 trials: 0 done, 6 to run"
    assert told[1].startswith("training time: known once a trial is done")
    assert sorted(line.split()[0] for line in listed) == sorted(rows(swept)["trial_id"])
    assert list(tmp_path.iterdir()) == []


def test_dry_run_says_how_long_the_rest_takes(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The second seed's trials have as much work as the first one's, which are done.
    seconds = pd.read_parquet(swept / RESULTS)["train_seconds"].sum()
    _, err = said_here([*arguments(swept.parent, *SIX, "seeds=2"), "--dry-run"], 0, capsys)
    trials, time, here, each = err.splitlines()
    assert trials == "12 trials: 6 done, 6 to run"
    assert time == f"training time: about {duration(seconds)} in all, by the 6 that are done"
    assert here.startswith("on this machine: about ")
    assert each.startswith("each trial takes 1 of the CPU's cores and about ")


def test_analyze(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(swept)]) == 0
    assert "report.html" in capsys.readouterr().out
    written = {str(path.relative_to(swept / "analysis")) for path in (swept / "analysis").rglob("*") if path.is_file()}
    assert {"front.csv", "hypervolume.csv", "report.html", "figures/front.png", "figures/front.svg"} <= written


def test_another_recipe_under_the_same_name_is_refused(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (swept / SWEEP).read_bytes()
    _, err = said_here(arguments(swept.parent, *SIX, "epochs=3"), 2, capsys)
    assert "epochs = 2, this recipe has 3" in err
    assert "--name" in err
    assert (swept / SWEEP).read_bytes() == before


def test_more_than_the_machine_has_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = said_here(arguments(tmp_path, *SIX, "cpus_per_trial=1000"), 2, capsys)
    assert "cpus_per_trial = 1000; allowed: at most" in err
    assert list(tmp_path.iterdir()) == []


def test_no_cluster_at_the_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said_here([*arguments(tmp_path, *SIX), "--address", "127.0.0.1:1"], 2, capsys)
    assert "--address 127.0.0.1:1: no Ray cluster answers there (Connection refused)" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU to give")
def test_a_gpu_where_there_is_none_is_refused(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, *SIX, "gpus_per_trial=0.5", command="train")) == 2
    assert "gpus_per_trial = 0.5; allowed: 0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

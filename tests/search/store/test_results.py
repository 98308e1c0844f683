"""Rows, delta_m and the store."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from mtl.errors import BadInput
from mtl.objectives.metrics import metric_infos, primary_metric
from mtl.tasks import Task
from mtl.vocabulary.checked import Damaged
from mtl.vocabulary.files import HISTORY, PROGRESS, RESULTS, SWEEP, trial_file
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COSTS
from search.commands.status import read_status
from search.store.clock import now
from search.store.errors import StorageError
from search.store.results import (
    TrialResult,
    count_results,
    read_results,
    stopped_result,
)
from search.store.storage import Store
from search.store.tables import results_table, search_columns, write_tables
from tests.support.small import TASKS, config, sweep_file

METRICS = {
    name: Metric(name, info.label, info.unit, info.direction)
    for task in TASKS
    for name, info in metric_infos(task, "standard").items()
}
PRIMARIES = {task.name: METRICS[primary_metric(task)] for task in TASKS}
WHEN = "2026-01-01T00:00:00+00:00"


def result(tasks: str, strength: float, seed: int = 0, status: str = "done", **metrics: float) -> TrialResult:
    return TrialResult(
        config(tasks=tuple(tasks.split("+")), strength=strength, seed=seed),
        status,  # type: ignore[arg-type]
        WHEN,
        WHEN,
        train_seconds=1.5,
        metrics=metrics,
        history=({"epoch": 0, "val_depth_mae": 1.0, "seconds": 0.5},) if status == "done" else (),
        error="" if status == "done" else "RuntimeError: no",
    )


def test_delta_m_by_hand() -> None:
    rows = [
        result("segmentation", 0, test_segmentation_miou=0.4, val_segmentation_miou=0.5),
        result("depth", 0, test_depth_mae=0.8, val_depth_mae=0.5),
        result("segmentation+depth", 1e-3, test_segmentation_miou=0.5, test_depth_mae=1.0,
               val_segmentation_miou=0.5, val_depth_mae=0.25),
        result("segmentation", 1e-3, test_segmentation_miou=0.2, val_segmentation_miou=0.25),
        result("segmentation+depth", 0, seed=1, test_segmentation_miou=0.5, test_depth_mae=1.0),
        result("depth", 0, seed=2, status="failed"),
        result("depth", 1e-3, seed=2, test_depth_mae=1.0, val_depth_mae=1.0),
    ]  # fmt: skip
    table = results_table(rows, METRICS, PRIMARIES)
    # segmentation up by a quarter, depth error up by a quarter; on val unchanged and halved
    assert list(table["test_delta_m"].round(6))[:4] == [0, 0, 0, -0.5]
    assert list(table["delta_m"].round(6))[:4] == [0, 0, 0.25, -0.5]
    # no dense single-task model of these seeds
    assert table["delta_m"][4:].isna().all()
    assert table["test_delta_m"][4:].isna().all()


def test_trials_with_other_settings_are_no_reference_and_keep_their_search(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "s")
    dense = result("depth", 0, val_depth_mae=1.0, test_depth_mae=1.0)
    other = TrialResult(dense.config.model_copy(update={"lr": 0.5}), "done", "", "", 1.0, {"val_depth_mae": 0.5})
    ids = [dense.config.trial_id, other.config.trial_id]
    more = {"settings": {ids[1]: "lr=0.5"}, "proposal": {ids[1]: 7}}
    write_tables(store, [dense, other], METRICS, PRIMARIES, more)
    table = pd.read_parquet(tmp_path / "s" / RESULTS).set_index("trial_id")
    assert list(table.loc[ids, "settings"]) == ["", "lr=0.5"]
    assert list(table.loc[ids, "delta_m"]) == [0, 0.5]
    assert table.loc[ids[1], "proposal"] == 7
    assert search_columns(store)["proposal"][ids[1]] == 7
    write_tables(store, [dense], METRICS, PRIMARIES)
    assert search_columns(store) == {}


def test_a_reference_of_zero_gives_no_number_rather_than_infinity() -> None:
    rows = [
        result("depth", 0, val_depth_mae=0.0, test_depth_mae=1.0),
        result("depth", 1, val_depth_mae=1.0, test_depth_mae=1.0),
    ]
    table = results_table(rows, METRICS, PRIMARIES)
    assert table["delta_m"].isna().all()
    assert list(table["test_delta_m"]) == [0, 0]


def test_columns_are_the_contracts_whatever_has_ended() -> None:
    contract = ["trial_id", "status", "tasks", "penalty", "lambda", "seed", "epochs_run"]
    ends = ["group_sparsity", "parameter_sparsity", "delta_m", "train_seconds", "started_at", "ended_at", "error"]
    for rows in ([], [result("depth", 0, status="failed")], [result("depth", 0, test_depth_mae=1.0)]):
        table = results_table(rows, METRICS, PRIMARIES)
        assert list(table.columns[:7]) == contract
        assert set(ends) <= set(table.columns)
        assert {f"{split}_{name}" for split in ("val", "test") for name in METRICS} <= set(table.columns)
        assert table["lambda"].dtype == "float64"
        costs = list(COSTS)
        assert (table[costs].dtypes == "float64").all()
        assert set(table["retraining"]) <= {"none"}
    failed = results_table([result("depth", 0, status="failed")], METRICS, PRIMARIES).iloc[0]
    assert (failed["status"], failed["error"], failed["tasks"]) == ("failed", "RuntimeError: no", "depth")
    assert math.isnan(failed["test_depth_mae"])


def test_results_come_back_as_they_went(tmp_path: Path) -> None:
    store = Store(str(tmp_path), "s")
    rows = [result("depth", 0, val_depth_mae=1.0, test_depth_mae=math.nan), result("depth", 1, status="failed")]
    for row in rows:
        store.write(trial_file(row.config.trial_id, "result.json"), row.to_json())
    read = read_results(store)
    assert {k: repr(v) for k, v in read.items()} == {row.config.trial_id: repr(row) for row in rows}
    write_tables(store, read.values(), METRICS, PRIMARIES)
    assert len(pd.read_parquet(tmp_path / "s" / RESULTS)) == 2
    history = pd.read_parquet(tmp_path / "s" / HISTORY)
    assert list(history["trial_id"]) == [rows[0].config.trial_id]
    assert {"trial_id", "epoch", "lambda", "val_depth_mae", "seconds"} == set(history.columns)


def test_counting_reads_the_files_of_those_alone_that_the_table_does_not_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), "s")
    settled, gone = result("depth", 0), result("depth", 1)
    retried, again, new = (result("depth", strength, status="failed") for strength in (2, 3, 4))
    for row in (settled, gone, retried, again):
        store.write(trial_file(row.config.trial_id, "result.json"), row.to_json())
    write_tables(store, [settled, gone, retried, again], METRICS, PRIMARIES)
    store.delete(trial_file(gone.config.trial_id, "result.json"))
    store.write(trial_file(new.config.trial_id, "result.json"), new.to_json())
    store.write(trial_file(retried.config.trial_id, "result.json"), result("depth", 2).to_json())
    read: list[str] = []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, name: read.append(name) or original(self, name))
    counts = count_results(store)
    assert (counts.done, counts.damaged) == (2, [])
    assert {row.config.trial_id for row in counts.failed} == {again.config.trial_id, new.config.trial_id}
    assert trial_file(settled.config.trial_id, "result.json") not in read


def test_a_write_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path), "s", patience=0)
    store.write("a/b.txt", b"first")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        store.write("a/b.txt", b"second")
    assert store.read("a/b.txt") == b"first"
    assert [path.name for path in (tmp_path / "s" / "a").iterdir()] == ["b.txt"]
    store.delete("a/b.txt")
    store.delete("a/b.txt")
    assert store.read("a/b.txt") is None


def test_infos_have_directions() -> None:
    assert METRICS["depth_mae"].direction == "minimize"
    assert METRICS["segmentation_miou"].direction == "maximize"
    assert metric_infos(Task("depth", "depth"), "paper")["depth_mae"].unit == "of image maximum"


def test_a_stopped_trial_is_a_row_of_its_last_epoch_without_a_test() -> None:
    history = [
        {"epoch": 0, "val_depth_mae": 1.0, "val_depth_loss": 3.0, "group_sparsity": 0.1, "seconds": 0.5},
        {"epoch": 1, "val_depth_mae": 0.5, "val_depth_loss": 2.0, "group_sparsity": 0.2, "seconds": 0.25},
    ]
    stopped = stopped_result(config(tasks=("depth",)), history, WHEN)
    assert TrialResult.from_json(stopped.to_json()) == stopped
    row = results_table([stopped], METRICS, PRIMARIES).iloc[0]
    assert (row["status"], row["epochs_run"], row["train_seconds"], row["started_at"]) == ("stopped", 2, 0.75, WHEN)
    assert (row["val_depth_mae"], row["group_sparsity"]) == (0.5, 0.2)
    assert math.isnan(row["test_depth_mae"])
    assert "val_depth_loss" not in row


def written_results(folder: Path, *rows: TrialResult) -> Store:
    """A sweep of four trials with these results."""
    store = Store(str(folder), "s")
    store.write(SWEEP, sweep_file(4))
    for row in rows:
        store.write(trial_file(row.config.trial_id, "result.json"), row.to_json())
    return store


def test_damaged_results_are_named_and_nothing_is_run_over_them(tmp_path: Path) -> None:
    rows = [result("depth", strength) for strength in range(3)]
    store = written_results(tmp_path, *rows)
    names = [trial_file(row.config.trial_id, "result.json") for row in rows]
    content = store.read(names[0]) or b""
    for damaged, why in {
        b"": "is not a whole JSON file",
        content[:-5]: "is not a whole JSON file",
        b"[" * 100_000: "is not a whole JSON file (recursion limit exceeded",
        content.replace(b'"done"', b'"lost"'): "status is lost, not 'done', 'failed' or 'stopped'",
        content.replace(b'"started_at"', b'"began_at"'): "started_at is missing",
        content.replace(b'"epoch": 0', b'"epoch": 0.5'): "a row of an epoch",
        store.read(names[1]) or b"": f"is of another trial, {rows[1].config.trial_id}",
    }.items():
        store.write(names[0], damaged)
        with pytest.raises(BadInput) as caught:
            read_results(store)
        said = str(caught.value)
        assert said.startswith(f"{store.shown(names[0])}: "), said
        assert why in said
        assert "remove it, and the same command runs its trial again" in said
        assert "\n" not in said
        status = read_status(str(tmp_path / "s")).splitlines()
        assert status[0] == f"{tmp_path}/s: 2 done, 0 failed, 2 not ended, of 4"
        assert status[1].startswith(f"damaged: {store.shown(names[0])}: ")
    store.write(names[2], b"")
    with pytest.raises(BadInput, match="and 1 more results are damaged"):
        read_results(store)


def test_a_later_version_may_write_more_into_a_result() -> None:
    row = result("depth", 0)
    more = json.loads(row.to_json()) | {"watts": 12}
    assert TrialResult.from_json(json.dumps(more).encode()) == row
    with pytest.raises(Damaged, match="layers"):
        TrialResult.from_json(json.dumps(more | {"layers": {"conv1": "9:ff"}}).encode())


def test_what_other_files_tell_is_passed_over_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = written_results(tmp_path, result("depth", 0), result("depth", 1, status="failed"))
    for damaged in (b"", b"no table", b"PAR1" * 20):
        store.write(RESULTS, damaged)
        store.write(PROGRESS, damaged)
        lines = read_status(str(tmp_path / "s")).splitlines()
        assert lines[0].endswith("1 done, 1 failed, 2 not ended, of 4")
        assert [line.split(": ")[:2] for line in lines[2:]] == [
            ["damaged", store.shown(RESULTS)],
            ["damaged", store.shown(PROGRESS)],
        ]
        assert all(line.endswith("; the next run makes it again") for line in lines[2:])
        assert search_columns(store) == {}
        assert capsys.readouterr().err.count("\n") == 1


def test_a_message_that_is_no_text_can_be_kept(tmp_path: Path) -> None:
    """The name of a file may be one that no encoding has."""
    row = TrialResult(config(), "failed", WHEN, WHEN, error="no file \udcff", details="\udcff")
    store = written_results(tmp_path, row)
    write_tables(store, read_results(store).values(), METRICS, PRIMARIES)
    write_tables(store, [row], METRICS, PRIMARIES)
    assert pd.read_parquet(tmp_path / "s" / RESULTS)["error"][0] == "no file \\udcff"


def test_no_trial_ends_before_it_began() -> None:
    """Moments to the millisecond, all alike; the machine that it began on may be ahead."""
    history = [{"epoch": 0, "seconds": 0.5}]
    for _ in range(50):
        began = now()
        stopped = stopped_result(config(), history, began)
        assert stopped.started_at <= stopped.ended_at
        assert len(stopped.ended_at) == len(began)
    ahead = "2999-01-01T00:00:00.000+00:00"
    assert stopped_result(config(), history, ahead).ended_at == ahead

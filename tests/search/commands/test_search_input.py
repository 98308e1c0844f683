"""`parsimony search` and what it refuses: exit status 2, one line, nothing left behind, no Ray started."""

import json
import socket
from pathlib import Path

import optuna
import pytest

from mtl.vocabulary.files import JOURNAL
from search.cli import main
from search.recipe_file import load_recipe
from search.tuning.samplers import quiet
from search.tuning.search import open_search
from search.tuning.study import open_study
from tests.search.tuning.test_samplers import OneObjective
from tests.support.commands import refused
from tests.support.in_process import PENALTY_ALONE

quiet()


def sets(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


N = ["--trials", "4", *sets(*PENALTY_ALONE)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["RECIPE"]),
        (["rooms"], ["neither --trials nor --budget-hours; allowed: --trials N, --budget-hours H, or both"]),
        (["rooms", "--trials", "0"], ["--trials 0; allowed: 1 or more"]),
        (["rooms", "--trials", "many"], ["--trials", "'many'"]),
        (["rooms", "--budget-hours", "-1"], ["--budget-hours -1; allowed: more than 0"]),
        (["rooms", "--budget-hours", "nan"], ["--budget-hours nan; allowed: more than 0"]),
        (["rooms", *N, *sets("sampler=bayes")], ["sampler = bayes; allowed: auto, front, tpe, gp, nsga2"]),
        (["rooms", *N, *sets("sampler=grid", "search_space.lr=[1e-3, 1e-2]")], ["search_space.lr is a range"]),
        (
            ["rooms", *N, *sets("constraints=miou>=0.3")],
            ["constraints: 'miou>=0.3'", "allowed: delta_m, group_sparsity"],
        ),
        (
            ["rooms", *N, "--target", "sparsity>=0.7"],
            ["--target: 'sparsity>=0.7' has no known column", "val_depth_"],
        ),
        (["rooms", *N, "--target", "group_sparsity"], ["--target: 'group_sparsity'; allowed: COLUMN>=NUMBER"]),
        (["rooms", *N, "--target", "latency_ms<=20"], ["latency_ms is not measured", "--set measure_latency=true"]),
        (["rooms", *N, *sets("objectives=latency_ms")], ["latency_ms is not measured"]),
        (["rooms", *N, "--target", "model_latency_ms<=20"], ["model_latency_ms is not measured"]),
        (["rooms", *N, *sets("objectives=delta_m,model_latency_ms")], ["model_latency_ms is not measured"]),
        (["rooms", *N, *sets("objectives=mac")], ["objectives: 'mac'", "allowed: delta_m"]),
        (["rooms", *N, *sets("search_space.lambda=1")], ["search_space.lambda = [1]"]),
        (["rooms", *N, *sets("search_space.lr=1")], ["search_space.lr = [1]", "allowed"]),
        (["rooms", *N, *sets("serach_space.lr=1")], ["serach_space", "search_space.NAME"]),
        (["rooms", *N, "--warm-start", "nowhere"], ["--warm-start nowhere: no sweep is there", "STORAGE/NAME"]),
        (["rooms", *N, "--study", "study.db"], ["--study URL: ", "sqlite:///study.db"]),
    ],
)
def test_refused(
    words: list[str], said: list[str], empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    line = refused(["search", *words], capsys)
    for word in said:
        assert word in line
    assert list(empty.iterdir()) == []


def test_a_database_that_does_not_answer(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # bound, and not listened to
        url = f"postgresql+psycopg://me:s3cret-word@127.0.0.1:{port}/db"
        line = refused(["search", "rooms", *N, "--study", url], capsys)
    assert f"--study postgresql+psycopg://me:***@127.0.0.1:{port}/db: " in line
    assert "s3cret-word" not in line
    assert list(empty.iterdir()) == []


def test_a_sampler_for_one_objective(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{OneObjective.__module__}:{OneObjective.__name__}"
    line = refused(["search", "rooms", *N, *sets(f"sampler={name}")], capsys)
    assert f"sampler = {name}: fails with 2 objectives (ValueError: this sampler has one objective)" in line
    assert list(empty.iterdir()) == []
    assert main(["search", "rooms", *N, *sets(f"sampler={name}", "objectives=macs"), "--dry-run"]) == 0


@pytest.mark.parametrize("database", [True, False])
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (sets("objectives=delta_m,macs"), 'was made with objectives = ["delta_m:maximize", "group_sparsity:maximize"]'),
        (sets("search_space.lambda=[1e-3, 1]"), 'was made with search_space = {"lambda": [0.0002'),
        (sets("search_space.lr=[1e-3, 1e-2]"), "this search has "),
        (sets("seeds=3"), '"seeds": [0, 1]'),
        (sets("retraining=fine_tune"), 'was made with retraining = ["none"], this search has ["fine_tune"]'),
        (
            ["--target", "group_sparsity>=0.5"],
            'was made with constraints = [], this search has ["group_',
        ),
    ],
)
def test_a_study_of_something_else(
    other: list[str], said: str, database: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = f"sqlite:///{tmp_path}/study.db" if database else None
    url = ["--study", study] if study else []
    search = open_search(load_recipe("rooms", PENALTY_ALONE), str(tmp_path), "rooms", None, proposals=4, study=study)
    (tmp_path / "rooms").mkdir()
    open_study(search.place, search.objectives, search.identity)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    line = refused(["search", "rooms", "--storage", str(tmp_path), *N, *url, *other], capsys)
    assert said in line
    assert "allowed: the same, or another --name" in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert main(["search", "rooms", "--storage", str(tmp_path), *N, *url, "--dry-run"]) == 0


def test_dry_run_says_what_would_be_searched_and_writes_nothing(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    url = f"sqlite:///{empty}/study.db"
    options = sets("search_space.penalty=group_lasso,l1", "sampler=tpe", "constraints=depth_mae<=1")
    for study in ([], ["--study", url]):
        assert main(["search", "rooms", *N, *options, "--target", "group_sparsity>=0.7", *study, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "penalty: ['group_lasso', 'l1']" in lines
        assert "objectives: delta_m:maximize, group_sparsity:maximize" in lines
        assert "constraints: val_depth_mae<=1, group_sparsity>=0.7" in lines
        assert "sampler: tpe" in lines
        assert "proposals: 4, each with seeds [0, 1]" in lines
        assert f"study: {url if study else './results/rooms/study.journal'}" in lines
        assert len(lines[lines.index("baselines:") + 1 :]) == 3 * 2
        assert list(empty.iterdir()) == []
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"op_code": 11}, "is not Optuna's journal (AssertionError"),
        ({"op_code": 5, "trial_id": 0, "param_name": "lambda"}, "is not Optuna's journal (KeyError"),
        (
            {"op_code": 8, "trial_id": 0, "user_attr": {"trial_ids": 7}},
            "trial 0: trial_ids is 7, not a valid list",
        ),
        ({"op_code": 8, "trial_id": 0, "user_attr": {"trial_ids": ["x"]}}, "trial 0: parameter lambda is missing"),
        (
            {"op_code": 9, "trial_id": 0, "system_attr": {"fixed_params": {"lambda": "x"}}},
            "parameter lambda is x, outside this search's space",
        ),
        (
            {"op_code": 9, "trial_id": 0, "system_attr": {"fixed_params": {"lr": 1}}},
            "parameter lr is 1, outside this search's space",
        ),
        ({"op_code": 6, "trial_id": 0, "state": 1, "values": [1]}, "trial 0: its values are [1], not 2 numbers"),
    ],
)
def test_a_study_whose_trials_no_search_has_made(
    change: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = open_search(load_recipe("rooms", PENALTY_ALONE), str(tmp_path), "rooms", None, proposals=4)
    (tmp_path / "rooms").mkdir()
    opened = open_study(search.place, search.objectives, search.identity)
    opened.study.enqueue_trial({"lambda": 0.01})
    moment = {"datetime_complete": "2026-01-01T00:00:00"}
    with (tmp_path / "rooms" / JOURNAL).open("a") as journal:
        journal.write(json.dumps({"worker_id": "x", **moment} | change) + "\n")
    before = (tmp_path / "rooms" / JOURNAL).read_bytes()
    line = refused(["search", "rooms", "--storage", str(tmp_path), *N], capsys)
    assert line.startswith(f"parsimony: study {tmp_path}/rooms/{JOURNAL}: ")
    assert said in line
    assert (tmp_path / "rooms" / JOURNAL).read_bytes() == before


def test_a_warm_start_that_is_no_sweep_is_told_at_once(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a storage that is away it was waited for, for five minutes.
    monkeypatch.setattr("search.store.storage.time.sleep", lambda seconds: pytest.fail("it waits"))
    (empty / "file").write_bytes(b"")
    (empty / "loop").symlink_to("loop")
    (empty / "bare").mkdir()
    for name in ("file", "loop", "bare", "nowhere"):
        assert "--warm-start" in refused(["search", "rooms", *N, "--warm-start", name], capsys)
    for path in empty.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()

"""A damaged checkpoint: the trial says so, starts again, and gives the same numbers."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.config import TrialConfig
from mtl.vocabulary.files import CHECKPOINT, RESULT, trial_file
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import TrialRun, run_trial, to_bytes
from search.store.results import TrialResult
from search.store.storage import Store
from tests.support.in_process import words

CLOCK = ("seconds",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    """Of a trial of two epochs that nothing has broken."""
    storage = tmp_path_factory.mktemp("whole")
    assert main(words("train", storage, sets=("epochs=2",))) == 0
    (path,) = storage.rglob(RESULT)
    return TrialResult.from_json(path.read_bytes())


def context(storage: Path) -> RunContext:
    return RunContext(storage=str(storage), name="s", data=None, threads=1, gpus=0, checkpoint_seconds=1000, retries=0)


def numbers(result: TrialResult) -> list[dict[str, float]]:
    rows = [{name: value for name, value in row.items() if name not in CLOCK} for row in result.history]
    return [*rows, dict(result.metrics)]


def begun(config: TrialConfig, storage: Path) -> bytes:
    """The checkpoint after one epoch of two."""
    run = TrialRun(config, context(storage))
    run.step()
    run.save_checkpoint()
    return Store(str(storage), "s").read(trial_file(config.trial_id, CHECKPOINT)) or b""


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        state = torch.load(io.BytesIO(content), weights_only=True)
        change(state)
        return to_bytes(state)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no checkpoint",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-3],
        lambda content: content[:2000] + bytes(2000) + content[4000:],
        lambda content: to_bytes(None),
        lambda content: to_bytes([1, 2]),
        lambda content: to_bytes({"training": {}}),
        edited(lambda state: state.update(trial_id="0123456789abcdef")),
        edited(lambda state: state.update(started_at="yesterday")),
        edited(lambda state: state.update(train_seconds="long")),
        edited(lambda state: state.pop("training")),
        edited(lambda state: state["training"].pop("optimizer")),
        edited(lambda state: state["training"].update(history=7)),
        edited(lambda state: state["training"].update(history=[{"epoch": 5, "seconds": 1.0}])),
        edited(lambda state: state["training"].update(best_epoch=7)),
        edited(lambda state: state["training"].update(best_model={})),
        edited(lambda state: state["training"]["model"].popitem()),
    ],
)
def test_it_starts_anew(
    damage: Callable[[bytes], bytes], whole: TrialResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = begun(whole.config, tmp_path)
    store = Store(str(tmp_path), "s")
    name = trial_file(whole.config.trial_id, CHECKPOINT)
    store.write(name, damage(content))
    capsys.readouterr()
    result = run_trial(whole.config, context(tmp_path))
    assert result.status == "done", result.details
    assert numbers(result) == numbers(whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{store.shown(name)}: is no checkpoint of this trial (")
    assert line.endswith("); the trial starts again")


@pytest.mark.parametrize("damage", [lambda content: content, edited(lambda state: state.pop("trial_id"))])
def test_a_whole_one_is_gone_on_from(
    damage: Callable[[bytes], bytes], whole: TrialResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one from before checkpoints said of which trial they are."""
    content = begun(whole.config, tmp_path)
    Store(str(tmp_path), "s").write(trial_file(whole.config.trial_id, CHECKPOINT), damage(content))
    capsys.readouterr()
    run = TrialRun(whole.config, context(tmp_path))
    run.step()
    assert run.result is not None
    assert numbers(run.result) == numbers(whole)
    assert capsys.readouterr().err == ""

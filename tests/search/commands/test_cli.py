"""Bad input on the command line: exit status 2, one line on standard error, nothing left behind, no Ray started."""

import shlex
import subprocess
from pathlib import Path

import pytest

from mtl import __version__
from search.arguments import COMMANDS, DATASETS, EXAMPLES, make_parser
from search.cli import main
from tests.support.commands import refused


@pytest.mark.parametrize("command", ["sweep", "train"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["room"],
            ["'room'", "allowed: celebamask-hq, celebamask-small, cityscapes, nyuv2, nyuv2-mtan, nyuv2-small, rooms"],
        ),
        (["rooms", "--set", "lamdas=1"], ["unknown field 'lamdas'", "lambdas"]),
        (["rooms", "--set", "lambdas=-1"], ["lambdas = -1", "allowed"]),
        (["rooms", "--set", "lambdas=x"], ["lambdas = x", "allowed"]),
        (["rooms", "--set", "seeds=0"], ["seeds = 0", "allowed"]),
        (["rooms", "--set", "tasks=segmentation,sound"], ["'sound'", "segmentation, depth, normals"]),
        (["rooms", "--set", "combinations=sound"], ["'sound'", "allowed"]),
        (["rooms", "--set", "dataset=kitti"], ["kitti", "rooms", "nyuv2", "celebamask_hq"]),
        (["rooms", "--set", "retraining=again"], ["retraining = again", "allowed", "scratch"]),
        (["rooms", "--set", "objectives=mac"], ["'mac'", "allowed: delta_m", "macs", "latency_ms"]),
        (
            ["rooms", "--set", "early_stopping=asha", "--set", "objectives=macs"],
            ["'macs' is known only of a trial that is done", "allowed with early_stopping: delta_m"],
        ),
        (["rooms", "--data", "somewhere"], ["--data"]),
        (["rooms", "--name", "a/b"], ["--name 'a/b'", "allowed"]),
        (["nyuv2-small"], ["--data DIR"]),
        (["nyuv2-small", "--data", "nowhere"], ["nowhere"]),
        (["rooms", "--storage", "ftp://host/x"], ["ftp://host/x", "allowed: a folder, s3://... or gs://..."]),
        (["rooms", "--storage", "/proc/results"], ["/proc/results", "cannot be written"]),
        (["rooms", "--frobnicate"], ["--frobnicate"]),
        ([], ["RECIPE"]),
    ],
)
def test_refused(
    command: str,
    words: list[str],
    said: list[str],
    empty: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.store.storage.CHECK_SECONDS", 0.1)
    line = refused([command, *words], capsys)
    for word in said:
        assert word in line
    assert list(empty.iterdir()) == []


def test_a_folder_that_is_empty_or_half_there(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert str(data) in refused(["sweep", "nyuv2-small", "--data", str(data)], capsys)
    (data / "images").mkdir()
    (data / "gt_sets").mkdir()
    (data / "gt_sets" / "train.txt").write_text("0001\n0002\n")
    assert str(data) in refused(["sweep", "nyuv2-small", "--data", str(data)], capsys)
    assert list(empty.iterdir()) == []


def test_storage_under_a_file(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("mine")
    line = refused(["sweep", "rooms", "--storage", str(occupied / "results")], capsys)
    assert "cannot be written" in line
    assert occupied.read_text() == "mine"


def test_a_task_the_dataset_has_no_labels_for(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["sweep", "rooms", "--set", "tasks=male", "--set", "combinations=all"], capsys)
    assert "'male'" in line
    assert "segmentation, depth, normals" in line


@pytest.mark.parametrize("command", ["status", "analyze"])
def test_no_sweep_there(command: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refused([command, "nowhere"], capsys)
    assert refused([command, str(empty)], capsys)
    assert list(empty.iterdir()) == []


def test_no_command_shows_help_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "parsimony sweep rooms" in capsys.readouterr().out
    assert "did you mean sweep? allowed: sweep, search" in refused(["swep"], capsys)


def test_every_command_has_an_example_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser()
    assert {*COMMANDS, *DATASETS} - set(EXAMPLES) == {"list", "cache"}
    for name, examples in EXAMPLES.items():
        for example in examples:
            words = shlex.split(example.partition(" > ")[0])[1:]
            parser.parse_args(words)
            assert name in words


def test_version_and_completion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"parsimony {__version__}\n"
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--warm-start" in script
    words = [
        "bash",
        "-c",
        f"{script}\nCOMP_WORDS=(parsimony sw) COMP_CWORD=1\n_shtab_parsimony\necho ${{COMPREPLY[@]}}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sweep"], done.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["sweep", "roms"], "rooms"),
        (["sweep", "rooms", "--set", "penalty=group_laso"], "group_lasso"),
        (["sweep", "rooms", "--set", "dataset=room"], "rooms"),
        (["sweep", "rooms", "--set", "tasks=Segmentatoin"], "segmentation"),
        (["sweep", "rooms", "--set", "lamdas=1"], "lambdas"),
        (["search", "rooms", "--trials", "2", "--set", "search_space.lamda=[1,2]"], "lambda"),
    ],
)
def test_close_matches(words: list[str], meant: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"did you mean {meant}? " in refused(words, capsys)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()
    names = ["celebamask-hq", "celebamask-small", "cityscapes", "nyuv2", "nyuv2-mtan", "nyuv2-small", "rooms"]
    assert [line.split()[0] for line in listed] == names
    assert main(["recipes", "nyuv2"]) == 0
    assert 'backbone = "resnet50"' in capsys.readouterr().out
    assert "allowed" in refused(["recipes", "nyu"], capsys)

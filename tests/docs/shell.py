"""Runs the shell commands that the pages show: ours in this process and in small, of others the words alone."""

import re
import shlex
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from search.arguments import make_parser
from search.cli import main
from tests.support.in_process import without_ray
from tests.support.paths import ROOT

# Before what a page sets, which has the last word.
FEWER = {"rooms": ("combinations=depth",), "mine.toml": ("combinations=depth", "compressors=penalty", "targets=")}
# After it: a trial of an epoch or two on a few images.
ROOMS = (
    *("image_size=32", "head_channels=8", "epochs=2", "path_epochs=1", "batch_size=8"),
    *("seeds=1", "dataset_options.train=16", "dataset_options.val=8", "dataset_options.test=8"),
)
NYUV2 = ("image_size=32", "backbone_width=8", "head_channels=8", "epochs=1", "batch_size=32", "path_epochs=")
NYUV2_ALONE = (*NYUV2, "combinations=depth", "compressors=penalty", "targets=", "lambdas=0")
LEAVES = ("epochs=1", "seeds=1", "lambdas=0", "combinations=leaf", "batch_size=4")
SMALLER = {"rooms": ROOMS, "mine.toml": ROOMS, "nyuv2-small": NYUV2_ALONE, "leaves.toml": LEAVES}
# Programs of other people, which are not run: their words are not ours to test, but the files that they name are.
OTHERS = frozenset({"aws", "kubectl", "sbatch", "docker"})
PLACEHOLDER = re.compile(r"BUCKET|CLUSTER|HOST|results/nyuv2\b")
TRIAL = "/trials/TRIAL_ID"


@dataclass(frozen=True)
class Command:
    words: list[str]
    environment: dict[str, str]
    output: str | None

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def commands(text: str) -> Iterator[Command]:
    """The commands of a block, a line each; a line that ends with a backslash goes on in the next."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        output = None
        if ">" in words:
            at = words.index(">")
            output, words = words[at + 1], words[:at]
        environment = {}
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            name, value = words.pop(0).split("=", 1)
            environment[name] = value
        if words:
            yield Command(words, environment, output)


class World:
    """A folder as the pages speak of it; what one command writes is there for the next."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def run(self, block: str) -> None:
        if block.startswith("#!"):
            check_script(block)
            return
        for command in commands(block):
            self.run_one(command)

    def run_one(self, command: Command) -> None:
        first, *rest = command.words
        if first == "parsimony":
            self.parsimony(command)
        elif first == "make":
            subprocess.run(["make", "-n", *rest], cwd=ROOT, check=True, capture_output=True)
        elif first == "ray":
            check_ray(rest)
        elif first == "pip":
            check_extras(command.text)
        elif first in (".", "source"):
            assert rest == [".venv/bin/activate"]
        elif first == "git":
            assert rest[0] == "clone"
        elif first == "python":
            check_benchmark(rest)
        else:
            assert first in OTHERS, f"{command.text}: neither run nor listed in OTHERS"
            named = [word for word in rest if word.endswith((".yaml", ".sbatch"))]
            assert all((self.folder / name).is_file() or (ROOT / name).is_file() for name in named), command.text

    def parsimony(self, command: Command) -> None:
        """Runs it in small; one that needs a bucket or a cluster, or a second drawing of a report, is parsed alone."""
        words = [self.in_this_folder(word) for word in command.words[1:]]
        if words[:1] == ["--version"]:
            with pytest.raises(SystemExit, match="0"):
                main(words)
            return
        options = make_parser().parse_args(words)
        verb = words[0]
        if PLACEHOLDER.search(command.text):
            return
        if verb == "analyze":
            recorded = [name for name in options.dirs if name.startswith("benchmarks/")]
            where = ROOT if recorded else self.folder
            assert all((where / name / "results.parquet").is_file() for name in options.dirs), command.text
            if recorded or (self.folder / "analyzed").exists():
                return
            (self.folder / "analyzed").touch()
        if verb in ("sweep", "search", "train"):
            words = [*words[:2], *sets(FEWER.get(words[1], ())), *words[2:], *sets(SMALLER[words[1]])]
            words += ["--address", "local"] if verb != "train" else []
            words += ["--trials", "2"] if verb == "search" else []
        if verb == "train" and "--name" not in words:
            words += ["--name", "trained"]
        self.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch, without_ray():
            for name, value in command.environment.items():
                patch.setenv(name, value)
            code = main(words)
        printed = self.capsys.readouterr()
        assert code == 0, f"{command.text}\n{printed.out}\n{printed.err}"
        if command.output is not None:
            path = Path(command.output).expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(printed.out, encoding="utf-8")

    def in_this_folder(self, word: str) -> str:
        """TRIAL_ID as the id of a trial that is there, one of the most tasks."""
        if TRIAL not in word:
            return word
        sweep = self.folder / word.partition(TRIAL)[0]
        done = pd.read_parquet(sweep / "results.parquet").query("status == 'done'")
        trial_id = done.loc[done["tasks"].str.len().idxmax(), "trial_id"]
        path = self.folder / word.replace("TRIAL_ID", trial_id)
        if path.name == "compact.pt" and not path.exists():
            assert main(["compact", str(path.parent)]) == 0
        return str(path)


def sets(fields: tuple[str, ...]) -> list[str]:
    return [word for field in fields for word in ("--set", field)]


def check_script(script: str) -> None:
    """A whole script: bash reads it, and our command in it is one of ours."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)
    (line,) = re.findall(r"^ *(parsimony .*)$", script, flags=re.MULTILINE)
    check_words(line)


def check_words(line: str) -> None:
    """A command of ours has words that it takes."""
    first, *words = shlex.split(line)
    assert first == "parsimony"
    make_parser().parse_args(words)


def check_ray(words: list[str]) -> None:
    """Ray knows the command and its options; what is to run on the cluster is checked in its place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of its use of pydantic
        from ray.scripts.scripts import cli

    group = cli
    while hasattr(group, "commands"):
        name = words.pop(0)
        assert name in group.commands, f"ray {name}"
        group = group.commands[name]
    if "--" in words:
        at = words.index("--")
        words, inner = words[:at], words[at + 1 :]
        check_words(shlex.join(inner))
    if group.name == "exec":
        inner = shlex.split(words[1])
        if inner[0] == "parsimony":
            check_words(words[1])
        else:
            assert inner.pop(0) == "ray"
            check_ray(inner)
    known = {option for parameter in group.params for option in parameter.opts}
    asked = {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}
    assert asked <= known, f"ray {group.name}: {asked - known}"


def check_extras(command: str) -> None:
    """An extra that is installed is one of pyproject.toml's."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\[([\w,]+)\]", command):
        assert set(named.split(",")) <= set(extras), command


def check_benchmark(words: list[str]) -> None:
    """A module of benchmarks/, whose options stand in it."""
    assert words[0] == "-m", words
    module = ROOT / words[1].replace(".", "/")
    source = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
    assert source.is_file(), words[1]
    text = source.read_text(encoding="utf-8")
    for option in (word for word in words[2:] if word.startswith("--")):
        assert f'"{option}"' in text, f"{words[1]} {option}"

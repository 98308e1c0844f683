"""The command line: `parsimony COMMAND …`. Exit status: 0 all done, 1 some trials failed or stopped, 2 bad input."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mtl.errors import BadInput
from mtl.paths import check_words
from search.store.errors import SweepStopped

DESCRIPTION = "Search for the smallest multi-task vision model that does the job."
# Characters of an error's line: a value of a megabyte says nothing more.
MOST_SHOWN = 2000

# The names of an argument, and what argparse's add_argument takes besides.
Argument = tuple[tuple[str, ...], Mapping[str, Any]]
# Each command's help, and its arguments or its own commands.
Commands = Mapping[str, tuple[str, "Sequence[Argument] | Commands"]]


def _arg(*names: str, **settings: Any) -> Argument:
    return names, settings


SET = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
RUN = (
    _arg("recipe", metavar="RECIPE", help="a recipe's name (see `parsimony recipes`), or a recipe file"),
    _arg("--storage", default="./results", metavar="URL", help="a folder (default ./results), s3:// or gs://"),
    _arg("--name", metavar="NAME", help="the sweep's name, below the storage (default: the recipe's)"),
    _arg("--data", metavar="DIR", help="the dataset's folder, for a published dataset"),
    _arg("--set", **SET, help="override a field of the recipe; repeatable"),
)
ADDRESS = _arg(
    "--address",
    metavar="ADDR",
    help="the Ray cluster to join, HOST:PORT, or local to start a new cluster (default: RAY_ADDRESS, else the cluster "
    "that `ray start` has started on this machine, else a new cluster)",
)
SEARCH = (
    _arg("--trials", type=int, metavar="N", help="how many proposals in all, each trained with every seed"),
    _arg("--budget-hours", type=float, metavar="H", help="start no trial that would end after this time"),
    _arg("--target", metavar="CONDITION", help="find the best model that meets it, such as 'group_sparsity>=0.7'"),
    _arg("--study", metavar="URL", help="where Optuna keeps its study (default: study.journal beside the results)"),
    _arg("--warm-start", metavar="DIR", help="a sweep, STORAGE/NAME, whose results the search starts from"),
)
NETWORK = _arg(
    "--network",
    metavar="NAME",
    help="my_module:MyModel, the class of your own of which a model.pt is: without this its code does not run",
)
COMPACT = (
    _arg("checkpoint", metavar="CHECKPOINT", help="a trial's model.pt, or the trial's folder"),
    _arg("--data", metavar="DIR", help="the dataset's folder; a class of your own is imported from the current folder"),
    _arg("--out", metavar="PATH", help="the file to write (default: compact.pt beside the checkpoint)"),
    NETWORK,
    _arg("--export", default="", metavar="FORMATS", help="also write torch (.pt2), onnx, or both: torch,onnx"),
    _arg("--device", choices=["cpu", "cuda"], default="cpu", help="where the model must be fast (default cpu)"),
    _arg("--threads", type=int, metavar="N", help="CPU threads (default: torch's own number, one per core)"),
)
PREDICT = (
    _arg("model", metavar="MODEL", help="a trial's model.pt or folder, a compact.pt, or its .onnx"),
    _arg("images", nargs="+", metavar="IMAGE", help="image files with 8 bits per channel"),
    NETWORK,
    _arg("--out", default="./predictions", metavar="DIR", help="where to write the pictures (default ./predictions)"),
)
CHECK = (
    _arg("dir", nargs="?", metavar="DIR", help="the dataset's folder; left out for a generated dataset"),
    _arg("--dataset", metavar="NAME", help="a dataset, or my_module:MyDataset (default: recognised)"),
    _arg("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the dataset; repeatable"),
    _arg("--sheet", metavar="PNG", help="the contact sheet (default: ./NAME-contact-sheet.png)"),
    _arg("--seed", type=int, default=0, metavar="N", help="chooses the sheet's samples (default 0)"),
)
DATASETS: Commands = {
    "check": ("what a folder holds, each missing or broken file, and a contact sheet", CHECK),
    "list": ("the datasets by name", ()),
    "cache": (
        "the datasets that are cached on this machine, and their size",
        [_arg("--remove", action="store_true", help="remove the cache, except what is being built now")],
    ),
}
COMMANDS: Commands = {
    "sweep": (
        "every task combination, lambda and seed of a recipe, on Ray Tune",
        [*RUN, ADDRESS, _arg("--dry-run", action="store_true", help="print the trials that would run, and stop")],
    ),
    "search": (
        "Optuna proposes lambda or the cost, and all other open fields, on Ray Tune",
        [*RUN, *SEARCH, ADDRESS, _arg("--dry-run", action="store_true", help="print the search's plan, and stop")],
    ),
    "train": ("one trial of a recipe in this process, without Ray", RUN),
    "analyze": (
        "fronts, tables, figures and report.html of one or more sweeps",
        [
            _arg("dirs", nargs="+", metavar="DIR", help="a sweep's folder or URL, STORAGE/NAME; or several folders"),
            _arg(
                "--objectives",
                metavar="COLUMN:DIRECTION,…",
                help="the axes of the fronts, such as test_depth_mae:minimize,group_sparsity:maximize (default: those "
                "of sweep.json)",
            ),
        ],
    ),
    "status": (
        "what is done, running, failed, missing; time left",
        [_arg("dir", metavar="DIR", help="the sweep's folder or URL, STORAGE/NAME")],
    ),
    "recipes": (
        "the recipes by name, or one recipe in full",
        [
            _arg("name", nargs="?", metavar="NAME", help="a recipe's name, or a recipe file"),
            _arg("--set", **SET, help="override a field"),
        ],
    ),
    "compact": ("a trial's model with its zero channels physically removed", COMPACT),
    "predict": ("a model's predictions for images, as pictures", PREDICT),
    "datasets": ("check a dataset's files; list the datasets and the cache", DATASETS),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a log that cannot show × or ± is no reason to lose a result.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        check_words(sys.argv[1:] if arguments is None else arguments)
        options = make_parser().parse_args(arguments)
        # Import only the command's own module: some take seconds to import, and memory that a driver needs.
        return int(importlib.import_module(f"search.commands.{options.command}").run(options))
    except BadInput as error:
        print(f"parsimony: {one_line(str(error))}", file=sys.stderr)
        return 2
    except SweepStopped as error:
        print(f"parsimony: {one_line(str(error))}; the same command continues it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("parsimony: interrupted; the same command continues it", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def one_line(text: str) -> str:
    """A message on one line: line ends in names and values are escaped, and the middle of a long message is cut."""
    escaped = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    half = MOST_SHOWN // 2
    return escaped if len(escaped) <= MOST_SHOWN else f"{escaped[:half]} … {escaped[-half:]}"


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="parsimony", description=DESCRIPTION)
    _add_commands(parser, COMMANDS, "command")
    return parser


def _add_commands(parser: argparse.ArgumentParser, commands: Commands, dest: str) -> None:
    adder = parser.add_subparsers(required=True, dest=dest, metavar="COMMAND", parser_class=_Parser)
    for name, (described, content) in commands.items():
        command = adder.add_parser(name, help=described)
        if isinstance(content, Mapping):
            _add_commands(command, content, "action")
        else:
            for names, settings in content:
                command.add_argument(*names, **settings)

"""The command line: `parsimony COMMAND …`. Exit status: 0 all done, 1 some trials failed or stopped, 2 bad input."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mtl.errors import BadInput
from mtl.paths import check_words
from search.store.errors import SweepStopped

DESCRIPTION = "Search for the smallest multi-task vision model that does the job."
# Characters of an error's line: a value of a megabyte says nothing more.
MOST_SHOWN = 2000


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a log that has no × or ± is no reason to lose a result.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        check_words(sys.argv[1:] if arguments is None else arguments)
        options = make_parser().parse_args(arguments)
        # Only what the command needs is imported: some take seconds, and memory that a driver has better use for.
        return int(importlib.import_module(f"search.commands.{options.command}").run(options))
    except BadInput as error:
        print(f"parsimony: {one_line(str(error))}", file=sys.stderr)
        return 2
    except SweepStopped as error:
        print(f"parsimony: {one_line(str(error))}; the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("parsimony: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, say `head`, has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def one_line(text: str) -> str:
    """A message on one line, whatever names and values stand in it: line ends escaped, the middle of a long one cut."""
    escaped = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    half = MOST_SHOWN // 2
    return escaped if len(escaped) <= MOST_SHOWN else f"{escaped[:half]} … {escaped[-half:]}"


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="parsimony", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    sweep = commands.add_parser("sweep", help="every task combination, lambda and seed of a recipe, on Ray Tune")
    _add_run_options(sweep)
    _add_address(sweep)
    sweep.add_argument("--dry-run", action="store_true", help="print the trials that would run, and stop")
    sweep.set_defaults(command="sweep")

    search = commands.add_parser("search", help="Optuna proposes lambda and what else is open, on Ray Tune")
    _add_run_options(search)
    search.add_argument("--trials", type=int, metavar="N", help="proposals in all, each with every seed of the recipe")
    search.add_argument("--budget-hours", type=float, metavar="H", help="start no trial that would end after so long")
    search.add_argument(
        "--target", metavar="CONDITION", help="the best under a constraint, such as 'group_sparsity>=0.7'"
    )
    search.add_argument(
        "--study", metavar="URL", help="where Optuna keeps its study (default: study.journal beside the results)"
    )
    search.add_argument("--warm-start", metavar="DIR", help="a sweep, STORAGE/NAME, that the study is told of")
    _add_address(search)
    search.add_argument("--dry-run", action="store_true", help="print what would be searched, and stop")
    search.set_defaults(command="search")

    train = commands.add_parser("train", help="one trial of a recipe in this process, without Ray")
    _add_run_options(train)
    train.set_defaults(command="train")

    analyze = commands.add_parser("analyze", help="fronts, tables, figures and report.html of one sweep or several")
    analyze.add_argument(
        "dirs",
        nargs="+",
        metavar="DIR",
        help="a sweep's folder or URL, STORAGE/NAME; several folders are analysed together",
    )
    analyze.add_argument(
        "--objectives",
        metavar="COLUMN:DIRECTION,…",
        help="what the fronts trade, such as test_depth_mae:minimize,group_sparsity:maximize (default: sweep.json's)",
    )
    analyze.set_defaults(command="analyze")

    status = commands.add_parser("status", help="what is done, running, failed, missing; time left")
    status.add_argument("dir", metavar="DIR", help="the sweep's folder or URL, STORAGE/NAME")
    status.set_defaults(command="status")

    recipes = commands.add_parser("recipes", help="the recipes by name, or one printed whole")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="a recipe's name, or a recipe file")
    recipes.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a field")
    recipes.set_defaults(command="recipes")

    compact = commands.add_parser("compact", help="a trial's model with its zero channels physically removed")
    compact.add_argument("checkpoint", metavar="CHECKPOINT", help="a trial's model.pt, or the trial's folder")
    compact.add_argument(
        "--data", metavar="DIR", help="the dataset's folder; a class of your own is looked for in the current folder"
    )
    compact.add_argument("--out", metavar="PATH", help="the file to write (default: compact.pt beside the checkpoint)")
    compact.add_argument(
        "--export", default="", metavar="FORMATS", help="torch (.pt2), onnx, or torch,onnx: written beside as well"
    )
    compact.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="what to be fast on (default cpu)")
    compact.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: torch's own, as many as cores)")
    compact.set_defaults(command="compact")

    predict = commands.add_parser("predict", help="a model's task maps of images, as pictures")
    predict.add_argument("model", metavar="MODEL", help="a trial's model.pt or folder, a compact.pt, or its .onnx")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files of 8 bits a channel")
    predict.add_argument("--out", default="./predictions", metavar="DIR", help="where to (default ./predictions)")
    predict.set_defaults(command="predict")

    datasets = commands.add_parser("datasets", help="look through a dataset's files; list datasets and what is cached")
    _add_datasets_commands(datasets)
    return parser


def _add_datasets_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    check = commands.add_parser("check", help="what a folder holds, each missing or broken file, and a contact sheet")
    check.add_argument("dir", nargs="?", metavar="DIR", help="the dataset's folder; none for a generated dataset")
    check.add_argument("--dataset", metavar="NAME", help="a dataset, or my_module:MyDataset (default: recognised)")
    check.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the dataset; repeatable"
    )
    check.add_argument("--sheet", metavar="PNG", help="the contact sheet (default: ./NAME-contact-sheet.png)")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the sheet's samples (default 0)")
    check.set_defaults(command="datasets", action="check")

    listing = commands.add_parser("list", help="the datasets by name")
    listing.set_defaults(command="datasets", action="list")

    cache = commands.add_parser("cache", help="what is cached of datasets on this machine, and its size")
    cache.add_argument("--remove", action="store_true", help="remove it, except what is being built")
    cache.set_defaults(command="datasets", action="cache")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name (see `parsimony recipes`), or a recipe file")
    parser.add_argument(
        "--storage", default="./results", metavar="URL", help="a folder (default ./results), s3:// or gs://"
    )
    parser.add_argument("--name", metavar="NAME", help="the sweep's name, below the storage (default: the recipe's)")
    parser.add_argument("--data", metavar="DIR", help="the dataset's folder, for a published dataset")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a field of the recipe; repeatable"
    )


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="HOST:PORT of a Ray cluster to join, or local for a new one (default: that of RAY_ADDRESS, or one that "
        "`ray start` has started here, else new)",
    )

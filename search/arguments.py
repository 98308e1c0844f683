"""The command line's words: the verbs, their options, their help."""

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mtl import __version__
from mtl.errors import BadInput
from mtl.vocabulary.close import did_you_mean

DESCRIPTION = "Search for the smallest multi-task vision model that does the job."
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
    _arg("model", metavar="MODEL", help="a trial's model.pt or folder, a compact.pt, or its export: .onnx or .pt2"),
    _arg("inputs", nargs="+", metavar="INPUT", help="photos, folders of photos, or videos"),
    NETWORK,
    _arg("--out", default="./predictions", metavar="DIR", help="where to write the files (default ./predictions)"),
    _arg("--overlay", action="store_true", help="also the segmentation's colours over the photo"),
    _arg("--strength", type=float, metavar="SHARE", help="of the colours in the overlay, 0 to 1 (default 0.5)"),
    _arg(
        "--raw", action="store_true", help="also the arrays, in a .npz: class numbers, metres, normals, probabilities"
    ),
    _arg("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to run (default: a GPU if it can)"),
    _arg("--batch-size", type=int, default=8, metavar="N", help="photos or frames at a time (default 8)"),
)
CHECK = (
    _arg("dir", nargs="?", metavar="DIR", help="the dataset's folder; left out for a generated dataset"),
    _arg("--dataset", metavar="NAME", help="a dataset, or my_module:MyDataset (default: recognised)"),
    _arg("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the dataset; repeatable"),
    _arg("--sheet", metavar="PNG", help="the contact sheet (default: ./NAME-contact-sheet.png)"),
    _arg("--seed", type=int, default=0, metavar="N", help="chooses the sheet's samples (default 0)"),
)
SPLIT = (
    _arg("dir", metavar="DIR", help="the folder of your data; the lists are written to DIR/splits"),
    _arg("--seed", type=int, default=0, metavar="N", help="another seed, other splits (default 0)"),
    _arg("--shares", default="0.7,0.15,0.15", metavar="A,B,C", help="of train, val and test (default 0.7,0.15,0.15)"),
    _arg("--images", default="images/*", metavar="PATTERN", help="the samples' files in DIR (default images/*)"),
    _arg("--by", metavar="REGEX", help="keeps samples together in whose ids it finds the same, such as '^[^/]+'"),
    _arg("--replace", action="store_true", help="write over other splits that are there"),
)
DATASETS: Commands = {
    "check": ("what a folder holds, each missing or broken file, and a contact sheet", CHECK),
    "split": ("divide your own data into train, val and test by a seed, in files", SPLIT),
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
            _arg(
                "--out",
                metavar="FOLDER",
                help="where to write (default: DIR/analysis; of several sweeps analysis-with-OTHERS in the first)",
            ),
            _arg(
                "--paper",
                action="store_true",
                help="also write each figure for a paper, as PDF and SVG of 3.3 in (a column) and 6.9 in (a page)",
            ),
        ],
    ),
    "status": (
        "what is done, running, failed, missing; time left",
        [
            _arg("dir", metavar="DIR", help="the sweep's folder or URL, STORAGE/NAME"),
            _arg("--watch", action="store_true", help="show it again every few seconds, until the run has ended"),
        ],
    ),
    "recipes": (
        "the recipes by name, or one recipe in full",
        [
            _arg("name", nargs="?", metavar="NAME", help="a recipe's name, or a recipe file"),
            _arg("--set", **SET, help="override a field"),
        ],
    ),
    "compact": ("a trial's model with its zero channels physically removed", COMPACT),
    "predict": ("a model's predictions for photos and videos, as pictures and arrays", PREDICT),
    "datasets": ("check a dataset's files; list the datasets and the cache", DATASETS),
    "completion": (
        "a script that completes this command in a shell",
        [_arg("shell", choices=["bash", "zsh", "tcsh"], metavar="SHELL", help="bash, zsh or tcsh")],
    ),
}
# Of each command, what it is mostly used for.
EXAMPLES: Mapping[str, Sequence[str]] = {
    "sweep": (
        "parsimony sweep rooms",
        "parsimony sweep rooms --dry-run --set combinations=single --set seeds=3",
        "parsimony sweep nyuv2 --data ~/NYUD_MT --storage s3://BUCKET/results",
    ),
    "search": (
        "parsimony search rooms --trials 40",
        "parsimony search rooms --budget-hours 2 --target 'model_macs<=5e6'",
    ),
    "train": (
        "parsimony train rooms --set combinations=segmentation+depth --set lambdas=0",
        "parsimony train rooms --set compressors=selection --set targets=0.25",
    ),
    "analyze": (
        "parsimony analyze results/rooms",
        "parsimony analyze results/rooms results/rooms-l1 --out results/both",
    ),
    "status": ("parsimony status results/rooms", "parsimony status s3://BUCKET/results/nyuv2 --watch"),
    "recipes": ("parsimony recipes", "parsimony recipes rooms > mine.toml"),
    "compact": ("parsimony compact results/rooms/trials/TRIAL_ID --export torch,onnx",),
    "predict": (
        "parsimony predict results/rooms/trials/TRIAL_ID/compact.pt photo.jpg --out predictions",
        "parsimony predict compact.onnx photos/ --overlay --raw",
        "parsimony predict compact.pt2 walk.mp4",
    ),
    "datasets": ("parsimony datasets list", "parsimony datasets check ~/NYUD_MT"),
    "check": ("parsimony datasets check ~/NYUD_MT", "parsimony datasets check data --dataset my_module:MyDataset"),
    "split": (
        "parsimony datasets split leaves --seed 1 --shares 0.8,0.1,0.1",
        "parsimony datasets split videos --images 'frames/**/*.png' --by '^[^/]+'",
    ),
    "completion": (
        "parsimony completion bash > ~/.local/share/bash-completion/completions/parsimony",
        "parsimony completion zsh > ~/.zfunc/_parsimony",
    ),
}
START = ("parsimony sweep rooms", "parsimony analyze results/rooms", "parsimony COMMAND --help")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[-1] if action.option_strings else action.metavar
            known = list(map(str, action.choices))
            raise BadInput(f"{name} {value!r}; {did_you_mean(str(value), known)}allowed: {', '.join(known)}")


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="parsimony", description=DESCRIPTION, **_with_examples(START))
    parser.add_argument("--version", action="version", version=f"parsimony {__version__}")
    _add_commands(parser, COMMANDS, "command")
    return parser


def _with_examples(examples: Sequence[str]) -> dict[str, Any]:
    """Arguments of a parser whose help ends with examples, a line each."""
    shown = "\n".join(f"  {example}" for example in examples)
    formatter = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)
    return {"epilog": f"examples:\n{shown}", "formatter_class": formatter} if shown else {}


def _add_commands(parser: argparse.ArgumentParser, commands: Commands, dest: str) -> None:
    adder = parser.add_subparsers(required=True, dest=dest, metavar="COMMAND", parser_class=_Parser)
    for name, (described, content) in commands.items():
        command = adder.add_parser(
            name, help=described, description=described, **_with_examples(EXAMPLES.get(name, ()))
        )
        if isinstance(content, Mapping):
            _add_commands(command, content, "action")
        else:
            for names, settings in content:
                command.add_argument(*names, **settings)

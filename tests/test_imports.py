"""Imports run one way: from the command line down to one trial, and from the report down to the files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room imports from its own, and from those below it. Rooms that stand together import nothing of one another.
SEARCH = (
    ("search.cli",),
    ("search.commands",),
    ("search.api", "search.arguments"),
    ("search.predicted",),
    ("search.tuning",),
    ("search.run", "search.forecast"),
    ("search.sweep_file",),
    ("search.sweep",),
    ("search.targets",),
    ("search.engine",),
    ("search.loggers", "search.progress", "search.best_so_far"),
    ("search.deltas", "search.display"),
    ("search.listener",),
    ("search.store", "search.early_stopping", "search.recipe_file"),
    ("search.recipe",),
)
ANALYSIS = (
    ("analysis.analyze",),
    ("analysis.write",),
    ("analysis.figures",),
    ("analysis.compute",),
    ("analysis.read",),
    ("analysis.pareto", "analysis.text", "analysis.files"),
)
LEVELS = {room: level for rooms in (SEARCH, ANALYSIS) for level, together in enumerate(rooms) for room in together}
# Of mtl, what a reader of a sweep's files may import too: none of it imports torch.
SHARED = ("mtl.errors", "mtl.vocabulary")
# What no module of a package imports, whether as it is imported or later.
FORBIDDEN = {
    "mtl": ("ray", "optuna", "search", "analysis"),
    "analysis": ("torch", "torchvision", "ray", "optuna", "mtl", "search"),
    "search": (),
}


def modules() -> list[str]:
    paths = [path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


def imported(module: str) -> Iterator[str]:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    return next((room for room in LEVELS if module == room or module.startswith(f"{room}.")), None)


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    own = room_of(module)
    package = module.partition(".")[0]
    assert own is not None or package == "mtl" or module.endswith("__init__"), f"{module} stands in no room"
    for name in imported(module):
        top = name.partition(".")[0]
        shared = name.startswith(SHARED)
        assert top not in FORBIDDEN[package] or shared, f"{module} imports {name}"
        other = room_of(name)
        if other is None or own is None or other == own:
            continue
        if package == "search" and top == "analysis":
            assert own in ("search.commands", "search.api"), f"{module} imports {name}"
        else:
            assert LEVELS[other] > LEVELS[own], f"{module} imports {name}"


def test_the_analysis_imports_no_torch() -> None:
    """Nor does what it shares with the training."""
    names = [name for name in modules() if name.startswith(("analysis", *SHARED)) and not name.endswith("__init__")]
    code = f"import {', '.join(names)}, sys; sys.exit(' '.join({{'torch', 'ray', 'optuna'}} & set(sys.modules)) or 0)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_each_verb_has_a_module_of_its_name() -> None:
    verbs = {"sweep", "search", "train", "analyze", "status", "compact", "predict", "recipes", "datasets"}
    found = {path.stem for path in (ROOT / "search" / "commands").glob("*.py")}
    assert verbs <= found
    for verb in verbs:
        tree = ast.parse((ROOT / "search" / "commands" / f"{verb}.py").read_text())
        assert "run" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

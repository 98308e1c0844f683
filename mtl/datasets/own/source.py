"""What the user's own code does, as far as its source tells: for the fingerprint of a dataset of the user's own.

Two sources that differ only in comments, docstrings, blank lines or formatting give the same; everything else counts,
the names of variables too, as what a change does to samples cannot be told without reading every one of them.
"""

import ast
import hashlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from mtl.own_code import is_own


def source_digests(modules: Sequence[str]) -> list[str]:
    """Hashes of what these imported modules do, and all modules of the user's that they import, in a fixed order.

    A module that is imported counts where it is the user's own: neither of Python, nor of parsimony, nor installed in
    a folder of packages. Imports inside functions do not count, nor those that are for type checkers or for a module
    that is run as a script: what they name may be absent on another machine, where the hashes have to be the same.
    Source that Python cannot parse counts by its bytes.

    Raises OSError, TypeError or KeyError where one of `modules` has no source that can be read.
    """
    waiting = {name: Path(inspect.getsourcefile(sys.modules[name]) or "") for name in modules}
    done: dict[str, str] = {}
    while waiting:
        name, path = next(iter(waiting.items()))
        del waiting[name]
        content = path.read_bytes()
        try:
            with warnings.catch_warnings():  # said as the module was imported
                warnings.simplefilter("ignore")
                tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError):
            done[name] = hashlib.sha256(content).hexdigest()
            continue
        done[name] = hashlib.sha256("\n".join(_meaning(tree)).encode(errors="surrogatepass")).hexdigest()
        for other in _imported(tree, name if path.name == "__init__.py" else name.rpartition(".")[0]):
            found = _find(other) if other not in done and other not in waiting else None
            if found is not None:
                waiting[other] = found
    return list(done.values())


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The full names of all that a module of `package` imports when it is imported, each after its packages."""
    for node in _run_on_import(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if node.level else []
            base = [*parents[: len(parents) - node.level + 1], *filter(None, [node.module])]
            # What is imported from a package may be a module of it.
            names = [".".join([*base, *name]) for name in ([], *([alias.name] for alias in node.names))]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1) if parts[0])


def _run_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _is_false_on_import(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            waiting += ast.iter_child_nodes(node)


def _is_false_on_import(test: ast.AST) -> bool:
    """Whether a condition is one of the usual two, `TYPE_CHECKING` and `__name__ == "__main__"`."""
    names = {getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(test)}
    return not names.isdisjoint({"TYPE_CHECKING", "__name__"})


def _find(name: str) -> Path | None:
    """The source file of a module of the user's own; None for any other. Imports nothing."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names:
        return None
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
        for part in rest:
            inside = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", list(inside)) if spec and inside is not None else None
    except (ImportError, ValueError):  # a module that was made by hand, say, and has no spec
        return None
    path = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    return path if path and path.suffix == ".py" and path.is_file() and is_own(str(path)) else None


def _meaning(tree: ast.AST) -> Iterator[str]:
    """The syntax tree in words, without docstrings, positions, and fields that are empty, which versions of Python add.

    Not recursive, as an expression of a thousand terms is a thousand levels deep. `ast.dump` is, and differs from
    version to version.
    """
    waiting: list[object] = [tree]
    while waiting:
        item = waiting.pop()
        match item:
            case _Word():
                yield item
            case ast.AST():
                yield f"{type(item).__name__}("
                waiting.append(_Word(")"))
                for field, value in reversed(list(ast.iter_fields(item))):
                    if value is not None and value != [] and not (isinstance(item, ast.Constant) and field == "kind"):
                        waiting += [value, _Word(f"{field}=")]
            case list():
                yield "["
                # A statement that is a constant, such as a docstring, does nothing.
                waiting += [_Word("]"), *(node for node in reversed(item) if not _is_constant_statement(node))]
            case int():  # in decimal digits a number of thousands is refused
                yield f"{type(item).__name__} {item:x}"
            case _:
                yield repr(item)


class _Word(str):
    """Text of ours in between, which no constant of the source's is taken for."""


def _is_constant_statement(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

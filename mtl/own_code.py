"""The user's own code: any error of it becomes one line that says what was called and where it went wrong."""

import inspect
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mtl.errors import BadInput

MOST_SHOWN = 200  # characters of an error or a value

_PACKAGE = Path(__file__).parents[1]
_NOT_OWN = tuple(
    {f"{_PACKAGE / name}/" for name in ("mtl", "search", "analysis")}
    | {f"{sysconfig.get_path(kind)}/" for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)
# Folders of installed packages, this environment's or the user's.
_PACKAGES = {"site-packages", "dist-packages"}


@contextmanager
def own_code(what: str, call: str, owner: object = None) -> Iterator[None]:
    """A context that raises every error as a BadInput, except for BadInput itself and interrupts:

        dataset leaves:Leaves: load('x') raised KeyError: 'oak' (leaves.py, line 34)

    what: whose code it is. call: the method and its argument. owner: its class or module, whose place is named where
    the error is at no line of the user's, as when a method takes other arguments.
    """
    try:
        yield
    except (BadInput, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # also SystemExit, which would end a sweep as if all were well
        place = line_of(error) or defined_at(owner, call.partition("(")[0])
        raise BadInput(f"{what}: {call} raised {describe(error)}{place}") from error


def describe(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    line = ""
    with suppress(Exception):  # an error of the user's may fail even to say what it is
        line = first_line(error)[:MOST_SHOWN]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def first_line(error: BaseException) -> str:
    """Of an error's message; empty where it has none."""
    return (str(error).splitlines() or [""])[0]


def shown(value: object) -> str:
    """A value that the user's code gave: itself where it is a number or text, else what kind it is."""
    if value is None or isinstance(value, bool | float | str):
        return repr(value)[:MOST_SHOWN]
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**20 else "an int of more than 20 digits"
    return f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"


def defined_at(owner: object, method: str) -> str:
    """Where a class defines a method, or else itself, such as " (leaves.py, line 34)"; "" where that is not known."""
    for thing in (inspect.getattr_static(owner, method, None), owner):
        # What has no source of its own raises the one or the other.
        with suppress(OSError, TypeError):
            target: Any = getattr(thing, "func", None) or getattr(thing, "fget", None) or thing
            path = inspect.getsourcefile(target)
            if path and not path.startswith(_NOT_OWN):
                return f" ({Path(path).name}, line {inspect.getsourcelines(target)[1]})"
    return ""


def is_own(path: str) -> bool:
    """Whether a source file is the user's: not of Python, of this package, or of any folder of installed packages."""
    return not path.startswith(_NOT_OWN) and not _PACKAGES & {*Path(path).parts}


def line_of(error: BaseException) -> str:
    """The innermost line of the user's that an error went through, such as " (leaves.py, line 34)"; "" for none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(path, line) for path, line in frames if not path.startswith((*_NOT_OWN, "<"))]
    return f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""

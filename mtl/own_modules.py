"""Modules of the user's own: where they are looked for, imported, and what of them goes to other machines."""

import importlib
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mtl.errors import BadInput
from mtl.network_fields import TIMM
from mtl.own_code import describe, line_of

# Folders that were added to where Python looks for modules, for the message about a module that is not found.
_module_folders: list[str] = []


def import_own(what: str, module_name: str) -> ModuleType:
    """A module of the user's; `what` asks for it. Raises BadInput, with the line, where it cannot be imported."""
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, of a script that was meant to be run
        places = "".join(f"{folder}, " for folder in _module_folders if folder in sys.path)
        raise BadInput(
            f"{what}: cannot import {module_name} ({describe(error)}){line_of(error)}; looked in {places}PYTHONPATH, "
            "and what is installed"
        ) from error


def add_module_folders(folders: Sequence[Path]) -> None:
    """Let modules in these folders be imported, after all that is installed."""
    for folder in dict.fromkeys(map(str, folders)):
        if folder not in sys.path:
            sys.path.append(folder)
        if folder not in _module_folders:
            _module_folders.append(folder)


def allowed_network(name: str | None) -> str | None:
    """The class of a network whose code a user allows to run, by --network; it may be in the current folder."""
    if name:
        add_module_folders([Path.cwd()])
    return name


def module_to_ship(name: str) -> Path | None:
    """The file or package of `my_module:MyClass`, for other machines to import; None where it is installed, and for a
    name of ours."""
    module_name, colon, _ = name.partition(":")
    if not colon or name.startswith(TIMM):
        return None
    top = importlib.import_module(module_name.partition(".")[0])
    installed = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    if top.__file__ is None or installed & {*Path(top.__file__).parents}:
        return None
    return Path(top.__file__).parent if hasattr(top, "__path__") else Path(top.__file__)

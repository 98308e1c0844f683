"""A backbone, or a whole multi-task model, of the user's own class: found, made, and its code identified."""

import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from mtl.config import TrialConfig, TrialSettings
from mtl.datasets.own.source import source_digests
from mtl.errors import BadInput
from mtl.own_code import is_own, own_code, shown
from mtl.own_modules import import_own
from mtl.tasks import Task


def own_class(settings: TrialSettings) -> type[nn.Module]:
    """The class that `backbone` or `model` names. Raises BadInput where there is none."""
    what, name = _what(settings), settings.network
    module_name, _, class_name = name.partition(":")
    module = import_own(what, module_name)
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not issubclass(found, nn.Module):
        there = [
            one for one, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module_name
        ]  # fmt: skip
        raise BadInput(
            f"{what}: {class_name} is not a torch.nn.Module there; {module_name} has: {', '.join(there) or 'none'}"
        )
    return found


def network_version(settings: TrialSettings) -> str:
    """16 hexadecimal digits of what the code of the user's network does; empty for a network of ours or timm's.

    That is the module of the class, those of its base classes and those of the user's that these import, all but
    comments, docstrings and formatting, see `mtl.datasets.own.source`. Raises BadInput.
    """
    if not settings.own_network:
        return ""
    found = own_class(settings)
    modules = [found.__module__]
    for base in found.__mro__[1:]:
        path = getattr(sys.modules.get(base.__module__), "__file__", None)
        if path and is_own(path) and base.__module__ not in modules:
            modules.append(base.__module__)
    try:
        digests = source_digests(modules)
    except (OSError, TypeError, KeyError) as error:
        raise BadInput(
            f"{_what(settings)}: the source code of {', '.join(modules)} cannot be read; allowed: a class in a file"
        ) from error
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


def make_own_backbone(settings: TrialSettings) -> nn.Module:
    """An instance of the class that `backbone` names. Raises BadInput."""
    made = _make(settings, [], {"image_size": settings.image_size})
    channels = getattr(made, "out_channels", None)
    if type(channels) is not int or channels < 1:
        raise BadInput(
            f"{_what(settings)}: its out_channels is {shown(channels)}; allowed: a whole number, the channels of the "
            "map that it gives"
        )
    return made


def make_own_model(settings: TrialSettings, tasks: Sequence[Task]) -> nn.Module:
    """An instance of the class that `model` names; its first argument is {name: Task}, in the trial's order."""
    return _make(settings, [{task.name: task for task in tasks}], {"image_size": settings.image_size})


def check_version(settings: TrialSettings) -> None:
    """Raise BadInput where the code here is another than that with which the trial was planned."""
    if isinstance(settings, TrialConfig) and (found := network_version(settings)) != settings.network_version:
        raise BadInput(
            f"{_what(settings)}: its code has version {found} here; allowed: {settings.network_version or 'none'}, "
            "that with which the trial was planned"
        )


def _make(settings: TrialSettings, arguments: Sequence[Any], offered: dict[str, Any]) -> nn.Module:
    """offered: keyword arguments that the class gets where its __init__ names them."""
    check_version(settings)
    what, kind = _what(settings), own_class(settings)
    given = {name: list(one) if isinstance(one, tuple) else one for name, one in settings.backbone_options.items()}
    with own_code(what, "__init__", kind):
        parameters = list(inspect.signature(kind).parameters.values())[len(arguments) :]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    for option in given:
        if option in offered or (option not in named and not takes_any):
            allowed = ", ".join(name for name in named if name not in offered) or "none"
            raise BadInput(f"backbone_options: {option!r}; allowed for {settings.network}: {allowed}")
    with own_code(what, "__init__", kind):
        made = kind(*arguments, **given, **{name: value for name, value in offered.items() if name in named})
    if not any(True for _ in made.parameters()):
        raise BadInput(f"{what}: has no parameters; allowed: a network that can be trained")
    return made


def _what(settings: TrialSettings) -> str:
    return f"{'model' if settings.model else 'backbone'} {settings.network}"

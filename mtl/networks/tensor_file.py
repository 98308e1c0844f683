"""Files that a user hands us, as torch.save wrote them: read without unpickling, and each tensor checked."""

import reprlib
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import BadInput


class _Short(reprlib.Repr):
    def repr_Tensor(self, x: Tensor, level: int) -> str:  # noqa: N802, as reprlib finds it by the type's name
        return "a tensor"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def read_tensors(what: str, path: Path | str, missing: str, unreadable: str) -> Any:
    """The content, on the CPU: tensors and plain data alone.

    what: begins the line, before the path; missing, unreadable: what is allowed instead of a file that cannot be
    opened, and instead of one that is damaged or would have to be unpickled. Raises BadInput, one line.
    """
    try:
        check_archive(path)
        with warnings.catch_warnings():  # about kinds of tensors that are refused later
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{what} {path}: {error.strerror or error}; allowed: {missing}") from error
    # Any error: torch, zip and the unpickler raise all kinds for a damaged file or one of another kind.
    except Exception as error:
        raise BadInput(
            f"{what} {path}: cannot be read with weights_only=True ({type(error).__name__}); allowed: {unreadable}"
        ) from error


def check_archive(path: Path | str) -> None:
    """Raise zipfile.BadZipFile where a zip file would unpack to more than its own size, which torch's own never do."""
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            size = file.seek(0, 2)
            with zipfile.ZipFile(file) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise zipfile.BadZipFile("larger unpacked")


def tensor_fault(value: Any, dtype: torch.dtype | None = None) -> str | None:
    """What keeps a value of a file from being weights, which are finite numbers one by one in memory; None if nothing.

    dtype: what it must hold; None: any floating-point or whole numbers.
    """
    if type(value) not in (Tensor, nn.Parameter):
        return f"is a {type(value).__name__}"
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_nested:
        return "is not a dense tensor"
    if value.is_complex() or value.dtype != (dtype or value.dtype):
        return f"holds {_name(value.dtype)}" + (f", not {_name(dtype)}" if dtype else "")
    # A few numbers in the file may stand for any number in memory.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "has fewer numbers in the file than its shape says"
    return None if value.isfinite().all() else "holds numbers that are not finite"


def misfit(wanted: Mapping[str, Tensor], state: Mapping[Any, Any], whose: str) -> str | None:
    """The first tensor of a state dict that is missing, not one of the network's, or of another shape; None for none.

    whose: what the wanted tensors are of, such as "model".
    """
    for name in [*wanted, *state]:
        if name not in state:
            return f"{name} is missing"
        if name not in wanted:
            return f"{unquoted(name)} is not a tensor of the {whose}"
        if isinstance(state[name], Tensor) and state[name].shape != wanted[name].shape:
            return f"{name} has shape {shown(tuple(state[name].shape))}, not {tuple(wanted[name].shape)}"
    return None


def load_state(model: nn.Module, state: Any, what: str, allowed: str) -> None:
    """Give a model that was made on the meta device a file's state dict; its other buffers are kept.

    what: how the line begins, allowed: how it ends, of the BadInput at the first tensor that does not fit, is of
    another type, or has numbers that are not finite.
    """
    if not isinstance(state, Mapping):
        raise BadInput(f"{what}: its weights are a {type(state).__name__}; allowed: {allowed}")
    wanted = model.state_dict()
    faults = (f"{name} {fault}" for name in wanted if (fault := tensor_fault(state[name], wanted[name].dtype)))
    if found := misfit(wanted, state, "model") or next(faults, None):
        raise BadInput(f"{what}: {found}; allowed: {allowed}")
    # Copies, as tensors of the file may share their memory.
    model.load_state_dict({name: state[name].detach().clone() for name in wanted}, assign=True)


def shown(value: Any) -> str:
    """Any value within a line: without line breaks, and shortened in breadth and depth."""
    return _SHORT.repr(value)


def unquoted(name: Any) -> str:
    """The same for what should be a name."""
    return shown(name).strip("'")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

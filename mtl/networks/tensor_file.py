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

    what: the file's part, which begins the line; missing, unreadable: what is allowed instead of a file that cannot be
    opened, and of one that is damaged or would have to be unpickled. Raises BadInput, one line.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings():  # of tensors of kinds that are refused below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{what} {path}: {error.strerror or error}; allowed: {missing}") from error
    # Whatever else: a file of another kind, or a damaged one, makes torch, zip and the unpickler raise any error.
    except Exception as error:
        raise BadInput(
            f"{what} {path}: cannot be read with weights_only=True ({type(error).__name__}); allowed: {unreadable}"
        ) from error


def _check_archive(path: Path | str) -> None:
    """Raise zipfile.BadZipFile where a zip file would unpack to more than its own size, which torch's own never do."""
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            size = file.seek(0, 2)
            with zipfile.ZipFile(file) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise zipfile.BadZipFile("larger unpacked")


def tensor_fault(value: Any, dtype: torch.dtype | None = None) -> str | None:
    """What keeps a value of a file from being weights: finite numbers that lie in memory one by one; None if nothing.

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


def load_state(model: nn.Module, state: Any, fault: str, allowed: str) -> None:
    """Give a model that was made on the meta device a file's state dict; its other buffers are kept.

    fault: how the line begins, allowed: how it ends, of the BadInput at the first tensor that is missing, one too many,
    of another shape or type, or has numbers that are not finite.
    """
    if not isinstance(state, Mapping):
        raise BadInput(f"{fault}: its weights are a {type(state).__name__}; allowed: {allowed}")
    wanted = model.state_dict()
    for name in [*wanted, *state]:
        if name not in state:
            found = f"{name} is missing"
        elif name not in wanted:
            found = f"{unquoted(name)} is none of the model's"
        elif isinstance(state[name], Tensor) and state[name].shape != wanted[name].shape:
            found = f"{name} has shape {_shape(state[name])}, not {_shape(wanted[name])}"
        elif reason := tensor_fault(state[name], wanted[name].dtype):
            found = f"{name} {reason}"
        else:
            continue
        raise BadInput(f"{fault}: {found}; allowed: {allowed}")
    # Copies: some of the file's may share their memory.
    model.load_state_dict({name: state[name].detach().clone() for name in wanted}, assign=True)


def shown(value: Any) -> str:
    """Anybody's value within a line: without line breaks, and shortened in breadth and depth."""
    return _SHORT.repr(value)


def unquoted(name: Any) -> str:
    """The same of what should be a name."""
    return shown(name).strip("'")


def _shape(tensor: Tensor) -> str:
    return shown(tuple(tensor.shape))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

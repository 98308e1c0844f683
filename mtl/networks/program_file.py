"""torch.export programs in .pt2 files: read as tensors and a list of known operations, and nothing of the file runs.

`torch.export.load` unpickles a file's example inputs and objects and evaluates texts in it as Python, so it is for
files that one trusts. Such a file also holds the program as JSON and its weights as raw numbers, which are what is read
here; its pickled parts are never opened.
"""

import json
import math
import operator
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.onnx_file import ABOUT, ALLOWED
from mtl.networks.tensor_file import check_archive, shown, tensor_fault
from mtl.own_code import first_line

# What the networks that `parsimony compact` takes are made of. None of these reads a file or makes its own tensors.
OPERATIONS = frozenset(
    (
        "_adaptive_avg_pool2d", "_upsample_nearest_exact2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
        "adaptive_max_pool2d", "add", "add_", "alias", "amax", "amin", "avg_pool2d", "batch_norm", "bmm", "cat",
        "celu", "celu_", "chunk", "clamp", "clamp_", "clamp_min", "clamp_min_", "clone", "constant_pad_nd",
        "contiguous", "conv1d", "conv2d", "conv_transpose2d", "detach", "detach_", "div", "div_", "dropout",
        "dropout_", "elu", "elu_", "exp", "expand", "feature_dropout", "flatten", "gather", "gelu", "gelu_",
        "glu", "group_norm", "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_", "hardtanh", "hardtanh_",
        "index_select", "layer_norm", "leaky_relu", "leaky_relu_", "linear", "log_sigmoid", "logsigmoid",
        "matmul", "max_pool2d", "mean", "mish", "mish_", "mul", "mul_", "narrow", "native_batch_norm",
        "native_group_norm", "native_layer_norm", "neg", "pad", "permute", "pixel_shuffle", "pow", "prelu",
        "reciprocal", "relu", "relu6", "relu6_", "relu_", "reshape", "rms_norm", "rsqrt", "rsub",
        "scaled_dot_product_attention", "select", "selu", "selu_", "sigmoid", "sigmoid_", "silu", "silu_",
        "slice", "softmax", "softplus", "split", "split_with_sizes", "sqrt", "squeeze", "squeeze_", "stack",
        "sub", "sub_", "sum", "sym_size", "t", "tanh", "tanh_", "transpose", "unbind", "unflatten", "unsqueeze",
        "unsqueeze_", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d", "view", "where",
    )
)  # fmt: skip
# What becomes of the number of images.
_ON_SIZES = {
    "_operator.add": operator.add,
    "_operator.sub": operator.sub,
    "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv,
}
# As torch's schema numbers them.
_DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 7: torch.float32}
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_POSITIONAL = 1
_LARGEST = 2**31  # of a whole number; more are sizes that no tensor has


class _Fault(Exception):
    """What is wrong with a file, as the middle of a line."""


class _Argument(Protocol):
    def __call__(self, values: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True)
class _Step:
    operation: Callable[..., Any]
    arguments: Sequence[_Argument]
    named: Mapping[str, _Argument]
    results: str | Sequence[str]
    unused_after: Sequence[str]


class Program(nn.Module):
    """(N, 3, H, W) images -> {output: tensor}, of the size that the file is for. `about`: what it says about itself.

    Raises BadInput, as it is made and as it is called, for a file that is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        try:
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                self._read(archive)
        except _Fault as fault:
            raise BadInput(f"model {path}: {fault}; allowed: {ALLOWED}") from fault
        # Damaged archives and JSON of other shapes raise all kinds of errors.
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise BadInput(
                f"model {path}: cannot be read as a torch.export program ({reason}); allowed: {ALLOWED}"
            ) from error

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        values: dict[str, Any] = {name: getattr(self, place) for name, place in self._places.items()}
        values[self._images] = images
        try:
            for step in self._steps:
                result = step.operation(
                    *(argument(values) for argument in step.arguments),
                    **{name: argument(values) for name, argument in step.named.items()},
                )
                if isinstance(step.results, str):
                    values[step.results] = result
                else:
                    values |= zip(step.results, result, strict=True)
                for name in step.unused_after:
                    values.pop(name, None)
            return {name: values[value] for name, value in self._outputs.items()}
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"model {self.path}: cannot be run ({first_line(error)}); allowed: {ALLOWED}") from error

    def _read(self, archive: zipfile.ZipFile) -> None:
        names = [name for name in archive.namelist() if name.endswith("/models/model.json")]
        if len(names) != 1:
            raise _Fault("is no torch.export program")
        root = names[0].removesuffix("models/model.json")
        self.about = _about(archive, root)
        program = json.loads(archive.read(names[0]))
        module = program["graph_module"]
        tensors = {
            **_tensors(archive, f"{root}data/weights/", "model_weights_config.json"),
            **_tensors(archive, f"{root}data/constants/", "model_constants_config.json"),
        }
        self._places: dict[str, str] = {}
        self._images = ""
        for spec in module["signature"]["input_specs"]:
            match spec:
                case {"user_input": {"arg": {"as_tensor": {"name": str(name)}}}} if not self._images:
                    self._images = name
                case (
                    {"parameter": {"arg": {"name": str(name)}, "parameter_name": str(whose)}}
                    | {"buffer": {"arg": {"name": str(name)}, "buffer_name": str(whose)}}
                    | {"tensor_constant": {"arg": {"name": str(name)}, "tensor_constant_name": str(whose)}}
                ):
                    place = f"tensor_{len(self._places)}"
                    self.register_buffer(place, tensors[whose])
                    self._places[name] = place
                case _:
                    raise _Fault(f"has an input {shown(spec)}")
        self._outputs = _outputs(module)
        self._steps = _steps(module["graph"]["nodes"], {*self._outputs.values()})


def _about(archive: zipfile.ZipFile, root: str) -> dict[str, Any]:
    if f"{root}extra/{ABOUT}" not in archive.namelist():
        raise _Fault("is a torch.export program that does not say what its tasks are")
    about = json.loads(archive.read(f"{root}extra/{ABOUT}"))
    if not isinstance(about, dict):
        raise _Fault("what it says about itself is damaged")
    return about


def _tensors(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, Tensor]:
    """The tensors of a folder of the archive by name, each as the raw numbers of a file and its shape and strides."""
    storages: dict[tuple[str, torch.dtype], Tensor] = {}
    tensors = {}
    for name, entry in json.loads(archive.read(folder + config))["config"].items():
        meta = entry["tensor_meta"]
        if entry["use_pickle"] or meta is None:
            raise _Fault(f"{shown(name)} would have to be unpickled")
        dtype = _DTYPES.get(meta["dtype"])
        if dtype is None or meta["device"]["type"] != "cpu":
            raise _Fault(f"{shown(name)} is not of float32 on the CPU")
        place = (str(entry["path_name"]), dtype)
        if place not in storages:
            content = bytearray(archive.read(folder + place[0]))
            storages[place] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        sizes, strides = ([_whole(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
        value = storages[place].as_strided(sizes, strides, _whole(meta["storage_offset"]["as_int"]))
        if fault := tensor_fault(value):
            raise _Fault(f"{shown(name)} {fault}")
        tensors[name] = value
    return tensors


def _outputs(module: Mapping[str, Any]) -> dict[str, str]:
    """What each output is called, and the value that it is."""
    values = []
    for spec in module["signature"]["output_specs"]:
        match spec:
            case {"user_output": {"arg": {"as_tensor": {"name": str(value)}}}}:
                values.append(value)
            case _:
                raise _Fault(f"has an output {shown(spec)}")
    (call,) = (call for call in module["module_call_graph"] if call["fqn"] == "")
    names = json.loads(json.loads(call["signature"]["out_spec"])[1]["context"])
    if not all(isinstance(name, str) for name in names) or len(names) != len(set(names)):
        raise _Fault("has outputs without names")
    return dict(zip(names, values, strict=True))


def _steps(nodes: Sequence[Mapping[str, Any]], kept: set[str]) -> list[_Step]:
    steps: list[_Step] = []
    needed = set(kept)
    # From the last to the first, so that a value may go once the last step that reads it has run.
    for node in reversed(nodes):
        reads: set[str] = set()
        results = [name for output in node["outputs"] for name in _result_names(output)]
        single = len(node["outputs"]) == 1 and "as_tensors" not in node["outputs"][0]
        arguments, named = [], {}
        for given in node["inputs"]:
            argument = _argument(given["arg"], reads)
            if given.get("kind") == _POSITIONAL:
                arguments.append(argument)
            else:
                named[str(given["name"])] = argument
        unused = sorted((reads | set(results)) - needed)
        needed |= reads
        steps.append(_Step(_operation(node["target"]), arguments, named, results[0] if single else results, unused))
    return steps[::-1]


def _operation(target: Any) -> Callable[..., Any]:
    """The operation that a text such as torch.ops.aten.conv2d.default names, of those that are known."""
    if isinstance(target, str) and target in _ON_SIZES:
        return partial(_on_sizes, _ON_SIZES[target])
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) != 5 or parts[:3] != ["torch", "ops", "aten"] or parts[3] not in OPERATIONS:
        raise _Fault(f"has an operation {shown(target)}, which is not run")
    packet = getattr(torch.ops.aten, parts[3], None)
    if packet is None or parts[4] not in packet.overloads():
        raise _Fault(f"has an operation {shown(target)}, which this torch does not have")
    operation: Callable[..., Any] = getattr(packet, parts[4])
    return operation


def _on_sizes(operation: Callable[[int, int], int], a: Any, b: Any) -> int:
    return _whole(operation(_whole(a), _whole(b)))


def _result_names(output: Any) -> list[str]:
    match output:
        case {"as_tensor": {"name": str(name)}} | {"as_sym_int": {"as_name": str(name)}}:
            return [name]
        case {"as_tensors": [*many]}:
            return [name for one in many for name in _result_names({"as_tensor": one})]
    raise _Fault(f"has a result {shown(output)}")


def _argument(given: Any, reads: set[str]) -> _Argument:
    """What gives an argument's value from those computed so far, whose names are added to `reads`."""

    def value_of(name: str) -> _Argument:
        reads.add(name)
        return lambda values: values[name]

    def constant(value: Any) -> _Argument:
        return lambda values: value

    def several(parts: Sequence[_Argument]) -> _Argument:
        return lambda values: [part(values) for part in parts]

    match given:
        case {"as_tensor": {"name": str(name)}} | {"as_sym_int": {"as_name": str(name)}}:
            return value_of(name)
        case {"as_int": value} | {"as_sym_int": {"as_int": value}}:
            return constant(_whole(value))
        case {"as_float": int() | float() as value} if math.isfinite(value):
            return constant(float(value))
        case {"as_bool": bool(value)} | {"as_string": str(value)}:
            return constant(value)
        case {"as_none": _}:
            return constant(None)
        case {"as_memory_format": int(value)} if value in _FORMATS:
            return constant(_FORMATS[value])
        case {"as_tensors": [*many]}:
            return several([_argument({"as_tensor": one}, reads) for one in many])
        case {"as_sym_ints": [*many]}:
            return several([_argument({"as_sym_int": one}, reads) for one in many])
        case {"as_ints": [*many]}:
            return constant([_whole(one) for one in many])
        case {"as_floats": [*many]}:
            return several([_argument({"as_float": one}, reads) for one in many])
    raise _Fault(f"has an argument {shown(given)}")


def _whole(value: Any) -> int:
    if type(value) is not int or (abs(value) > _LARGEST and value != 2**63 - 1):  # which stands for the end of a slice
        raise _Fault(f"has a number {shown(value)}")
    return value

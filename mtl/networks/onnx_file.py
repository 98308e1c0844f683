"""ONNX files that `mtl.networks.export` wrote, or may have written: checked, and run by onnxruntime."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl.errors import BadInput
from mtl.own_code import first_line

ABOUT = "parsimony"
ALLOWED = "one that `parsimony compact` wrote"


class OnnxModel:
    """(N, 3, H, W) images -> {output: float32 tensor}, on the CPU. `about`: what the file says about itself.

    Raises BadInput, as it is made and as it is called, for a file that is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.path = path
        content, self.about = _read(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised here, in one line
        # The bytes that were checked: a path would be read again, together with files that lie beside it. A fallback
        # would print that it tries the same provider again.
        session = partial(onnxruntime.InferenceSession, providers=["CPUExecutionProvider"], enable_fallback=0)
        with _faults_of(path, "read as ONNX"):
            self._session = session(content, options)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        with _faults_of(self.path, "run"):
            values = self._session.run(self._names, {"images": images.contiguous().numpy()})
        for name, value in zip(self._names, values, strict=True):
            if not isinstance(value, np.ndarray) or value.dtype != np.float32:
                kind = getattr(value, "dtype", type(value).__name__)
                raise BadInput(f"model {self.path}: its output {name[:80]!r} is of {kind}; allowed: float32")
        return {name: torch.from_numpy(value) for name, value in zip(self._names, values, strict=True)}


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes, once they are known to be a network of plain operations in one file, and its metadata."""
    import onnx

    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"model {path}: {error.strerror or error}; allowed: {ALLOWED}") from error
    with _faults_of(path, "read as ONNX"):
        model = onnx.load_model_from_string(content)
    if fault := _fault(onnx, model):
        raise BadInput(f"model {path}: an ONNX file with {fault}; allowed: {ALLOWED}")
    texts = [entry.value for entry in model.metadata_props if entry.key == ABOUT]
    if len(texts) != 1:
        raise BadInput(f"model {path}: an ONNX file of another kind; allowed: {ALLOWED}")
    try:
        about = json.loads(texts[0])
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise BadInput(f"model {path}: what it says about itself is damaged; allowed: {ALLOWED}")
    return content, about


def _fault(onnx: Any, model: Any) -> str | None:
    """What our own files never have: parts in other files, and operations that the file defines or that run others."""
    graph = model.graph
    if model.functions or any(imported.domain not in ("", "ai.onnx") for imported in model.opset_import):
        return "operations of its own"
    tensors = [*graph.initializer]
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            return "operations of its own"
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                return f"an operation {node.op_type[:80]!r} that runs others"
            tensors += [attribute.t, *attribute.tensors]
    outside = onnx.TensorProto.EXTERNAL
    if graph.sparse_initializer or any(t.data_location == outside or t.external_data for t in tensors):
        return "weights in another file"
    return None


@contextmanager
def _faults_of(path: Path, what: str) -> Iterator[None]:
    """Raise BadInput for any error, as onnxruntime and protobuf have kinds of their own for each fault."""
    try:
        yield
    except Exception as error:
        raise BadInput(f"model {path}: cannot be {what} ({first_line(error)}); allowed: {ALLOWED}") from error

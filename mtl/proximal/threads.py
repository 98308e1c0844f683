"""Functions in C on the threads that torch's own operators run on."""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from mtl.proximal.compiler import CannotCompile, load_library

# Of C: what each thread runs with the job that all of them share.
Run = Callable[[ctypes.Structure, int], None]


@cache
def _parallel() -> Callable[..., None]:
    """GOMP_parallel. Raises CannotCompile where torch is linked with something else."""
    try:
        # Looked up in torch's library, this is the OpenMP that torch itself was linked with. A second OpenMP would
        # have its own threads, which would wait in a busy loop beside torch's.
        torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        function = torch_cpu.GOMP_parallel
    except (OSError, AttributeError) as error:
        raise CannotCompile(f"torch's OpenMP is not to be found: {error}") from error
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function


def load_threaded(source: Path, name: str) -> Run:
    """The function of a C source, to be called with a job and how many threads shall run it. Raises CannotCompile."""
    function = ctypes.cast(getattr(load_library(source), name), ctypes.c_void_p)
    parallel = _parallel()

    def run(job: ctypes.Structure, threads: int) -> None:
        parallel(function, ctypes.byref(job), threads, 0)

    return run


def turned_off() -> str | None:
    """Why no compiled function is to be used; None where they may be."""
    return "PARSIMONY_KERNELS=0" if os.environ.get("PARSIMONY_KERNELS") == "0" else None

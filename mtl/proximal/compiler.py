"""A C source compiled by the system's compiler, once for all processes of a machine."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from mtl.cache_root import default_cache_root

COMPILERS = ("cc", "gcc", "clang")
# IEEE arithmetic but for two liberties: errno is not set, and floating-point traps are not in use.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing")
# What torch's own operators do without, by the variable that tells them; the kernel then does without it too.
WITHOUT = {"avx2": ("-mno-avx512f",), "default": ("-mno-avx512f", "-mno-avx")}
COMPILE_SECONDS = 60


class CannotCompile(Exception):
    """No compiler, one that fails, or a cache that cannot be written; the message says which."""


def load_library(source: Path) -> ctypes.CDLL:
    """The compiled source, from CACHE_ROOT/kernels/NAME-HASH.so if it is there; see `mtl.cache_root` for the root.

    The hash covers the source, the headers beside it, the flags, the compiler and the processor. Where processes start
    together, one compiles and the others wait for it. ATEN_CPU_CAPABILITY counts as it does for torch. Raises
    CannotCompile.
    """
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise CannotCompile(f"none of the compilers {', '.join(COMPILERS)} is installed")
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, timeout=COMPILE_SECONDS, check=True
        )
        flags = _flags()
        headers = [path.read_text() for path in sorted(source.parent.glob("*.h"))]
        key = "\0".join([source.read_text(), *headers, *flags, compiler, version.stdout, _processor()])
        folder = default_cache_root() / "kernels"
        library = folder / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # The operating system frees this lock when its process ends, however it ends.
            with FileLock(f"{library}.lock"):
                if not library.exists():
                    _compile(compiler, flags, source, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotCompile(f"{source.name}: {error}") from error


def _flags() -> tuple[str, ...]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return FLAGS
    return FLAGS + WITHOUT.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), ())


def _compile(compiler: str, flags: tuple[str, ...], source: Path, library: Path) -> None:
    """Write `library` under another name and rename it, so that it is never there in part; needs the lock."""
    unfinished = library.with_suffix(".tmp")
    command = [compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(unfinished), "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    if result.returncode:
        raise CannotCompile(f"{' '.join(command)}: {result.stderr.strip() or result.returncode}")
    unfinished.rename(library)


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)} | {platform.machine()}))

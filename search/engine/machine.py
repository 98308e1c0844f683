"""What this machine is: its processor, memory and GPUs, and the software that a trial's numbers depend on."""

import contextlib
import functools
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from mtl.limits import machine_memory
from mtl.vocabulary.sweep_file import Machine
from search.store.results import torch_version

GB = 10**9
CPU_INFO = Path("/proc/cpuinfo")
ANSWER_SECONDS = 10
# Tells of every GPU of the machine; torch tells only of those that this process may use.
NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
MIB = 2**20


@functools.cache
def this_machine() -> Machine:
    """Asked once: it does not change while a process runs."""
    found = gpus()
    memory = machine_memory(with_swap=False)
    return Machine(
        cpu=_line(_cpu()),
        cores=_cores(),
        memory_gb=round(memory / GB) if memory else 0,
        gpus=tuple(_line(name) for name, _ in found),
        gpu_memory_gb=tuple(round(size / GB) for _, size in found),
        system=_line(_system()),
        python=platform.python_version(),
        torch=torch_version(),
    )


def gpus() -> list[tuple[str, int]]:
    """The model and the bytes of memory of each GPU of this machine."""
    if shutil.which(NVIDIA[0]):
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            said = subprocess.run(NVIDIA, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
            rows = [line.rpartition(",") for line in said.splitlines() if line.strip()]
            return [(name.strip(), int(size) * MIB) for name, _, size in rows]
    # Imported here: only a trial, which needs torch anyway, gets this far.
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    known = [torch.cuda.get_device_properties(one) for one in devices]
    return [(one.name, one.total_memory) for one in known]


def _cpu() -> str:
    """The processor's model; where the system does not say, its kind, such as aarch64."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(errors="replace"), re.MULTILINE):
            return match[1]
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ("sysctl", "-n", "machdep.cpu.brand_string")
            said = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
            if said.strip():
                return said.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """As many as this process may use: a container or a batch system may give it only some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _system() -> str:
    """Such as Debian GNU/Linux 12 (bookworm)."""
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{platform.system()} {platform.release()}"


def _line(text: str) -> str:
    """As sweep.json holds it."""
    return "".join(one for one in text if one.isprintable()).strip()[:200]

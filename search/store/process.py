"""Identifies this process, and tells whether another process still lives."""

import contextlib
import functools
import hashlib
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

LARGEST_PID = 2**31 - 1


@dataclass(frozen=True)
class ProcessId:
    """A process; later processes with the same pid differ. `machine` is one boot of one machine or container."""

    machine: str
    pid: int
    born: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.born}"

    @classmethod
    def parse(cls, text: str) -> "ProcessId":
        """The inverse of `str`. Raises ValueError."""
        machine, pid, born = text.split("-")
        if not 0 < int(pid) <= LARGEST_PID:
            raise ValueError(f"{pid} is not a pid")
        return cls(machine, int(pid), int(born))

    @classmethod
    def own(cls) -> "ProcessId":
        return cls(_machine(), os.getpid(), _born(os.getpid()))

    def lives(self) -> bool | None:
        """None if the process belongs to another machine, so that this cannot be seen."""
        if self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _born(self.pid) == self.born


@functools.cache
def _machine() -> str:
    """Containers count as machines: they do not see each other's processes, because each has its own namespace."""
    try:
        seen = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        seen = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(seen.encode()).hexdigest()[:12]


def _born(pid: int) -> int:
    """When the process started, in kernel ticks; 0 if the system has no /proc, or for a zombie."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] == "Z" else int(fields[19])
    return 0

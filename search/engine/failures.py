"""Why a trial's process died, in a line and at length, and which deaths are the trial's own.

A death on a machine that is lost is no fault of the trial.
"""

import re
import signal
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.worker import global_worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

# Of Ray's ActorDiedError. It knows preemption too, but no cloud that `ray up` starts machines on announces that to Ray.
NODE_DIED = "its node has died"
LOG_BYTES = 2**16
# Another machine needs a process to read the log with, which takes seconds to start.
LOG_SECONDS = 60.0

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Of Ray's messages. What is not recognised is told as far as it can be.
NO_MEMORY = re.compile("killed due to the node running low on memory")
EXIT_STATUS = re.compile(r"exits with an exit code (\d+)\.(.*receives a SIGTERM)?")
NO_START = re.compile(r"error raised in its creation task|set up runtime environment")
PROCESS = re.compile(r"^\s*pid: (\d+)$.*?^\s*ip: (\S+)$", re.MULTILINE | re.DOTALL)
# Of what Ray's handler of fatal signals writes into the process's log.
FATAL_SIGNAL = re.compile(r"^\*\*\* (SIG[A-Z]+) received", re.MULTILINE)
# The last line of a traceback; the module's name goes.
EXCEPTION = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Exit|Interrupt|Failed)\b.*)$")

ReadLog = Callable[[int, str], str | None]


@dataclass(frozen=True)
class Death:
    """`line` says what happened; `text` has all that is known, in lines."""

    line: str
    text: str


def read_log(pid: int, ip: str) -> str | None:
    """The end of what a process of Ray's on the machine with this address has written to its standard error.

    None where it cannot be had: the machine is gone or does not answer.
    """
    if ip == ray.util.get_node_ip_address():
        return _read_log_here(pid)
    node = next((one["NodeID"] for one in ray.nodes() if one["Alive"] and one["NodeManagerAddress"] == ip), None)
    if node is None:
        return None
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(_read_log_here).options(num_cpus=0, scheduling_strategy=there).remote(pid)
    try:
        return ray.get(task, timeout=LOG_SECONDS)
    except ray.exceptions.RayError:
        return None


def _read_log_here(pid: int) -> str | None:
    """As `read_log`, of this machine."""
    node = global_worker.node
    files = list(Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err")) if node else []
    if not files:
        return None
    newest = max(files, key=lambda file: file.stat().st_mtime)  # a machine uses its pids again
    return newest.read_bytes()[-LOG_BYTES:].decode(errors="replace")


def explain(error: str, read: ReadLog = read_log) -> Death:
    """What Ray's message and the process's log say. Nothing is guessed: where they do not say it, nor does the line."""
    error = COLOUR.sub("", error)
    if NODE_DIED in error:
        return Death("its machine was lost", error)
    if NO_MEMORY.search(error):
        return Death("its process was ended by Ray as the machine's memory ran out", error)
    if NO_START.search(error):
        return Death(f"its process could not start: {_last_exception(error)}", error)
    if found := EXIT_STATUS.search(error):
        status = "signal 15 (terminated)" if found[2] else f"exit status {found[1]}"
        return Death(f"its process ended with {status}", error)
    if not (process := PROCESS.search(error)):
        return Death(_last_exception(error), error)
    log = read(int(process[1]), process[2])
    if log is None:
        return Death("its process died, and what it wrote last cannot be read", error)
    text = f"{error}\n\nThe process's own log ends with:\n{log}"
    if signals := FATAL_SIGNAL.findall(log):
        number = signal.Signals[signals[-1]]
        name = (signal.strsignal(number) or number.name).lower()
        return Death(f"its process ended with signal {int(number)} ({name})", text)
    return Death("its process ended without a word, as when the system kills it (signal 9) for want of memory", text)


def _last_exception(error: str) -> str:
    """What was raised, where the message is a traceback; else the message's last line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    raised = [found[1] for line in lines if (found := EXCEPTION.match(line))]
    return (raised or lines or ["its process died"])[-1]


def living_nodes() -> set[str]:
    """Ids of the cluster's nodes that run."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


class Deaths:
    """Counts each trial's own deaths. A machine that shuts down may end its processes seconds before it is missed, so
    whether a death was the machine's is asked anew each time, for the earlier ones as well."""

    def __init__(self, living: Callable[[], set[str]] = living_nodes) -> None:
        self._living = living
        self._where: dict[str, str] = {}
        self._nodes: dict[str, list[str | None]] = defaultdict(list)

    def runs_on(self, trial_id: str, node_id: str) -> None:
        """The trial has been seen at work there."""
        self._where[trial_id] = node_id

    def died(self, trial_id: str, error: str) -> int:
        """Note a death of the trial's process, with what Ray says of it; returns how many have been the trial's own."""
        node = self._where.pop(trial_id, None)
        if NODE_DIED not in error:
            self._nodes[trial_id].append(node)
        living = self._living()
        return sum(node is None or node in living for node in self._nodes[trial_id])

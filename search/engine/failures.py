"""Why a trial's process died, in one line and in detail; and how often it died by its own fault.

The loss of a machine is not the fault of its trials, nor that of the connection to it.
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

# Part of the message of Ray's ActorDiedError. Ray has a message for preemption too, but no cloud of `ray up` causes it.
NODE_DIED = "its node has died"
# Of its ActorUnavailableError: a machine that is lost may first not answer, and an overloaded one answers too late.
UNREACHABLE = re.compile(r"The actor \w+ is unavailable")
LOG_BYTES = 2**16
# On another machine a process must be started to read the log, which takes seconds.
LOG_SECONDS = 60.0

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Parts of Ray's messages.
NO_MEMORY = re.compile("killed due to the node running low on memory")
EXIT_STATUS = re.compile(r"exits with an exit code (\d+)\.(.*receives a SIGTERM)?")
NO_START = re.compile(r"error raised in its creation task|set up runtime environment")
PROCESS = re.compile(r"^\s*pid: (\d+)$.*?^\s*ip: (\S+)$", re.MULTILINE | re.DOTALL)
# Ray's handler of fatal signals writes this into the process's log.
FATAL_SIGNAL = re.compile(r"^\*\*\* (SIG[A-Z]+) received", re.MULTILINE)
# The last line of a traceback, from which the module's name is cut.
EXCEPTION = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Exit|Interrupt|Failed)\b.*)$")

ReadLog = Callable[[int, str], str | None]


@dataclass(frozen=True)
class Death:
    """What happened: `line` in one line, `text` with all details."""

    line: str
    text: str


def read_log(pid: int, ip: str) -> str | None:
    """The end of the standard error of a Ray process on the machine with this address; None if it cannot be read."""
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
    """`read_log` for this machine."""
    node = global_worker.node
    files = list(Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err")) if node else []
    if not files:
        return None
    newest = max(files, key=lambda file: file.stat().st_mtime)  # a machine uses its pids again
    return newest.read_bytes()[-LOG_BYTES:].decode(errors="replace")


def explain(error: str, read: ReadLog = read_log) -> Death:
    """What Ray's message and the process's log say about a death; the cause is never guessed."""
    error = COLOUR.sub("", error)
    if NODE_DIED in error:
        return Death("its machine was lost", error)
    if UNREACHABLE.search(error):
        return Death("its machine could not be reached", error)
    if NO_MEMORY.search(error):
        return Death("Ray ended its process because the machine's memory ran out", error)
    if NO_START.search(error):
        return Death(f"its process could not start: {_last_exception(error)}", error)
    if found := EXIT_STATUS.search(error):
        status = "signal 15 (terminated)" if found[2] else f"exit status {found[1]}"
        return Death(f"its process ended with {status}", error)
    if not (process := PROCESS.search(error)):
        return Death(_last_exception(error), error)
    log = read(int(process[1]), process[2])
    if log is None:
        return Death("its process died, and its log cannot be read", error)
    text = f"{error}\n\nThe process's own log ends with:\n{log}"
    if signals := FATAL_SIGNAL.findall(log):
        number = signal.Signals[signals[-1]]
        name = (signal.strsignal(number) or number.name).lower()
        return Death(f"its process ended with signal {int(number)} ({name})", text)
    return Death("its process ended without a message, as if the system had killed it (signal 9) to free memory", text)


def _last_exception(error: str) -> str:
    """The exception if the message is a traceback, else the message's last line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    raised = [found[1] for line in lines if (found := EXCEPTION.match(line))]
    return (raised or lines or ["its process died"])[-1]


def living_nodes() -> set[str]:
    """Ids of the cluster's running nodes."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


class Deaths:
    """Counts how often each trial's process died by its own fault.

    A machine that shuts down may end its processes seconds before the cluster notices. So each count checks again
    whether the machines of the earlier deaths still run.
    """

    def __init__(self, living: Callable[[], set[str]] = living_nodes) -> None:
        self._living = living
        self._where: dict[str, str] = {}
        self._nodes: dict[str, list[str | None]] = defaultdict(list)

    def runs_on(self, trial_id: str, node_id: str) -> None:
        """Note the node on which the trial runs."""
        self._where[trial_id] = node_id

    def died(self, trial_id: str, error: str) -> int:
        """Note a death, with Ray's message about it; returns how many deaths were the trial's own fault."""
        node = self._where.pop(trial_id, None)
        if NODE_DIED not in error and not UNREACHABLE.search(COLOUR.sub("", error)):
            self._nodes[trial_id].append(node)
        living = self._living()
        return sum(node is None or node in living for node in self._nodes[trial_id])

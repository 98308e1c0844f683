"""Why a trial's process died, in one line; causes are never guessed."""

import pytest

from search.engine.failures import explain

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tactor_id: 4b04e66a74fd13c9a686129301000000
\tpid: 8368
\tnamespace: 507d6c0e-f75b-40ad-8fb5-112e68c421aa
\tip: 192.0.2.2
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: """
NO_WORD = """Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) \
the process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker \
crashed unexpectedly due to SIGSEGV or another unexpected error."""
CREATION = """The actor died because of an error raised in its creation task, \x1b[36mray::A.__init__()\x1b[39m (pid=1)
  File "a.py", line 8, in setup
    from search.engine.trial import TrialRun
ModuleNotFoundError: No module named 'torch'"""
STEP = """ray.exceptions.RayTaskError(TrialFailed): ray::A.step() (pid=14368, ip=192.0.2.2)
  File "a.py", line 17, in step
    raise TrialFailed("no such thing")
mtl.errors.TrialFailed: no such thing"""
ENVIRONMENT = """Failed to set up runtime environment.
Could not create the actor because its associated runtime env failed to be created.
Traceback (most recent call last):
  File "packaging.py", line 957, in download_and_unpack_package
OSError: Failed to download runtime_env file package from the GCS to the Ray worker node.
"""
MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node was 22.9GB used
OOM kill reason: Memory usage exceeded threshold of 22.3GB"""
SEGMENTATION = """a line of the trial's own
*** SIGSEGV received at time=1795277361 on cpu 1 ***
PC: @     0x7f9cafa5a267  (unknown)  kill
Fatal Python error: Segmentation fault
"""
ABORTED = """double free or corruption (out)
*** SIGABRT received at time=1795277361 on cpu 1 ***
Fatal Python error: Aborted
"""


@pytest.mark.parametrize(
    ("error", "log", "line"),
    [
        (DIED + NO_WORD, SEGMENTATION, "its process ended with signal 11 (segmentation fault)"),
        (DIED + NO_WORD, ABORTED, "its process ended with signal 6 (aborted)"),
        (
            DIED + NO_WORD,
            "*** of the trial's own\n",
            "its process ended without a message, as if the system had killed it (signal 9) to free memory",
        ),
        (DIED + NO_WORD, None, "its process died, and its log cannot be read"),
        (DIED + "Worker exits with an exit code 4.", "", "its process ended with exit status 4"),
        (
            DIED + "Worker exits with an exit code 1. The process receives a SIGTERM.",
            "",
            "its process ended with signal 15 (terminated)",
        ),
        (CREATION, None, "its process could not start: ModuleNotFoundError: No module named 'torch'"),
        (
            ENVIRONMENT,
            None,
            "its process could not start: OSError: Failed to download runtime_env file package from the GCS to the Ray "
            "worker node.",
        ),
        (MEMORY, None, "Ray ended its process because the machine's memory ran out"),
        (STEP, None, "TrialFailed: no such thing"),
        ("The actor died because its node has died. Node Id: 2b", None, "its machine was lost"),
        (
            "The actor ab6f is unavailable: The actor is temporarily unavailable: RpcError: keepalive watchdog "
            "timeout rpc_code: 14. The task may or may not have been executed on the actor.",
            None,
            "its machine could not be reached",
        ),
        ("", None, "its process died"),
    ],
)
def test_one_line(error: str, log: str | None, line: str) -> None:
    asked: list[tuple[int, str]] = []

    def read(pid: int, ip: str) -> str | None:
        asked.append((pid, ip))
        return log

    death = explain(error, read)
    assert death.line == line
    assert set(asked) <= {(8368, "192.0.2.2")}
    assert (log or "") in death.text or not asked
    assert "\x1b" not in death.text

"""The Ray cluster that a sweep runs on: it joins one, or starts one on this machine."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by ray as it is imported

import ray
from ray._private import worker as ray_worker
from ray._private.utils import read_ray_address

from mtl.errors import BadInput
from search.engine import ray_probe
from search.store.messages import say

# Results and checkpoints go to our own store; Ray's object store carries only small messages.
OBJECT_STORE_BYTES = 100 * 1024**2
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 10  # a cluster that can be reached answers within milliseconds
HOST_PORT = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)
TOKEN_MODE = "RAY_AUTH_MODE"


def start_ray(
    address: str | None, cpus_per_trial: int, gpus_per_trial: float, own_modules: Sequence[Path] | None
) -> str | None:
    """Join the Ray cluster at `address`, or start one on this machine if it is "local". Without an address, join the
    cluster that RAY_ADDRESS names, or the one that `ray start` has started on this machine, or start one. A cluster
    that another sweep has started is never joined: it ends with that sweep.

    own_modules: Python files and packages that trials import and that are not installed; Ray copies them to every
        node.
    Returns the address of the cluster's dashboard, if it has one. Raises BadInput if no cluster answers at `address`,
    or if one trial needs more than this machine has.
    """
    # `search.engine.failures` explains in one line why a trial's process died. Ray's own messages about it cannot be
    # switched off by any public setting: `log_to_driver` leaves them on.
    ray_worker._worker_logs_enabled = False
    named = os.environ.get("RAY_ADDRESS") if address in (None, "auto") else None
    asked = named or address or "auto"
    said = f"{'RAY_ADDRESS' if named else '--address'} {asked if asked.isprintable() else repr(asked)}"
    if asked == "auto":
        found = read_ray_address()
        if found and _answers_here(found):
            return _join(f"the Ray cluster of this machine, {found}", None, cpus_per_trial, gpus_per_trial, own_modules)
        if address == "auto":
            raise BadInput("--address auto: no Ray cluster runs on this machine; leave it out to start one")
    elif asked != "local":
        _check_answers(said, asked)
        return _join(said, asked, cpus_per_trial, gpus_per_trial, own_modules)
    # This is known at once. Ray tells what it may use of the machine, for instance in a container, only once it runs.
    _check_fits({"CPU": os.cpu_count() or cpus_per_trial, "GPU": gpus_per_trial}, cpus_per_trial, gpus_per_trial)
    ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **_settings(own_modules))
    try:
        _check_fits(ray.cluster_resources(), cpus_per_trial, gpus_per_trial)
    except BadInput:
        ray.shutdown()
        raise
    return None


def stop_ray() -> None:
    """Leave the cluster, or end it if it was started here."""
    ray.shutdown()


def _settings(own_modules: Sequence[Path] | None) -> dict[str, Any]:
    """For one `ray.init`, which changes the runtime_env that it is given."""
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    return settings | {"runtime_env": {"py_modules": [*map(str, own_modules)]}} if own_modules else settings


def _join(said: str, address: str | None, cpus: int, gpus: float, own_modules: Sequence[Path] | None) -> str | None:
    """Join a cluster that answers; without an address, the one that Ray finds on this machine. Returns its dashboard's
    address."""
    try:
        context = ray.init(address=address, **_settings(own_modules))
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise BadInput(f"{said}: this machine cannot join it ({str(error).splitlines()[0]})") from error
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(one.get("CPU", 0) >= cpus and one.get("GPU", 0) >= gpus for one in machines):
        # Not an error: the cluster's autoscaler may start one.
        needs = f"cpus_per_trial = {cpus}, gpus_per_trial = {gpus:g}"
        say(f"no machine of the Ray cluster has {needs}: trials wait for one")
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None


def _check_fits(have: dict[str, float], cpus: int, gpus: float) -> None:
    """Raise BadInput if one trial needs more than this machine has."""
    for field, wanted, kind in (("cpus_per_trial", cpus, "CPU"), ("gpus_per_trial", gpus, "GPU")):
        if wanted > have.get(kind, 0):
            raise BadInput(f"{field} = {wanted}; allowed: at most the {have.get(kind, 0):g} {kind}s of this machine")


def _check_answers(said: str, address: str) -> None:
    """Raise BadInput if no Ray cluster answers at HOST:PORT."""
    if "://" in address:
        raise BadInput(
            f"{said}: allowed: HOST:PORT of the head, on a machine of the cluster; from elsewhere use `ray job submit`"
        )
    match = HOST_PORT.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise BadInput(f"{said}: no Ray cluster can be there; allowed: HOST:PORT of a cluster's head, auto or local")
    code, reason = _probe(match)
    if code == ray_probe.WANTS_TOKEN:
        raise BadInput(f"{said}: this Ray cluster needs another token; allowed: its own, with {TOKEN_MODE}=token")
    if code != ray_probe.SPEAKS:
        raise BadInput(f"{said}: no Ray cluster answers there ({reason})")


def _answers_here(address: str) -> bool:
    """Whether the cluster that `ray start` has started on this machine is still there, and accepts us."""
    match = HOST_PORT.fullmatch(address)
    if match is None:
        return False
    code, _ = _probe(match)
    if code == ray_probe.WANTS_TOKEN and TOKEN_MODE not in os.environ:
        code, _ = _probe(match, {TOKEN_MODE: "token"})  # ray.init does the same for such a cluster
    return code == ray_probe.SPEAKS


def _probe(address: re.Match[str], more: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status of `search.engine.ray_probe` for HOST:PORT, with `more` in its environment, and the reason if it
    is not SPEAKS."""
    try:  # first without another process: if nothing listens there, this shows at once
        socket.create_connection((address[1].strip("[]"), int(address[2])), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return ray_probe.SILENT, str(error.strerror or error)
    # -P: import no module from the current folder.
    command = [sys.executable, "-P", "-m", ray_probe.__name__, address[0], str(ANSWER_SECONDS)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    done = subprocess.run(command, env=os.environ | (more or {}), text=True, check=False, **pipes)
    silent = f"what listens there does not answer as Ray does within {ANSWER_SECONDS} s"
    return done.returncode, done.stdout.strip() or silent

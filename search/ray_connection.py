"""The Ray cluster that a sweep runs on: one that is there, or one started here."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by ray as it is imported

import ray

from mtl.errors import BadInput

# Results and checkpoints go to our own store; Ray's object store carries nothing but small messages.
OBJECT_STORE_BYTES = 100 * 1024**2
CONNECT_SECONDS = 10.0
# A resource of the clusters that are started here, so that no other sweep joins one, to be ended with it.
PRIVATE = "parsimony_private"


def start_ray(address: str | None, cpus_per_trial: int, gpus_per_trial: float, own_module: Path | None) -> str | None:
    """Join the cluster at `address`, by default one that runs on this machine, or start one here, as "local" asks for.

    own_module: a Python file or package that trials import and that is not installed; every node gets a copy.
    Returns the address of the cluster's dashboard, where it has one. Raises BadInput where no cluster answers at
    `address`, or where one trial needs more than this machine has.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own_module is not None:
        quiet["runtime_env"] = {"py_modules": [str(own_module)]}
    if address not in (None, "auto", "local"):
        try:
            _check_listens(address)
            return _dashboard(ray.init(address=address, **quiet))
        except (OSError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"--address {address}: no Ray cluster answers there ({str(error).splitlines()[0]})"
            ) from error
    if address != "local":
        try:
            context = ray.init(address="auto", **quiet)
            if PRIVATE not in ray.cluster_resources():
                return _dashboard(context)
            ray.shutdown()
        except ConnectionError:
            pass
    if address == "auto":
        raise BadInput("--address auto: no Ray cluster runs on this machine; leave it out to start one")
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        resources={PRIVATE: 1},
        **quiet,
    )
    have = ray.cluster_resources()
    for field, wanted, kind in (("cpus_per_trial", cpus_per_trial, "CPU"), ("gpus_per_trial", gpus_per_trial, "GPU")):
        if wanted > have.get(kind, 0):
            ray.shutdown()
            raise BadInput(f"{field} = {wanted}; allowed: at most the {have.get(kind, 0):g} {kind}s of this machine")
    return None


def stop_ray() -> None:
    """Leave the cluster, or end the one that was started here."""
    ray.shutdown()


def _dashboard(context: Any) -> str | None:
    url = getattr(context, "dashboard_url", None)
    return f"http://{url}" if url else None


def _check_listens(address: str) -> None:
    """Raise OSError or ValueError where nothing listens at [ray://]HOST:PORT: ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
        pass

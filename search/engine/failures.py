"""Which deaths of a trial's process are its own: those on machines that still run. Others are no fault of the trial."""

from collections import defaultdict
from collections.abc import Callable

import ray

# Of Ray's ActorDiedError. It knows preemption too, but no cloud that `ray up` starts machines on announces that to Ray.
NODE_DIED = "its node has died"


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

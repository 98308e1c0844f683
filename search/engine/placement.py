"""Whether trials are sure to run on the machine of the driver, whose memory can then be asked before they start."""

import os
from pathlib import Path


def trials_run_here(address: str | None) -> bool:
    """Whether `--address`, as given, means a Ray of this machine alone; False also where that is not known."""
    if address is not None:
        return address == "local"
    # What Ray looks at itself. A cluster that runs here may have other, larger machines.
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return "RAY_ADDRESS" not in os.environ and not current.exists()

"""Asks, in a process of its own, whether a Ray cluster answers: `python -m search.engine.ray_probe HOST:PORT SECONDS`.

If something else listens there, Ray itself tries for minutes, and its native code may end the process that it runs in.
"""

import signal
import sys

SPEAKS, SILENT, WANTS_TOKEN = 0, 1, 3


def main(address: str, seconds: int) -> int:
    """Returns SPEAKS, or another status, with Ray's reason on standard output. SIGALRM ends it after `seconds`."""
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RayError

    signal.alarm(seconds)  # started here, because the imports may take any time
    try:
        GcsClient(address=canonicalize_bootstrap_address(address)).get_all_node_info()
    except AuthenticationError:
        return WANTS_TOKEN
    except (RayError, OSError, ValueError) as error:
        print(str(error).splitlines()[0])
        return SILENT
    return SPEAKS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))

"""How long the embedded dataset takes to render: `python -m benchmarks.rooms [--json]`.

One process, one thread; scenes in the order of the training split, nothing cached.
"""

import argparse
import json
import platform
import time

from mtl.datasets.rooms.dataset import Rooms


def seconds_for(count: int, side: int) -> float:
    """Wall seconds to render the first `count` training scenes at side x side pixels."""
    rooms = Rooms(train=count)
    started = time.perf_counter()
    for index in range(count):
        rooms.read("train", index, (side, side))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    seconds = seconds_for(options.images, options.side)
    result = {
        "images": options.images,
        "side_pixels": options.side,
        "seconds": round(seconds, 2),
        "milliseconds_per_image": round(1000 * seconds / options.images, 2),
        "machine": f"{platform.processor() or platform.machine()}, one core",
    }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{options.images} images of {options.side} x {options.side} pixels: {seconds:.1f} s on one core")


if __name__ == "__main__":
    main()

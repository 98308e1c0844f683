"""What a search over λ finds for how much training: `python -m benchmarks.search [--json]`.

replay       strategies replayed against recordings of real training (see benchmarks.search_recording, .search_replay):
             epochs until the front has 95 % (`--share`) of the hypervolume of the whole grid's, measured from no group
             removed and the Δm of a model that has none left, as a share of the grid's epochs;
             median and quartiles over repetitions with other seeds of the strategy. Judged twice: by the recorded means
             over seeds ("raw"), and by those means smoothed over λ ("smooth"). Of some tens of noisy means the grid's
             front is made of the luckiest, so that the first also pays for drawing as many as possible
overhead     of a proposal with 500 told before: milliseconds to make it and to tell its end, beside OptunaSearch
determinism  whether the same seed proposes the same, twice, trial after trial

`--record NAME` makes a recording anew: rooms, or nyuv2 with --data DIR (of real NYU-v2 frames).
"""

import argparse
import json
import logging
import math
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from benchmarks.search_ours import Ours
from benchmarks.search_overhead import Make, deterministic, overheads
from benchmarks.search_peers import Grid, Random, Stock
from benchmarks.search_recording import FOLDER, SETTINGS, Recording, read_recording, record
from benchmarks.search_replay import Replay, Strategy, smallest_share

SHARE = 0.95
# A replay that has not come to it is broken off: of the grid's epochs.
LIMIT = 1.0

STRATEGIES: dict[str, Make] = {
    "grid in random order": Grid,
    "random search": Random,
    "OptunaSearch": Stock,
    "ours": Ours,
    "ours without racing": lambda recording, seed: Ours(recording, seed, racing=False),
    "ours with mo_asha": lambda recording, seed: Ours(recording, seed, halving=True),
    "ours, sampler tpe": lambda recording, seed: Ours(recording, seed, sampler="tpe"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", choices=list(SETTINGS))
    parser.add_argument("--data", help="with --record nyuv2: the dataset's folder")
    parser.add_argument("--storage", default="results", help="with --record: where the trials go, which may be there")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--share", type=float, default=SHARE, help=f"of the grid's hypervolume ({SHARE:g})")
    parser.add_argument("--only", choices=["replay", "overhead", "determinism"])
    options = parser.parse_args()
    if options.record:
        print(record(options.record, options.storage, options.data, options.overrides))
        return
    # OptunaSearch warns of each space that it converts, and of each value that is proposed twice.
    logging.disable(logging.WARNING)
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, optuna {optuna.__version__}",
        "slots": options.slots,
        "repetitions": options.repetitions,
        "share": options.share,
    }
    paths = sorted(FOLDER.glob("*.parquet"))
    if options.only in (None, "replay"):
        for path in paths:
            result[path.stem] = replayed(read_recording(path), options.repetitions, options.slots, options.share)
    if options.only in (None, "overhead"):
        result["overhead"] = overheads(read_recording(paths[-1]))
    if options.only in (None, "determinism"):
        result["determinism"] = {path.stem: deterministic(read_recording(path)) for path in paths}
    print(json.dumps(result, indent=1) if options.json else "\n".join(as_text(result)))


def replayed(recording: Recording, repetitions: int, slots: int, share: float) -> dict[str, Any]:
    """Of one recording, by judge and strategy."""
    found: dict[str, Any] = {
        "lambdas": len(recording.lambdas),
        "seeds": len(recording.seeds),
        "epochs": recording.epochs,
    }
    for judge in ("raw", "smooth"):
        replay = Replay(recording, slots, smooth=judge == "smooth")
        floor = smallest_share(replay, share)
        found[judge] = {"floor": round(floor / len(recording.lambdas), 3), "floor_lambdas": floor}
        for name, make in STRATEGIES.items():
            say(f"{judge} {name} …")
            costs = [cost(replay, make(recording, seed), share) for seed in range(repetitions)]
            found[judge][name] = quartiles(costs)
        stock = found[judge]["OptunaSearch"]["median"]
        for name in STRATEGIES:
            own = found[judge][name]["median"]
            found[judge][name]["of_stock"] = round(own / stock, 3) if own is not None and stock else None
    return found


def cost(replay: Replay, strategy: Strategy, share: float) -> float:
    """Epochs to this share of the hypervolume, over those of the whole grid; infinite beyond `LIMIT`."""
    track = replay.run(strategy, share, int(LIMIT * replay.grid_epochs))
    return track.epochs_to(share) / replay.grid_epochs


def quartiles(costs: Sequence[float]) -> dict[str, float | None]:
    """Median and quartiles, None for what is infinite, and the share of costs that are finite."""
    names = {"median": 0.5, "lower": 0.25, "upper": 0.75}
    values = {name: float(np.quantile(costs, share, method="nearest")) for name, share in names.items()}
    rounded = {name: round(value, 3) if math.isfinite(value) else None for name, value in values.items()}
    return {**rounded, "reached": round(float(np.isfinite(costs).mean()), 3)}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def as_text(result: dict[str, Any]) -> list[str]:
    """A line a figure."""
    lines = []
    for part, figures in result.items():
        if not isinstance(figures, dict):
            lines.append(f"{part}: {figures}")
            continue
        for name, value in figures.items():
            for strategy, values in value.items() if isinstance(value, dict) else [("", value)]:
                lines.append(f"{part:12} {name:24} {strategy:24} {values}")
    return lines


if __name__ == "__main__":
    main()

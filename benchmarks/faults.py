"""A fault drill: `python -m benchmarks.faults [--kills 50] [--json]`.

A Ray cluster of a head and two workers, each a node of its own on this machine, runs a sweep. At random moments one of
three is killed with SIGKILL: the driver, which is then started again by the same command; a worker with all that runs
on it, in whose place a new one comes; or the process of a trial. In the end no row may be lost or there twice, and all
results must equal those of an unbroken run. A sweep that ends before all kills are done is followed by another.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by ray as it is imported

from ray.cluster_utils import Cluster

WORKERS = 2
KINDS = ("driver", "worker", "trial")
# The most by which a kill comes after the sweep was seen to get on.
LATEST_SECONDS = 2.0
PATIENCE_SECONDS = 180.0
# A trial takes about ten seconds; every epoch is saved, and no number of deaths makes a trial a failed one.
SETTINGS = [
    "combinations=depth", "lambdas=0,1e-3,1e-2,1e-1", "seeds=3", "epochs=120", "image_size=32", "batch_size=8",
    "backbone_width=4", "head_channels=8", "dataset_options.train=48", "dataset_options.val=8",
    "dataset_options.test=8", "checkpoint_seconds=0", "max_retries=1000",
]  # fmt: skip
CLOCK = ["train_seconds", "started_at", "ended_at", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = Drill(Path(scratch), random.Random(options.seed)).run(options.kills)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:28}{value}")


class Drill:
    """The cluster, the driver in a process of its own, and what is done to them."""

    def __init__(self, scratch: Path, moments: random.Random) -> None:
        self._scratch, self._moments = scratch, moments
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(WORKERS)]
        self._killed: Counter[str] = Counter()

    def run(self, kills: int) -> dict[str, Any]:
        started = time.monotonic()
        try:
            say("the unbroken run …")
            whole = self._scratch / "whole"
            if self._start(whole).wait() != 0:
                raise RuntimeError("the unbroken run failed")
            lost = twice = unequal = sweeps = 0
            while self._killed.total() < kills:
                folder = self._scratch / f"broken{sweeps}"
                self._broken_run(folder, kills)
                sweeps += 1
                one, other = rows(whole), rows(folder)
                lost += len(set(one["trial_id"]) - set(other["trial_id"][other["status"] == "done"]))
                twice += int(other["trial_id"].duplicated().sum())
                unequal += 0 if one.equals(other) and history(whole).equals(history(folder)) else 1
        finally:
            self._cluster.shutdown()
        return {
            "kills": self._killed.total(),
            **{f"kills_of_a_{kind}": self._killed[kind] for kind in KINDS},
            "sweeps": sweeps,
            "trials_a_sweep": len(one),
            "rows_lost": lost,
            "rows_twice": twice,
            "sweeps_unlike_the_unbroken": unequal,
            "seconds": round(time.monotonic() - started),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        }

    def _broken_run(self, storage: Path, kills: int) -> None:
        driver = self._start(storage)
        try:
            seen = 0.0
            while True:
                seen = self._wait_for_progress(storage, driver, seen)
                if driver.poll() == 0:
                    return
                if driver.poll() is not None:
                    raise RuntimeError(f"the driver ended with exit status {driver.returncode}")
                if self._killed.total() < kills:
                    time.sleep(self._moments.uniform(0, LATEST_SECONDS))
                    driver = self._kill(self._moments.choice(KINDS), driver, storage)
        finally:
            driver.kill()
            driver.wait()

    def _wait_for_progress(self, storage: Path, driver: subprocess.Popen, seen: float) -> float:
        """Until a trial has saved something since `seen`, or the driver has ended; the time of the newest file."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while driver.poll() is None:
            newest = max((mtime(path) for path in storage.rglob("*.pt")), default=0.0)
            if newest > seen:
                return time.time()
            if time.monotonic() > deadline:
                raise RuntimeError(f"no trial got on for {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.05)
        return seen

    def _kill(self, kind: str, driver: subprocess.Popen, storage: Path) -> subprocess.Popen:
        if kind == "trial":
            victims = trial_processes()
            if not victims:
                return driver
            os.kill(self._moments.choice(victims), signal.SIGKILL)
        elif kind == "worker":
            node = self._nodes.pop(self._moments.randrange(len(self._nodes)))
            self._cluster.remove_node(node, allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=1))
        else:
            driver.kill()
            driver.wait()
            driver = self._start(storage)
        self._killed[kind] += 1
        say(f"kill {self._killed.total()}: a {kind}")
        return driver

    def _start(self, storage: Path) -> subprocess.Popen:
        words = [word for setting in SETTINGS for word in ("--set", setting)]
        command = [sys.executable, "-c", "import sys; from search.cli import main; sys.exit(main())", "sweep", "rooms"]
        where = ["--storage", str(storage), "--address", self._cluster.address]
        with (self._scratch / "driver.log").open("ab") as log:
            return subprocess.Popen([*command, *where, *words], stdout=log, stderr=log)


def rows(storage: Path) -> pd.DataFrame:
    """The results without what a clock says."""
    table = pd.read_parquet(storage / "rooms" / "results.parquet")
    return table.drop(columns=[c for c in CLOCK if c in table]).sort_values("trial_id").reset_index(drop=True)


def history(storage: Path) -> pd.DataFrame:
    table = pd.read_parquet(storage / "rooms" / "history.parquet").drop(columns="seconds")
    return table.sort_values(["trial_id", "epoch"]).reset_index(drop=True)


def trial_processes() -> list[int]:
    """Ray names its processes after the actor's class; Tune wraps ours in one called ResourceTrainable."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and re.match(rb"ray::ResourceTrainable", (entry / "cmdline").read_bytes()):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

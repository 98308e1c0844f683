"""What the analysis costs: `python -m benchmarks.analysis [--json]`.

- The front of 1,000,000 points in two objectives, beside moocore as it is, optuna's and paretoset's, in turn; pymoo's
  non-dominated sort compares all pairs, so it stands beside ours on 5,000 points. Peers that are not installed are
  skipped and named: `pip install parsimony-mtl[benchmark]`.
- Reading a sweep of 1,000,000 rows × 40 columns, its fronts over means and over single runs, and hypervolumes, in a
  process of its own, whose peak memory is told.
- `analyze` on a sweep of 5,000 trials with histories of 50 epochs: seconds and the report's size.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import moocore
import numpy as np
from numpy.typing import NDArray

from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.runs import run_table
from analysis.compute.settings import settings_table
from analysis.pareto import pareto_front
from analysis.read.load import load_sweep
from benchmarks.made_up_sweep import write_made_up_sweep

POINTS, SORTED_POINTS, ROWS, COLUMNS, TRIALS, EPOCHS = 1_000_000, 5_000, 1_000_000, 40, 5_000, 50
ROUNDS = 5
WANTED = {
    "front_seconds": 0.3,
    "table_seconds": 3.0,
    "table_gigabytes": 2.0,
    "analyze_seconds": 30.0,
    "report_megabytes": 5.0,
}
Points = NDArray[np.float64]


def _optuna(points: Points) -> NDArray[np.bool_]:
    from optuna.study._multi_objective import _is_pareto_front

    return _is_pareto_front(points, assume_unique_lexsorted=False)


def _paretoset(points: Points) -> NDArray[np.bool_]:
    from paretoset import paretoset

    return paretoset(points, sense=["min", "min"], distinct=False)


def _pymoo(points: Points) -> NDArray[np.bool_]:
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    mask = np.zeros(len(points), bool)
    mask[NonDominatedSorting().do(points, only_non_dominated_front=True)] = True
    return mask


def _ours(points: Points) -> NDArray[np.bool_]:
    return pareto_front(points, [False, False])


def _moocore(points: Points) -> NDArray[np.bool_]:
    return moocore.is_nondominated(points, keep_weakly=True)


def measure_fronts(size: int, contestants: dict[str, Callable[[Points], NDArray[np.bool_]]]) -> dict[str, object]:
    """Median seconds of each contestant, in turn; a peer that is not there, or another front, is said instead."""
    points = np.random.default_rng(0).normal(size=(size, 2))
    expected = _ours(points)
    seconds: dict[str, object] = {}
    for name in list(contestants):
        package = name.split()[0]
        try:
            # The first call may compile.
            found = contestants[name](points)
        except ImportError as error:
            seconds[name] = f"skipped: {error}; pip install {package}"
            del contestants[name]
            continue
        if (found != expected).any():
            seconds[name] = f"another front: {int((found != expected).sum())} points differ"
            del contestants[name]
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, find in contestants.items():
            started = time.perf_counter()
            find(points)
            times[name].append(time.perf_counter() - started)
    return seconds | {name: statistics.median(values) for name, values in times.items()}


def measure_table(folder: Path) -> dict[str, float]:
    """In this process: seconds of reading, fronts and hypervolumes, of a core too, and the process's peak memory."""
    started, core_started = time.perf_counter(), time.process_time()
    sweep = load_sweep(folder)
    read = time.perf_counter()
    marked = with_fronts(sweep, settings_table(sweep))
    run_table(sweep, marked)
    hypervolume_table(sweep, marked)
    ended, core_seconds = time.perf_counter(), time.process_time() - core_started
    # Linux tells kibibytes, macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return {
        "load_seconds": read - started,
        "table_seconds": ended - started,
        "table_core_seconds": core_seconds,
        "table_gigabytes": peak / 1e9,
    }


def measure_analyze(folder: Path) -> dict[str, float]:
    """In this process: seconds of the whole command, imports apart, and the size of the report."""
    analyze = importlib.import_module("analysis.analyze").analyze
    started = time.perf_counter()
    written = analyze(folder)
    seconds = time.perf_counter() - started
    return {"analyze_seconds": seconds, "report_megabytes": written.report.stat().st_size / 1e6}


def _apart(measure: str, folder: Path) -> dict[str, float]:
    """The measurement in a process of its own, so that nothing of this one's memory counts."""
    command = [sys.executable, "-m", "benchmarks.analysis", "--measure", measure, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(found.stdout))


def measure_all() -> dict[str, object]:
    """Every figure, by name, with what is wanted."""
    fronts = measure_fronts(POINTS, {"ours": _ours, "moocore": _moocore, "paretoset": _paretoset, "optuna": _optuna})
    sorts = measure_fronts(SORTED_POINTS, {"ours": _ours, "paretoset": _paretoset, "optuna": _optuna, "pymoo": _pymoo})
    figures: dict[str, object] = {"front_seconds": fronts["ours"]}
    with tempfile.TemporaryDirectory() as folder:
        write_made_up_sweep(Path(folder, "table"), ROWS, columns=COLUMNS)
        figures |= _apart("table", Path(folder, "table"))
        write_made_up_sweep(Path(folder, "trials"), TRIALS, epochs=EPOCHS)
        figures |= _apart("analyze", Path(folder, "trials"))
    return {
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        f"front_of_{POINTS}_points_seconds": fronts,
        f"front_of_{SORTED_POINTS}_points_seconds": sorts,
        "figures": figures,
        "wanted_at_most": WANTED,
        "missed": [name for name, most in WANTED.items() if float(str(figures[name])) > most],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description="what the analysis costs")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, folder = options.measure
        print(json.dumps({"table": measure_table, "analyze": measure_analyze}[what](Path(folder))))
        return
    found = measure_all()
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for size in (POINTS, SORTED_POINTS):
        print(f"front of {size:,} points in two objectives")
        seconds = found[f"front_of_{size}_points_seconds"]
        assert isinstance(seconds, dict)
        for name, value in seconds.items():
            print(f"  {name:12}{value if isinstance(value, str) else f'{value:.4f} s'}")
    figures = found["figures"]
    assert isinstance(figures, dict)
    for name, value in figures.items():
        wanted = f"   wanted <= {WANTED[name]:g}" if name in WANTED else ""
        print(f"{name:20}{value:8.2f}{wanted}")


if __name__ == "__main__":
    main()

"""`parsimony sweep`: every trial of a recipe, on Ray Tune."""

import argparse
import sys

from mtl.vocabulary.files import RESULTS
from search.commands.opening import sweep_of
from search.engine.placement import trials_run_here
from search.engine.runner import RayRunner
from search.run import run_sweep


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput and SweepStopped."""
    sweep = sweep_of(options, here=trials_run_here(options.address))
    if options.dry_run:
        for config in sweep.configs:
            print(config)
        return 0
    results = run_sweep(sweep, RayRunner(options.address))
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(f"failed: {result.config}: {result.error}", file=sys.stderr)
    done, missing = len(results) - len(failed), len(sweep.configs) - len(results)
    print(f"{done} trials done, {len(failed)} failed, {missing} missing: {sweep.store.shown(RESULTS)}")
    if missing:
        print("stopped before its end; the same command goes on with the rest", file=sys.stderr)
    return 1 if failed or missing else 0

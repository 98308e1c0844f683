"""`parsimony sweep`: every trial of a recipe, on Ray Tune."""

import argparse

from mtl.vocabulary.files import RESULTS
from search.commands.common import exit_status, report_failures, sweep_of
from search.engine.runner import RayRunner, trials_run_here
from search.run import run_sweep


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput and SweepStopped."""
    sweep = sweep_of(options, here=trials_run_here(options.address))
    if options.dry_run:
        for config in sweep.configs:
            print(config)
        return 0
    results = run_sweep(sweep, RayRunner(options.address))
    failed = report_failures(results)
    missing = len(sweep.configs) - len(results)
    print(f"{len(results) - failed} trials done, {failed} failed, {missing} missing: {sweep.store.shown(RESULTS)}")
    return exit_status(failed, complete=not missing)

"""`parsimony sweep`: every trial of a recipe, on Ray Tune."""

import argparse
import shlex

from mtl.vocabulary.files import RESULTS
from search.commands.common import exit_status, report_failures, sweep_of
from search.engine.runner import RayRunner, trials_run_here
from search.forecast import forecast
from search.run import run_sweep
from search.store.messages import say


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput and SweepStopped."""
    here = trials_run_here(options.address)
    sweep = sweep_of(options, here=here)
    if options.dry_run:
        for config in sweep.configs:
            print(config)
        for line in forecast(sweep, here):
            say(line)
        return 0
    results = run_sweep(sweep, RayRunner(options.address))
    failed = report_failures(results)
    missing = len(sweep.configs) - len(results)
    print(f"{len(results) - failed} trials done, {failed} failed, {missing} missing: {sweep.store.shown(RESULTS)}")
    if len(results) > failed:
        say(f"its fronts and report: parsimony analyze {shlex.quote(str(sweep.store))}")
    return exit_status(failed, complete=not missing)

"""`parsimony train`: one trial of a recipe, in this process."""

import argparse
import shlex
import sys

from mtl.vocabulary.files import MODEL, trial_file
from search.commands.common import exit_status, sweep_of
from search.run import run_one
from search.store.messages import say


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput and SweepStopped."""
    sweep = sweep_of(options, accept_done=True, here=True)
    # The dense model stands beside compressors other than the penalty too; one of theirs was asked for.
    config = next(one for one in sweep.configs if one.compressor in sweep.recipe.compressors)
    if len(sweep.configs) > 1:
        print(
            f"{len(sweep.configs)} trials in this recipe; training {config.label} "
            "(choose with --set combinations=…, seeds=[…], and lambdas=…, or compressors=… and targets=…)",
            file=sys.stderr,
        )
    result = run_one(sweep, config)
    if result is None:
        return exit_status(0, complete=False)
    if result.status == "failed":
        print(f"failed: {result.details or result.error}", file=sys.stderr)
        return 1
    for name, value in result.metrics.items():
        metric = sweep.metrics.get(name.removeprefix("val_").removeprefix("test_"))
        print(f"{name:32} {metric.text(value, '.4f') if metric else f'{value:.4f}'}")
    model = sweep.store.shown(trial_file(config.trial_id, MODEL))
    print(f"model: {model}")
    if not config.dense and "://" not in model:
        say(f"without its zero channels: parsimony compact {shlex.quote(model)}")
    return 0

"""What a sweep would take, before it runs: how many trials, how much time, how much memory."""

import os

from mtl.limits import bytes_needed
from search.progress import format_seconds, work_of
from search.store.results import TrialResult
from search.sweep import Sweep


def forecast(sweep: Sweep, here: bool) -> list[str]:
    """Lines about the sweep's trials; here: whether they run on this machine. Reads the results of earlier runs.

    Times are by the pace of the trials that are done, whatever else their machine did. Raises BadInput as reading the
    results does.
    """
    results, recipe = sweep.read_results(), sweep.recipe
    done = [one for one in (results.get(config.trial_id) for config in sweep.configs) if one and one.status == "done"]
    ended = {one.config.trial_id for one in done}
    left = [config for config in sweep.configs if config.trial_id not in ended]
    lines = [f"{len(sweep.configs)} trials: {len(done)} done, {len(left)} to run"]
    gpus = recipe.gpus_per_trial
    slots = max(1, (os.cpu_count() or 1) // recipe.cpus_per_trial)
    if left and (pace := _pace(done)):
        seconds = pace * sum(work_of(config, config.total_epochs) for config in left)
        lines.append(f"training time: about {format_seconds(seconds)} in all, by the {len(done)} that are done")
        if gpus:
            lines.append(f"GPU hours: about {seconds * gpus / 3600:.1f}")
        elif here:
            shown = f"{slots} at a time" if recipe.pack == 1 else f"{slots} packs at a time"
            lines.append(f"on this machine: about {format_seconds(seconds / slots)}, {shown}")
    elif left:
        lines.append("training time: known once a trial is done; `parsimony train` with the same options runs one")
    largest = [sweep.dataset.tasks[task] for task in max(recipe.task_combinations, key=len)]
    needed = recipe.pack * bytes_needed(recipe, largest, sweep.dataset.size("train"))
    where = f"{gpus:g} GPU" if gpus else f"{recipe.cpus_per_trial} of the CPU's cores"
    one = "each trial" if recipe.pack == 1 else f"each pack of {recipe.pack} trials"
    lines.append(f"{one} takes {where} and at least {needed / 1e9:.2g} GB of memory")
    return lines


def _pace(done: list[TrialResult]) -> float:
    """Seconds for a unit of work; 0 where it is not known."""
    work = sum(work_of(one.config, len(one.history)) for one in done)
    return sum(one.train_seconds for one in done) / work if work else 0.0

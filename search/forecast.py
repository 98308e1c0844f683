"""What a sweep would take, before it runs: how many trials, how much time, how much memory."""

import os

from mtl.limits import bytes_needed, machine_memory
from mtl.vocabulary.units import byte_size, duration
from search.progress import work_of
from search.store.results import TrialResult
from search.sweep import Sweep

USUAL_GPUS = (24, 80)  # GB, for which to say how many trials fit where no GPU is at hand


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
        lines.append(f"training time: about {duration(seconds)} in all, by the {len(done)} that are done")
        if gpus:
            lines.append(f"GPU hours: about {seconds * gpus / 3600:.1f}")
        elif here:
            shown = f"{slots} at a time" if recipe.pack == 1 else f"{slots} packs at a time"
            lines.append(f"on this machine: about {duration(seconds / slots)}, {shown}")
    elif left:
        lines.append("training time: known once a trial is done; `parsimony train` with the same options runs one")
    return [*lines, _memory(sweep, here)]


def _memory(sweep: Sweep, here: bool) -> str:
    """What the largest of the trials needs, and how many fit."""
    # Imported late, as it needs torch.
    from mtl.networks.memory_need import memory_need

    recipe, images, gpus = sweep.recipe, sweep.dataset.size("train"), sweep.recipe.gpus_per_trial
    tasks = [sweep.dataset.tasks[task] for task in max(recipe.task_combinations, key=len)]
    where = f"{gpus:g} GPU" if gpus else f"{recipe.cpus_per_trial} of the CPU's cores"
    takes = f"{'each trial' if recipe.pack == 1 else f'each pack of {recipe.pack} trials'} takes {where}"
    need = memory_need(recipe, tasks, images, "cuda" if gpus else "cpu", recipe.trial_precision)
    if need is None:
        least = recipe.pack * bytes_needed(recipe, tasks, images)
        return f"{takes} and at least {byte_size(least)} of memory"
    needed = need.of_process + recipe.pack * need.tensors(min(recipe.batch_size, images))
    fit = [f"{have // needed} fit {place}" for have, place in _memories(here, bool(gpus))]
    of_what = "GPU memory" if gpus else "memory"
    return "; ".join([f"{takes} and about {byte_size(needed)} of {of_what}", *fit])


def _memories(here: bool, gpus: bool) -> list[tuple[int, str]]:
    """Bytes of memory that trials may run in, and what has them."""
    if not gpus:
        memory = machine_memory() if here else None
        return [(memory, f"the {byte_size(memory)} of this machine")] if memory else []
    import torch

    if here and torch.cuda.is_available():
        total = torch.cuda.get_device_properties("cuda").total_memory
        return [(total, f"a GPU of {byte_size(total)}, as here")]
    return [(size * 10**9, f"a GPU of {size} GB") for size in USUAL_GPUS]


def _pace(done: list[TrialResult]) -> float:
    """Seconds for a unit of work; 0 where it is not known."""
    work = sum(work_of(one.config, len(one.history)) for one in done)
    return sum(one.train_seconds for one in done) / work if work else 0.0

"""Copies trials that another sweep in the same storage has done, so that they need not run again."""

from collections.abc import Iterable, Sequence

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged
from mtl.vocabulary.files import MODEL, RESULT, trial_file
from search.store.files import read_sweep_file
from search.store.results import TrialResult, read_result
from search.store.storage import Store

COPIED = (MODEL, RESULT)  # the result last: a trial with a result is done


def is_baseline(config: TrialConfig) -> bool:
    """Whether delta_m may be measured against this trial."""
    return config.dense and len(config.tasks) == 1 and config.retraining == "none"


def without_baseline(configs: Iterable[TrialConfig]) -> list[str]:
    """The tasks of these trials whose dense single-task model is not among them for some seed: delta_m of models with
    these tasks stays unknown."""
    wanted: dict[tuple[str, int], None] = {}
    there = set()
    for config in configs:
        wanted |= dict.fromkeys((task, config.seed) for task in config.tasks)
        if is_baseline(config):
            there.add((config.tasks[0], config.seed))
    return list(dict.fromkeys(task for task, seed in wanted if (task, seed) not in there))


def reuse_trials(store: Store, wanted: Iterable[TrialConfig], more: Sequence[Store] = ()) -> list[TrialResult]:
    """Copy into this store the wanted trials that other sweeps in the same storage, or in `more`, have done.

    A trial is the same wherever it has run: its id is the hash of everything that its result depends on.
    """
    wanted = list(wanted)
    found: list[TrialResult] = []
    for sibling in [*more, *store.siblings()] if wanted else ():
        ids = _planned(sibling)
        for config in [one for one in wanted if one.trial_id in ids]:
            try:
                result = read_result(sibling, config.trial_id)
            except Damaged:  # the other sweep reports it; here the trial runs again
                continue
            if result is None or result.status != "done":
                continue
            for name in COPIED:
                content = sibling.read(trial_file(config.trial_id, name))
                if content is not None:
                    store.write(trial_file(config.trial_id, name), content)
            found.append(result)
            wanted.remove(config)
    return found


def _planned(store: Store) -> set[str]:
    """The ids of a sweep's trials; none if there is no readable sweep."""
    try:
        sweep = read_sweep_file(store)
    except BadInput:  # the other sweep reports it
        return set()
    return set(sweep.trials) if sweep else set()

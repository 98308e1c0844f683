"""Trials that another sweep in the same storage has done: taken over, and not run again."""

from collections.abc import Iterable, Sequence

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.checked import Damaged
from mtl.vocabulary.files import MODEL, RESULT, trial_file
from search.store.files import read_sweep_file
from search.store.results import TrialResult, read_result
from search.store.storage import Store

CARRIED_OVER = (MODEL, RESULT)  # the result last: a trial that has one is done


def is_baseline(config: TrialConfig) -> bool:
    """Whether delta_m may be measured against this trial."""
    return config.strength == 0 and len(config.tasks) == 1 and config.retraining == "none"


def reuse_trials(store: Store, wanted: Iterable[TrialConfig], besides: Sequence[Store] = ()) -> list[TrialResult]:
    """Take over, into this store, what other sweeps in the same storage, and `besides`, have done of the wanted trials.

    A trial is the same wherever it has run: its id is the hash of all that its result depends on.
    """
    wanted = list(wanted)
    found: list[TrialResult] = []
    for sibling in [*besides, *store.siblings()] if wanted else ():
        ids = _planned(sibling)
        for config in [one for one in wanted if one.trial_id in ids]:
            try:
                result = read_result(sibling, config.trial_id)
            except Damaged:  # that sweep's own run says so; here the trial is run
                continue
            if result is None or result.status != "done":
                continue
            for name in CARRIED_OVER:
                content = sibling.read(trial_file(config.trial_id, name))
                if content is not None:
                    store.write(trial_file(config.trial_id, name), content)
            found.append(result)
            wanted.remove(config)
    return found


def _planned(store: Store) -> set[str]:
    """Ids of a sweep's trials; none where there is no sweep, or none that can be read."""
    try:
        sweep = read_sweep_file(store)
    except BadInput:  # which is that sweep's own affair
        return set()
    return set(sweep.trials) if sweep else set()

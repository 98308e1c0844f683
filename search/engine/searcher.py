"""Tune's view of where trials come from."""

from typing import Any

from ray.tune.search import Searcher

from search.engine.interrupts import Interrupts
from search.engine.packing import Packing
from search.engine.source import TrialSource


class SourceSearcher(Searcher):
    """Tune's view of a source. How trials end is told to the source by the runner, which knows their results.

    A list goes through here too: Tune's own grid copies the whole grid for each of its trials. A trial's
    config for Tune has the one entry "trial", the packed TrialConfig.
    """

    def __init__(self, source: TrialSource, packing: Packing, interrupts: Interrupts) -> None:
        super().__init__()
        self._source, self._packing, self._interrupts = source, packing, interrupts

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """Nothing to learn from Tune: the source has its own objectives and space."""
        return True

    def suggest(self, trial_id: str) -> Any:
        config = None if self._interrupts.asked else self._source.next()
        if config is not None:
            return {"trial": self._packing.pack(config)}
        return Searcher.FINISHED if self._interrupts.asked or self._source.exhausted else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: a source goes on from the results in our own store."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the Tuner pickles itself for a resume of its own, which is never asked for."""
        return {}

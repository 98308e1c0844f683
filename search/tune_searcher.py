"""Tune's view of where trials come from."""

import json
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from search.interrupts import Interrupts
from search.run_context import RunContext
from search.trial_source import TrialSource


class TuneSearcher(Searcher):
    """Tune's view of a source. How trials end is told to the source by the runner, which knows their results.

    A list goes through here too: Tune's own grid copies the whole grid for each of its trials. And settings go as JSON,
    as Tune keeps half a dozen copies of all that is in a trial's config, but not of a string.
    """

    def __init__(self, source: TrialSource, context: RunContext, interrupts: Interrupts) -> None:
        super().__init__()
        self._source, self._interrupts = source, interrupts
        self._context = json.dumps(asdict(context))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        """Nothing to learn from Tune: the source has its own objectives and space."""
        return True

    def suggest(self, trial_id: str) -> Any:
        config = None if self._interrupts.asked else self._source.next()
        if config is not None:
            return {"trial": config.model_dump_json(), "context": self._context}
        return Searcher.FINISHED if self._interrupts.asked or self._source.exhausted else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: a source goes on from the results in our own store."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the Tuner pickles itself for a resume of its own, which is never asked for."""
        return {}

"""The trial of benchmarks.empty_trials; Ray's workers import it by this name."""

from collections.abc import Mapping

from search.engine.trial import TrialRun


class EmptyRun(TrialRun):
    """A trial without training: its row is all that it leaves."""

    def step(self) -> Mapping[str, float]:
        self._finish("done", metrics={"group_sparsity": 0.0, "parameter_sparsity": 0.0})
        return {}

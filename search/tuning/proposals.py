"""A proposal of a search: values of the open parameters, trained with every seed of the recipe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl.config import TrialConfig
from search.store.results import TrialResult

State = Literal["running", "complete", "pruned", "failed"]


@dataclass
class Proposal:
    """The trials of a proposal, one for each seed, and what became of them.

    Attributes:
        number, params: Optuna's.
        configs: in the order of the recipe's seeds.
        results: of the trials that have ended, by id.
        values: the columns of each trial that is done, by id.
        note: why its remaining trials are not run; else empty.
        early: whether it was stopped before its last epoch because of its values.
        seeded: whether it comes from an earlier sweep and was not proposed.
        looked: how many of its seeds had run when racing last tested it.
        state: as told to the study.
        told_means, told_deviations: as stored in the study, used if the trials' results are not available.
    """

    number: int
    params: Mapping[str, Any]
    configs: tuple[TrialConfig, ...]
    results: dict[str, TrialResult] = field(default_factory=dict)
    values: dict[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""
    early: bool = False
    seeded: bool = False
    looked: int = 0
    state: State = "running"
    told_means: Mapping[str, float] = field(default_factory=dict)
    told_deviations: Mapping[str, float] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        return self.configs[0].dense

    @property
    def strength(self) -> str:
        """What makes its models smaller, and how strongly, for people to read."""
        config = self.configs[0]
        if config.compressor == "penalty":
            return f"lambda={config.strength:g}"
        return f"{config.compressor} target_macs={config.target_macs:g}"

    @property
    def ended(self) -> bool:
        """Whether all of its trials have a result."""
        return all(config.trial_id in self.results for config in self.configs)

    @property
    def failed(self) -> list[TrialResult]:
        return [result for result in self.results.values() if result.status == "failed"]

    def columns(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(done trials, names); NaN if a trial lacks a column."""
        rows = [[values.get(name, np.nan) for name in names] for values in self.values.values()]
        return np.array(rows, dtype=float).reshape(len(rows), len(names))

    def means(self) -> dict[str, float]:
        """The mean of each column over the trials that are done."""
        if not self.values:
            return dict(self.told_means)
        return {name: float(self.columns([name]).mean()) for name in self._names()}

    def deviations(self) -> dict[str, float]:
        """The sample standard deviation of each column; none for a single trial."""
        if len(self.values) < 2:
            return {} if self.values else dict(self.told_deviations)
        return {name: float(self.columns([name]).std(ddof=1)) for name in self._names()}

    def _names(self) -> Iterator[str]:
        first, *others = self.values.values()
        return (name for name in first if all(name in other for other in others))


def proposals_table(proposals: Sequence[Proposal], open_fields: Sequence[str]) -> pd.DataFrame:
    """A row for each proposal: parameters, `seeds_run`, and the mean and the deviation <column>_sd of each column."""
    rows = []
    for proposal in proposals:
        config = proposal.configs[0]
        row: dict[str, Any] = {
            "proposal": proposal.number,
            "state": proposal.state,
            "tasks": config.combination,
            "penalty": config.penalty,
            "lambda": config.strength,
            "compressor": config.compressor,
            "target_macs": config.target_macs,
        }
        row |= {name: proposal.params.get(name) for name in open_fields if name not in row}
        row |= {"seeds": len(proposal.configs), "seeds_run": len(proposal.values)}
        deviations = proposal.deviations()
        for name, mean in proposal.means().items():
            row |= {name: mean, f"{name}_sd": deviations.get(name, np.nan)}
        rows.append(row | {"note": proposal.note})
    return pd.DataFrame(rows)

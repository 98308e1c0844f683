"""How sure it is that a proposal is dominated, from the few seeds that have run of it and of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SURE = 0.95
FAR = 4.0  # standard errors
# Degrees of freedom below which the spread between seeds is as good as unknown.
FEWEST = 3

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Variance between the seeds of a proposal, pooled over proposals; (m,), and its degrees of freedom."""

    variance: Values
    degrees: int


def pooled_spread(groups: Sequence[Values]) -> Spread:
    """The mean square within groups, Σ_g Σ_i (x_gi - x̄_g)² / Σ_g (n_g - 1); groups of (n_g, m)."""
    values, sizes = np.concatenate(groups), np.array([len(group) for group in groups])
    degrees = int((sizes - 1).sum())
    squares = ((values - np.repeat(_means(groups), sizes, axis=0)) ** 2).sum(axis=0)
    return Spread(squares / max(degrees, 1), degrees)


def _means(groups: Sequence[Values]) -> Values:
    """(groups, m)"""
    sizes = np.array([len(group) for group in groups])
    return np.add.reduceat(np.concatenate(groups), np.cumsum(sizes) - sizes) / sizes[:, None]


def probability_dominated(groups: Sequence[Values], own: int, rng: np.random.Generator) -> float:
    """How likely the true mean of group `own` is dominated by that of some other group.

    Args:
        groups: (n_g, m) costs, less is better, of the seeds of each proposal; n_g at least 1.
        own: the group in question.
        rng: for the draws.

    Returns:
        The share of draws from the posterior in which another's mean is nowhere worse and somewhere better; 0 where too
        few proposals have two seeds to tell how far seeds differ. With a flat prior the posterior of a mean is
        Student's t about the observed one, at the pooled standard error sqrt(variance / n_g).
    """
    spread = pooled_spread(groups)
    if spread.degrees < FEWEST:
        return 0.0
    means = _means(groups)
    errors = np.sqrt(spread.variance / np.array([[len(group)] for group in groups]))
    # Those that are far worse in some objective dominate in no draw worth counting.
    near = (means - means[own] <= FAR * (errors + errors[own])).all(axis=1)
    near[own] = True
    means, errors, own = means[near], errors[near], int(near[:own].sum())
    draws = means + errors * rng.standard_t(spread.degrees, size=(DRAWS, *means.shape))
    mine = draws[:, own : own + 1]
    others = np.delete(draws, own, axis=1)
    dominated = (others <= mine).all(axis=2) & (others < mine).any(axis=2)
    return float(dominated.any(axis=1).mean())

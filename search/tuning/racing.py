"""Racing: whether a proposal is certainly dominated, judged by the few seeds of it and of others that have run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

# The probability of dropping a proposal that no other dominates, over all tests of the proposal.
WRONG = 0.05
# Fewer degrees of freedom than this say too little about the variance between seeds.
FEWEST = 3

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SeedVariance:
    """The variance between the seeds of a proposal, (m,), pooled over proposals, and its degrees of freedom."""

    variance: Values
    degrees: int


def pooled_variance(groups: Sequence[Values]) -> SeedVariance:
    """The mean square within groups, Σ_g Σ_i (x_gi - x̄_g)² / Σ_g (n_g - 1); groups of (n_g, m)."""
    values, sizes = np.concatenate(groups), np.array([len(group) for group in groups])
    degrees = int((sizes - 1).sum())
    squares = ((values - np.repeat(_means(groups), sizes, axis=0)) ** 2).sum(axis=0)
    return SeedVariance(squares / max(degrees, 1), degrees)


def _means(groups: Sequence[Values]) -> Values:
    """(groups, m)"""
    sizes = np.array([len(group) for group in groups])
    return np.add.reduceat(np.concatenate(groups), np.cumsum(sizes) - sizes) / sizes[:, None]


def p_not_dominated(groups: Sequence[Values], own: int) -> float:
    """A p-value for the hypothesis that no other group's true mean dominates the true mean of group `own`.

    Another group dominates it if it is better in every objective. So each objective is tested one-sided by Student's t
    with the pooled variance, and the largest p counts (an intersection-union test, Berger 1982). This is done against
    each other group; the smallest p, times the number of groups, counts (Bonferroni). For normal values of equal
    variance, and if no other group dominates, the result is at most α with a probability of at most α.

    Args:
        groups: (n_g, m) costs, less is better, of the seeds of each proposal; n_g at least 1.
        own: the group to test.

    Returns:
        0 to 1; 1 if too few proposals have two seeds to estimate the variance.
    """
    pooled = pooled_variance(groups)
    if pooled.degrees < FEWEST or len(groups) < 2:
        return 1.0
    means = np.delete(_means(groups), own, axis=0)
    sizes = np.delete([len(group) for group in groups], own)
    ahead = groups[own].mean(axis=0) - means
    errors = np.sqrt(pooled.variance * (1 / len(groups[own]) + 1 / sizes[:, None]))
    # If seeds never differ in an objective there is no doubt in it, and being as good is enough.
    certain = np.where(ahead >= 0, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(errors > 0, stdtr(pooled.degrees, -ahead / errors), certain)
    p[((ahead <= 0) & (errors == 0)).all(axis=1)] = 1.0  # equals
    return min(1.0, float(p.max(axis=1).min()) * len(means))

"""Whether a proposal is dominated beyond doubt, from the few seeds that have run of it and of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

# How often a proposal that none of the others dominates may be dropped, over all the times that it is looked at.
WRONG = 0.05
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


def p_not_dominated(groups: Sequence[Values], own: int) -> float:
    """A p-value of the hypothesis that no other group's true mean dominates that of group `own`.

    Another dominates it if it is better in every objective, so each objective is tested one-sided with Student's t at
    the pooled variance, and the least sure of them counts (an intersection-union test, Berger 1982). That is done
    against each other group, and the surest of these counts times their number (Bonferroni). So with normal values of
    one variance it is at most α with a probability of at most α where no other dominates.

    Args:
        groups: (n_g, m) costs, less is better, of the seeds of each proposal; n_g at least 1.
        own: the group in question.

    Returns:
        0 to 1; 1 where too few proposals have two seeds to tell how far seeds differ.
    """
    spread = pooled_spread(groups)
    if spread.degrees < FEWEST or len(groups) < 2:
        return 1.0
    means = np.delete(_means(groups), own, axis=0)
    sizes = np.delete([len(group) for group in groups], own)
    ahead = groups[own].mean(axis=0) - means
    errors = np.sqrt(spread.variance * (1 / len(groups[own]) + 1 / sizes[:, None]))
    # Seeds that never differ in an objective leave no doubt; there, being as good will do.
    certain = np.where(ahead >= 0, 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(errors > 0, stdtr(spread.degrees, -ahead / errors), certain)
    p[((ahead <= 0) & (errors == 0)).all(axis=1)] = 1.0  # equals
    return min(1.0, float(p.max(axis=1).min()) * len(means))

"""A search's best proposal so far, in a few words for the line that people watch."""

from collections.abc import Iterable, Sequence

from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.best_so_far import value_in_words
from search.tuning.proposals import Proposal


def best_proposal(
    proposals: Iterable[Proposal], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> str:
    """Of the complete proposals that meet the constraints, the best in the first objective, with its other objectives;
    with several objectives the dense model only while there is no other. Empty where there is none."""
    first, *others = objectives
    wanted = [*(one.column for one in objectives), *(one.column for one in constraints)]
    found = []
    for one in proposals:
        means = _columns(one, wanted) if one.state == "complete" else {}
        if len(means) == len(set(wanted)) and all(c.violation(means[c.column]) <= 0 for c in constraints):
            found.append((not (others and one.dense), first.sign * means[first.column], means))
    if not found:
        return ""
    means = max(found, key=lambda one: one[:2])[2]
    words = [value_in_words(one.column, means[one.column]) for one in objectives]
    return words[0] + (f" at {', '.join(words[1:])}" if others else "")


def _columns(proposal: Proposal, names: Sequence[str]) -> dict[str, float]:
    """The means of these columns over the proposal's trials, without those that are not known."""
    if not proposal.values:
        known = proposal.told_means
    else:
        known = dict(zip(names, proposal.columns(names).mean(axis=0).tolist(), strict=True))
    return {name: known[name] for name in names if known.get(name, float("nan")) == known.get(name)}

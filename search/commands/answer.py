"""What a search has found, for a person to read: the front, and the model to use."""

from collections.abc import Sequence

import moocore
import numpy as np

from analysis.compute.answer import answer
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.commands.local_copy import local_copy
from search.store.storage import Store
from search.tuning.proposals import Proposal
from search.tuning.search import Search


def feasible(proposals: Sequence[Proposal], constraints: Sequence[Constraint]) -> list[Proposal]:
    """Those with a mean of every objective that keep all the constraints."""
    done = [one for one in proposals if one.state == "complete"]
    return [one for one in done if all(c.violation(one.means()[c.column]) <= 0 for c in constraints)]


def front(proposals: Sequence[Proposal], objectives: Sequence[Objective]) -> list[Proposal]:
    """Those that no other dominates in the means, the best in the first objective first."""
    if not proposals:
        return []
    means = [one.means() for one in proposals]
    costs = np.array([[-objective.sign * row[objective.column] for objective in objectives] for row in means])
    # Equals stay: moocore would keep one of them.
    kept = moocore.is_nondominated(costs, keep_weakly=True)
    return [proposals[place] for place in np.lexsort(costs.T[::-1]) if kept[place]]


def format_front(search: Search, proposals: Sequence[Proposal]) -> str:
    """A line for each proposal on the front."""
    found = front(feasible(proposals, search.constraints), search.objectives)
    told = [one for one in proposals if one.state == "complete"]
    lines = [f"front: {len(found)} of {len(told)} proposals that ended well"]
    for one in found:
        lines.append(f"  {_label(search, one)}: {_values(search, one)}")
    return "\n".join(lines)


def format_answer(store: Store) -> str:
    """The model to use, as `parsimony analyze` names it. Raises BadInput where the store cannot be read."""
    with local_copy(store) as folder:
        return "\n".join(answer(folder, str(store)))


def _label(search: Search, proposal: Proposal) -> str:
    config = proposal.configs[0]
    return f"proposal {proposal.number}, {config.combination}, lambda={config.strength:g}"


def _values(search: Search, proposal: Proposal) -> str:
    means, deviations = proposal.means(), proposal.deviations()
    columns = [one.column for one in search.objectives] + [one.column for one in search.all_constraints]
    shown = []
    for name in dict.fromkeys(columns):
        spread = f" ± {deviations[name]:.2g}" if name in deviations else ""
        shown.append(f"{name} {means[name]:.4g}{spread}")
    return ", ".join(shown)

"""What a search has found, for a person to read: the front, and the model to use."""

from collections.abc import Sequence

import moocore
import numpy as np

from analysis.compute.answer import answer
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.store.copies import local_copy
from search.store.storage import Store
from search.tuning.proposals import Proposal
from search.tuning.search import Search


def front(
    proposals: Sequence[Proposal], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> list[Proposal]:
    """The complete proposals that meet the constraints and whose means are not dominated; the best in the first
    objective comes first."""
    means = [(one, one.means()) for one in proposals if one.state == "complete"]
    means = [(one, row) for one, row in means if all(c.violation(row[c.column]) <= 0 for c in constraints)]
    if not means:
        return []
    costs = np.array([[-objective.sign * row[objective.column] for objective in objectives] for _, row in means])
    # keep_weakly: equal points all stay.
    kept = moocore.is_nondominated(costs, keep_weakly=True)
    return [means[place][0] for place in np.lexsort(costs.T[::-1]) if kept[place]]


def format_front(search: Search, proposals: Sequence[Proposal]) -> str:
    """A line for each proposal on the front."""
    found = front(proposals, search.objectives, search.constraints)
    complete = sum(one.state == "complete" for one in proposals)
    lines = [f"front: {len(found)} of {complete} complete proposals"]
    columns = [*(one.column for one in search.objectives), *(one.column for one in search.all_constraints)]
    for one in found:
        means, deviations = one.means(), one.deviations()
        values = [
            f"{name} {means[name]:.4g}" + (f" ± {deviations[name]:.2g}" if name in deviations else "")
            for name in dict.fromkeys(columns)
        ]
        named = f"proposal {one.number}, {one.configs[0].combination}, {one.strength}"
        lines.append(f"  {named}: {', '.join(values)}")
    return "\n".join(lines)


def format_answer(store: Store) -> str:
    """The model to use, as `parsimony analyze` names it. Raises BadInput if the store cannot be read."""
    with local_copy(store) as folder:
        return "\n".join(answer(folder, str(store)))

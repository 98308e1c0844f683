"""What a search has found, for a person to read: the front, and the command that trains the best model."""

import math
import shlex
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from search.config import SEARCHED_FIELDS
from search.constraints import Constraint
from search.lambda_search import Search
from search.objectives import Objective
from search.proposals import Proposal


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


def format_answer(search: Search, proposals: Sequence[Proposal], recipe: str, places: Sequence[str]) -> str:
    """One line: the best in the first objective under the constraints and the target, and how to train it.

    recipe: as the user named it; places: the options that say where data and results are.
    """
    best = front(feasible(proposals, search.all_constraints), search.objectives[:1])
    under = " and ".join(map(str, search.all_constraints))
    name = search.objectives[0].column
    if not best:
        lacks = f"no proposal has {under}; more --trials may find one" if under else "no proposal has ended well"
        return f"best {name}: {lacks}"
    chosen = best[0]
    where = f" with {under}" if under else ""
    command = _command(search, chosen, recipe, places)
    return f"best {name}{where}: {_label(search, chosen)}: {_values(search, chosen)}: {command}"


def _rank(search: Search, values: Mapping[str, float] | None) -> tuple[float, float]:
    """Of one seed: how far it is from keeping the constraints, then its first objective, less is better."""
    if values is None:
        return math.inf, math.inf
    missed = sum(max(0.0, one.violation(values[one.column])) for one in search.all_constraints)
    return missed, -search.objectives[0].sign * values[search.objectives[0].column]


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


def _command(search: Search, proposal: Proposal, recipe: str, places: Sequence[str]) -> str:
    """That trains the proposal's best model, or finds it done: of the seeds that keep the constraints, if any does."""
    config = min(proposal.configs, key=lambda one: _rank(search, proposal.values.get(one.trial_id)))
    fields = {"combinations": config.combination, "lambdas": repr(config.strength), "seeds": f"[{config.seed}]"}
    for name in ("penalty", *SEARCHED_FIELDS):
        value = getattr(config, name)
        if value != getattr(search.sweep.recipe, name):
            fields[name] = "[" + ",".join(map(repr, value)) + "]" if isinstance(value, tuple) else str(value)
    # A dense model is never retrained, whatever the recipe has.
    if config.strength and search.sweep.recipe.retraining != (config.retraining,):
        fields["retraining"] = config.retraining
    words = ["parsimony", "train", recipe, *places]
    words += [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    return shlex.join(words)

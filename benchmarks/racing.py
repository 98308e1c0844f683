"""How often racing drops what it should not, and how much it saves: `python -m benchmarks.racing`.

Simulated searches, no training. Proposals lie on a front, or behind it, in two objectives; they run one after the
other, each with a number of seeds. Values are normal about the true means. A proposal that no other dominates in the
true means should be dropped in at most 5 % of all cases; of what is dominated, racing saves the seeds left.

Worlds: "flat": all proposals are on the front, where one objective hardly differs and the other is hardly noisy, the
worst there is for racing. "half": neighbours on the front are a standard deviation apart, and every second proposal is
behind it, by 0 to 6 deviations. "unequal": as "half", and deviations grow to three times along the front. "recorded":
the means and deviations of so many λ of `benchmarks/recordings/rooms.parquet`.

Beside it what parsimony did before: the probability, from a posterior with a flat prior, that some other dominates,
looked at whenever any trial ends, at least 95 %.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_recording import FOLDER, read_recording
from search.tuning.racing import FEWEST, WRONG, p_not_dominated, pooled_variance

PROPOSALS, SEEDS = (6, 12, 24), (2, 3, 5)
DRAWS, SURE = 400, 0.95
Values = NDArray[np.float64]
Looks = Callable[[list[Values], int, int, np.random.Generator], bool]


def ours(groups: list[Values], own: int, seeds: int, random: np.random.Generator) -> bool:
    """Whether racing drops it at this look."""
    return p_not_dominated(groups, own) * (seeds - 1) <= WRONG


def posterior(groups: list[Values], own: int, seeds: int, random: np.random.Generator) -> bool:
    """The same by the probability that some other dominates."""
    spread = pooled_variance(groups)
    if spread.degrees < FEWEST:
        return False
    means = np.array([group.mean(axis=0) for group in groups])
    errors = np.sqrt(spread.variance / np.array([[len(group)] for group in groups]))
    draws = means + errors * random.standard_t(spread.degrees, size=(DRAWS, *means.shape))
    mine, others = draws[:, own : own + 1], np.delete(draws, own, axis=1)
    return bool((others < mine).all(axis=2).any(axis=1).mean() >= SURE)


# Which rule, and whether a proposal is looked at when any trial ends, or when one of its own does.
RULES: dict[str, tuple[Looks, bool]] = {"ours": (ours, False), "posterior, at each end": (posterior, True)}


def race(costs: Values, rule: Looks, at_each_end: bool, random: np.random.Generator) -> NDArray[np.int64]:
    """(proposals,) how many seeds of each were run; costs: (proposals, seeds, objectives) as they would turn out."""
    count, seeds, _ = costs.shape
    run, dropped = np.zeros(count, int), np.zeros(count, bool)
    for proposal in range(count):
        for _ in range(seeds):
            if dropped[proposal]:
                break
            run[proposal] += 1
            shown = np.flatnonzero(run)
            groups = [costs[one, : run[one]] for one in shown]
            for place, one in enumerate(shown):
                looked_at = one == proposal or at_each_end
                if looked_at and not dropped[one] and run[one] < seeds and rule(groups, place, seeds, random):
                    dropped[one] = True
    return run


def worlds(random: np.random.Generator, name: str, count: int) -> tuple[Values, Values]:
    """True means and standard deviations, (proposals, objectives) each; less is better."""
    place = random.permutation(np.linspace(0, 1, count))
    if name == "flat":
        return np.column_stack([0.01 * place, 1 - place]), np.column_stack([np.ones(count), np.full(count, 1e-3)])
    means = np.column_stack([place, 1 - place]) * count  # neighbours are one standard deviation apart
    deviations = np.ones_like(means)
    means[::2] += random.uniform(0, 6, size=(len(means[::2]), 1))
    if name == "unequal":
        deviations = np.repeat(1 + 2 * place[:, None], 2, axis=1)
    return means, deviations


def recorded(random: np.random.Generator, grid: tuple[Values, Values], count: int) -> tuple[Values, Values]:
    """Of as many λ of the recording, in an order of chance."""
    chosen = random.choice(len(grid[0]), size=count, replace=False)
    return grid[0][chosen], grid[1][chosen]


def recorded_grid() -> tuple[Values, Values]:
    recording = read_recording(FOLDER / "rooms.parquet")
    names, strengths = ("delta_m", "group_sparsity"), [strength for strength in recording.lambdas if strength]
    results = [[recording.result(strength, seed) for seed in recording.seeds] for strength in strengths]
    values = -np.array([[[one[name] for name in names] for one in of_seeds] for of_seeds in results])
    return values.mean(axis=1), values.std(axis=1, ddof=1)


def measure(world: str, count: int, seeds: int, searches: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """A row a rule: the share of undominated proposals that are dropped, and of the seeds of others that are saved."""
    grid = recorded_grid() if world == "recorded" else None
    totals = {name: np.zeros(4) for name in RULES}
    for _ in range(searches):
        means, deviations = recorded(random, grid, count) if grid else worlds(random, world, count)
        dominated = np.array([((means <= one).all(axis=1) & (means < one).any(axis=1)).any() for one in means])
        costs = means[:, None] + deviations[:, None] * random.normal(size=(count, seeds, 2))
        for name, (rule, at_each_end) in RULES.items():
            run = race(costs, rule, at_each_end, random)
            wrong, saved = (run < seeds)[~dominated], (seeds - run)[dominated]
            totals[name] += (wrong.sum(), wrong.size, saved.sum(), saved.size * (seeds - 1))
    rows = []
    for name, (wrong, undominated, saved, possible) in totals.items():
        share = wrong / undominated
        rows.append(
            {"world": world, "proposals": count, "seeds": seeds, "rule": name, "wrongly dropped": round(share, 4)}
            | {"error": round(float(np.sqrt(share * (1 - share) / undominated)), 4)}
            | {"saved of dominated": round(saved / possible, 3) if possible else None}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--searches", type=int, default=100, help="simulated of each kind (100)")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    rows = []
    for world in ("flat", "half", "unequal", "recorded"):
        for count in PROPOSALS:
            for seeds in SEEDS:
                rows += measure(world, count, seeds, options.searches, random)
        print(f"{world}: done", file=sys.stderr)
    if options.json:
        print(json.dumps({"searches": options.searches, "rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

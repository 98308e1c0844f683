"""Whether a recipe's compressors can reach its targets, known from the settings before anything runs."""

from collections.abc import Mapping, Sequence

from mtl.config import Compressor
from mtl.errors import BadInput
from mtl.networks.model_size import BLOCKS, count_macs, is_known
from mtl.networks.smaller import SIZES, least_macs, rounded_up, smallest_words
from mtl.tasks import Task
from search.recipe import Recipe

MOST_COUNTED = 8  # networks that are made only to be counted


def check_targets(recipe: Recipe, tasks: Mapping[str, Task]) -> None:
    """Raise BadInput where a compressor cannot make a network of the recipe smaller, or not as small as a target."""
    for compressor in recipe.compressors:
        if compressor in SIZES and recipe.weights:
            raise BadInput(
                f"weights = {recipe.weights} with compressor {compressor}, whose networks are smaller than that of the "
                f"weights; allowed: no weights, or compressors without {compressor}"
            )
        if compressor == "penalty" or not recipe.targets:
            continue
        if compressor in SIZES and recipe.network in BLOCKS and len(SIZES[compressor](recipe)) == 1:
            raise BadInput(
                f"compressors has {compressor}, but the network has {smallest_words(compressor, recipe)}; "
                f"allowed: {compressor} with a larger network"
            )
        least, combination = least_share(recipe, compressor, tasks, recipe.task_combinations)
        if (target := min(recipe.targets)) < least:
            raise BadInput(
                f"targets has {target:g}, which compressor {compressor} cannot reach; allowed: {rounded_up(least):g} "
                f"or more, what {combination} costs with {smallest_words(compressor, recipe)}"
            )


def least_share(
    recipe: Recipe, compressor: Compressor, tasks: Mapping[str, Task], combinations: Sequence[Sequence[str]]
) -> tuple[float, str]:
    """The smallest share of their multiply-accumulates that the compressor can keep of all of these combinations, and
    the combination that allows no less."""

    def costs(some: Sequence[Task]) -> tuple[int, int]:
        return least_macs(compressor, recipe, some), count_macs(recipe, some)

    if not is_known(recipe):
        # Each combination's network is made to be counted: the largest and single tasks tell enough, and a trial checks
        # its own.
        largest = max(combinations, key=len)
        few = dict.fromkeys([tuple(largest), *(tuple(one) for one in combinations if len(one) == 1)][:MOST_COUNTED])
        counted = [(costs([tasks[name] for name in one]), "+".join(one)) for one in few]
        return max((least / full, name) for (least, full), name in counted)
    # The backbone's cost and its heads' add up, so that thousands of combinations take no time.
    backbone_least, backbone = costs([])
    heads = {}
    for name in recipe.tasks:
        least, full = costs([tasks[name]])
        heads[name] = least - backbone_least, full - backbone
    shares = []
    for combination in combinations:
        least = backbone_least + sum(heads[name][0] for name in combination)
        full = backbone + sum(heads[name][1] for name in combination)
        shares.append((least / full, "+".join(combination)))
    return max(shares)

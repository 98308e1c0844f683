"""A model without what its zeros make superfluous."""

from typing import Literal, get_args

from torch import Tensor, fx, nn

from mtl.compaction.build import with_tensors
from mtl.compaction.channels import find_constants, find_live
from mtl.compaction.choice import MeasuredChoice, faster_format, with_format
from mtl.compaction.fold import biases_to_norms, fold_norms, fold_scales, fold_shifts
from mtl.compaction.graph import Program
from mtl.compaction.rewrite import Chooser, rewrite
from mtl.compaction.trace import trace
from mtl.errors import BadInput

Selections = Literal["measured", "always", "never"]
MemoryFormat = Literal["measured", "contiguous", "channels_last"]
CHOICES: dict[str, Chooser] = {"always": lambda *_: True, "never": lambda *_: False}


def compact(
    model: nn.Module,
    example_input: Tensor,
    *,
    fold: bool = True,
    selections: Selections = "measured",
    memory_format: MemoryFormat = "measured",
) -> fx.GraphModule:
    """A smaller network with the model's outputs in eval mode; the model itself stays as it is.

    Removed are filters that nothing reads, with their norms and all that only they read; branches that are zero or
    constant, of which a number for each channel is left; and constant channels, which go into the next bias. A constant
    that a padded convolution reads stays, because it differs at the borders. An input channel that one convolution
    needs and another does not is kept, and the other reads a selection without it.

    Args:
        example_input: images (N, 3, H, W) as the model will get them, on its device; other N, H and W do as well later.
        fold: batch norms go into the convolutions before them, and dropout goes. False keeps both, to train further.
        selections: where a layer uses a part of its input's channels, whether they are copied out first: "measured"
            where that is faster on the example input; "always", which leaves no weight that is zero by construction and
            is the architecture to train again; or "never". Additions along a narrowing residual stream always select.
        memory_format: which the result brings its input into; "measured": that in which it is faster on the example.

    With neither measured the result is the same on every machine. It is in eval mode, can be copied, exported and
    saved (`mtl.compaction.saving`), and its `meta["plan"]` describes it. Raises BadInput for a model that cannot be
    traced, naming the module or operation, and for one that is compact already.
    """
    for name, value, allowed in (
        ("selections", selections, get_args(Selections)),
        ("memory_format", memory_format, get_args(MemoryFormat)),
    ):
        if value not in allowed:
            raise BadInput(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    program = trace(model, example_input)
    for node in program.values():
        if node.op in ("select", "format"):
            what = "a selection of channels" if node.op == "select" else "a change of memory format"
            raise BadInput(f"{node.name}: {what}, as compact models have; allowed: a model that is not compact yet")
    if fold:
        program = fold_scales(fold_norms(program))
    constants = find_constants(program)
    live = find_live(program, constants)

    def compacted(choose: Chooser) -> Program:
        small = rewrite(program, constants, live, choose)
        return fold_shifts(fold_scales(small) if fold else small)

    measured_format = memory_format == "measured"
    layout = faster_format(compacted(CHOICES["never"]), example_input) if measured_format else memory_format
    result = compacted(CHOICES.get(selections) or MeasuredChoice(len(example_input), layout))
    return with_tensors(with_format(biases_to_norms(result), layout))


def fold_compact(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    """A model with compact parts and nothing left to remove as one compact network, its batch norms folded."""
    return with_tensors(fold_shifts(fold_scales(fold_norms(trace(model, example_input)))))

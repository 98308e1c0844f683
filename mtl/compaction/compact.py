"""A model without what its zeros make superfluous."""

from typing import Literal, get_args

from torch import Tensor, fx, nn

from mtl.compaction.build import with_tensors
from mtl.compaction.choice import MeasuredChoice, faster_format, with_format
from mtl.compaction.constants import find_constants
from mtl.compaction.fold import biases_to_norms, fold_norms, fold_shifts
from mtl.compaction.graph import Program
from mtl.compaction.liveness import find_live
from mtl.compaction.rewrite import Chooser, rewrite
from mtl.compaction.trace import trace
from mtl.errors import BadInput

Selections = Literal["measured", "always", "never"]
MemoryFormat = Literal["measured", "contiguous", "channels_last"]


def _always(*_: object) -> bool:
    return True


def _never(*_: object) -> bool:
    return False


CHOICES: dict[str, Chooser] = {"always": _always, "never": _never}


def compact(
    model: nn.Module,
    example_input: Tensor,
    *,
    fold: bool = True,
    selections: Selections = "measured",
    memory_format: MemoryFormat = "measured",
) -> fx.GraphModule:
    """A smaller network with the model's outputs in eval mode; the model itself stays as it is.

    Gone are the filters that nothing reads, with their norms and all that only they read; the branches that are zero or
    constant, of which a number a channel is left; and constant channels, which go into the next bias. A constant that a
    padded convolution reads stays, because it differs at the borders. An input channel that counts for nothing in one
    convolution and for something in another is kept, and the first reads a selection of the others.

    example_input: images (N, 3, H, W) as the model will get them, on its device; the result also takes other N, H and W
    fold: batch norms go into the convolutions before them, and dropout goes. False keeps both, for further training.
    selections: where a layer reads a part of its input's channels, whether it is copied out first: "measured" where
        that is faster on the example input; "always", which leaves no weight that is zero by construction and is the
        architecture to train again; or "never". Additions along a residual stream that narrows always select.
    memory_format: into which the result brings its input; "measured": the one in which it is faster on the example.

    With neither measured the result is the same on every machine. It is in eval mode, can be copied, exported and
    saved (`mtl.compaction.saving`), and its `meta["plan"]` describes it. Raises BadInput for a model that cannot be
    traced, naming the module or operation.
    """
    for name, value, allowed in (
        ("selections", selections, get_args(Selections)),
        ("memory_format", memory_format, get_args(MemoryFormat)),
    ):
        if value not in allowed:
            raise BadInput(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    program = trace(model, example_input)
    if fold:
        program = fold_norms(program)
    constants = find_constants(program)
    live = find_live(program, constants)

    def compacted(choose: Chooser) -> Program:
        return fold_shifts(rewrite(program, constants, live, choose))

    measured_format = memory_format == "measured"
    layout = faster_format(compacted(_never), example_input) if measured_format else memory_format
    measured = MeasuredChoice(len(example_input), layout)
    result = compacted(CHOICES.get(selections, measured))
    return with_tensors(with_format(biases_to_norms(result), layout))

"""How large a trial's network is, computed from its settings: to make the network could take all memory.

The counts are those of the networks of `mtl.networks.model.build_full`; a test compares the two. Our ResNets with
DeepLabV3's heads are counted by formulas, without torch; others are made without their numbers
(`mtl.networks.built_size`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtl.config import Compressor, TrialSettings
from mtl.tasks import OUTPUT_STRIDE, Task

if TYPE_CHECKING:
    from mtl.networks.built_size import Size

# By backbone: whether its blocks are bottlenecks, and the published numbers of blocks.
BLOCKS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}


@dataclass(frozen=True)
class Layer:
    """A convolution with its batch norm, whose output is `stride` times smaller than the image in both directions.

    sources: what it reads at least: the image's channels, or one channel of each layer that it reads.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    sources: int = 1

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs * self.kernel**2 + 2 * self.outputs


def count_parameters(settings: TrialSettings, tasks: Sequence[Task]) -> int:
    """Of the backbone and a head for each task."""
    if not is_known(settings):
        return _built(settings, tasks).parameters
    channels = settings.head_channels
    count = sum(layer.parameters for layer in _layers(settings, tasks))
    for task in tasks:
        # A dense head ends in one convolution, the head for a label of the whole image in two linear layers.
        count += channels * task.channels + task.channels + (0 if task.dense else channels**2 + channels)
    return count


def count_activations(settings: TrialSettings, tasks: Sequence[Task]) -> int:
    """Numbers of one image that a forward pass keeps for the backward pass, at least: the inputs of norms."""
    if not is_known(settings):
        return _built(settings, tasks).activations
    return sum(layer.outputs * _pixels(settings, layer.stride) for layer in _layers(settings, tasks))


def count_macs(settings: TrialSettings, tasks: Sequence[Task]) -> int:
    """Multiply-accumulates of one image, as `mtl.networks.measurement.count_macs` counts them."""
    if not is_known(settings):
        return _built(settings, tasks).macs
    layers = ((layer.inputs * layer.outputs, layer) for layer in _layers(settings, tasks))
    return _macs(settings, tasks, layers, settings.head_channels)


def fewest_macs(settings: TrialSettings, tasks: Sequence[Task], compressor: Compressor = "selection") -> int:
    """Those of the network with a single channel in each layer that the compressor takes channels of; what a head gives
    stays. Raises BadInput for a network that it cannot treat."""
    if not is_known(settings):
        from mtl.networks.built_size import smallest_macs

        return smallest_macs(settings, tasks, compressor)
    return _macs(settings, tasks, ((layer.sources, layer) for layer in _layers(settings, tasks)), 1)


def is_known(settings: TrialSettings) -> bool:
    """Whether formulas give the sizes."""
    return settings.network in BLOCKS and settings.head == "deeplabv3"


def _built(settings: TrialSettings, tasks: Sequence[Task]) -> "Size":
    # Imported only for such networks: a driver of many trials need not hold torch in memory.
    from mtl.networks.built_size import size

    return size(settings, tasks)


def _macs(
    settings: TrialSettings, tasks: Sequence[Task], layers: Iterable[tuple[int, Layer]], head_channels: int
) -> int:
    """layers: each with how many pairs of a channel read and one written it has."""
    count = sum(pairs * layer.kernel**2 * _pixels(settings, layer.stride) for pairs, layer in layers)
    for task in tasks:
        # See `count_parameters`.
        outputs = head_channels * task.channels
        count += outputs * _pixels(settings, OUTPUT_STRIDE) if task.dense else head_channels**2 + outputs
    return count


def _pixels(settings: TrialSettings, stride: int) -> int:
    height, width = settings.image_size
    return math.ceil(height / stride) * math.ceil(width / stride)


def _layers(settings: TrialSettings, tasks: Sequence[Task]) -> Iterator[Layer]:
    width, (bottleneck, published) = settings.backbone_width, BLOCKS[settings.backbone]
    yield Layer(3, width, 7, 2, sources=3)
    inputs = width
    for stage, blocks in enumerate(settings.backbone_layers or published):
        inner = width * 2**stage
        outer = 4 * inner if bottleneck else inner
        stride = 4 if stage == 0 else OUTPUT_STRIDE
        for block in range(blocks):
            # The first block of a stage reads the stage before, whose maps may be larger.
            before = 4 if stage == 1 and block == 0 else stride
            if bottleneck:
                yield from (Layer(inputs, inner, 1, before), Layer(inner, inner, 3, stride))
                yield Layer(inner, outer, 1, stride)
            else:
                yield from (Layer(inputs, inner, 3, stride), Layer(inner, outer, 3, stride))
            if block == 0 and (inputs != outer or stage > 0):
                yield Layer(inputs, outer, 1, stride)
            inputs = outer
    channels = settings.head_channels
    for task in tasks:
        if task.dense:
            yield Layer(inputs, channels, 1, OUTPUT_STRIDE)
            yield from (Layer(inputs, channels, 3, OUTPUT_STRIDE) for _ in settings.head_rates)
            # The mean over the whole image is one pixel.
            yield Layer(inputs, channels, 1, max(settings.image_size))
            branches = 2 + len(settings.head_rates)
            yield Layer(branches * channels, channels, 1, OUTPUT_STRIDE, sources=branches)
            yield Layer(channels, channels, 3, OUTPUT_STRIDE)
        else:
            yield Layer(inputs, channels, 3, OUTPUT_STRIDE)

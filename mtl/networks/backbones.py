"""The shared backbone: torchvision's ResNets, dilated to output stride 8, at any width and depth."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, conv3x3

from mtl.errors import BadInput
from mtl.networks.model_size import BLOCKS
from mtl.networks.strided import safe_convolution


class DilatedBasicBlock(nn.Module):
    """torchvision's BasicBlock with the dilation that torchvision refuses; the parameters have the same names."""

    expansion = BasicBlock.expansion

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inplanes, planes, stride, dilation=dilation)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes, dilation=dilation)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + identity)


class DilatedResNet(ResNet):
    """(N, 3, H, W) images -> (N, out_channels, H / 8, W / 8) features, sizes rounded up.

    At width 64 it is `torchvision.models.resnetXX(replace_stride_with_dilation=[False, True, True])` without its
    classifier, the state dict included. `width` is the number of channels of the stem, from which all others follow
    (width 16: a quarter of the channels); `layers` the number of blocks of each of the four stages.
    """

    def __init__(self, name: str, width: int = 64, layers: Sequence[int] | None = None) -> None:
        if name not in BLOCKS:
            raise BadInput(f"backbone: {name!r}; allowed: {', '.join(BLOCKS)}")
        # ResNet.__init__ has fixed widths; only _make_layer, which takes them, is used.
        nn.Module.__init__(self)
        bottleneck, published = BLOCKS[name]
        block: type[DilatedBasicBlock] | type[Bottleneck] = Bottleneck if bottleneck else DilatedBasicBlock
        blocks = tuple(layers or published)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = width, 1, 1, 64
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, width, blocks[0])
        self.layer2 = self._make_layer(block, 2 * width, blocks[1], stride=2)
        self.layer3 = self._make_layer(block, 4 * width, blocks[2], stride=2, dilate=True)
        self.layer4 = self._make_layer(block, 8 * width, blocks[3], stride=2, dilate=True)
        shortcut = self.layer2[0].downsample  # the one with a stride
        shortcut[0] = safe_convolution(shortcut[0])
        self.out_channels: int = 8 * width * block.expansion
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The last one of the last block's residual branch, on which all features depend."""
        block = self.layer4[-1]
        layer = block.conv3 if isinstance(block, Bottleneck) else block.conv2
        assert isinstance(layer, nn.Conv2d)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

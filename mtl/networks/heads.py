"""A head for each task, on the shared features."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from mtl.config import TrialSettings
from mtl.tasks import Task


class DenseHead(nn.Sequential):
    """DeepLabV3 (Chen et al. 2017): (N, C, h, w) features -> (N, task.channels, h, w).

    With 256 channels and rates 12, 24, 36 it is torchvision's DeepLabHead. Fewer channels suit small backbones, and
    smaller rates suit small feature maps: where a rate is beyond the side of the map, only padding is read.
    """

    def __init__(self, in_channels: int, task: Task, channels: int, rates: Sequence[int]) -> None:
        super().__init__(
            ASPP(in_channels, rates, channels),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, task.channels, kernel_size=1),
        )


class ClassificationHead(nn.Module):
    """One convolution and two linear layers: (N, C, h, w) features -> (N, task.channels) logits."""

    def __init__(self, in_channels: int, task: Task, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, task.channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))


class LightHead(nn.Module):
    """LR-ASPP (Howard et al. 2019, section 6.4) on one map: (N, C, h, w) features -> (N, task.channels, h, w).

    A 1 x 1 convolution, each channel weighted by a gate of the mean over the whole image. The authors' second branch
    reads a finer map, which a backbone of output stride 8 makes superfluous; theirs has 16 or 32 there.
    """

    def __init__(self, in_channels: int, task: Task, channels: int) -> None:
        super().__init__()
        self.branch = _block(in_channels, channels, 1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1, bias=False), nn.Sigmoid()
        )
        self.classifier = nn.Conv2d(channels, task.channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.branch(x) * self.gate(x))


class PyramidHead(nn.Sequential):
    """On the map of a pyramid (`mtl.networks.pyramid`): (N, C, h, w) features -> (N, task.channels, h, w)."""

    def __init__(self, in_channels: int, task: Task, channels: int) -> None:
        super().__init__(_block(in_channels, channels, 3), nn.Conv2d(channels, task.channels, kernel_size=1))


def _block(in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def make_head(in_channels: int, task: Task, settings: TrialSettings) -> nn.Module:
    """The head for the task's kind, and of the recipe's kind where the task is dense."""
    channels = settings.head_channels
    if not task.dense:
        return ClassificationHead(in_channels, task, channels)
    match settings.head:
        case "deeplabv3":
            return DenseHead(in_channels, task, channels, settings.head_rates)
        case "lraspp":
            return LightHead(in_channels, task, channels)
        case "fpn":
            return PyramidHead(in_channels, task, channels)

"""A head for each task, on the shared features."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

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


def make_head(in_channels: int, task: Task, channels: int, rates: Sequence[int]) -> nn.Module:
    """The head for the task's kind."""
    if task.dense:
        return DenseHead(in_channels, task, channels, rates)
    return ClassificationHead(in_channels, task, channels)

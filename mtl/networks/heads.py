"""One head a task, on the shared features."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from mtl.tasks import Task


class DenseHead(nn.Sequential):
    """DeepLabV3 (Chen et al. 2017): (N, C, h, w) features -> (N, task.channels, h, w).

    At 256 channels and rates 12, 24, 36 it is torchvision's DeepLabHead; narrower ones suit small backbones, smaller
    rates small feature maps (a rate beyond the map's side sees padding only).
    """

    def __init__(self, in_channels: int, task: Task, channels: int, rates: Sequence[int]) -> None:
        super().__init__(
            ASPP(in_channels, rates, channels),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, task.channels, kernel_size=1),
        )

    @property
    def output(self) -> nn.Conv2d:
        """The last layer, whose bias is what the head says before it has learnt anything."""
        layer = self[-1]
        assert isinstance(layer, nn.Conv2d)
        return layer


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

    @property
    def output(self) -> nn.Linear:
        """The last layer, whose bias is what the head says before it has learnt anything."""
        layer = self.classifier[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))


def make_head(in_channels: int, task: Task, channels: int, rates: Sequence[int]) -> DenseHead | ClassificationHead:
    """The head that suits the task's kind."""
    return (
        DenseHead(in_channels, task, channels, rates) if task.dense else ClassificationHead(in_channels, task, channels)
    )

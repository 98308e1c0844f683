"""A feature pyramid (Lin et al. 2017, arXiv 1612.03144) that gives one map: what the heads of all tasks share."""

from torch import Tensor, nn
from torch.nn import functional as F

from mtl.networks.timm_backbones import TimmBackbone


class PyramidBackbone(nn.Module):
    """(N, 3, H, W) images -> (N, out_channels, h, w), a map of the finest of the network's strides from 8 on.

    From the coarsest map to the finest: each is brought to `out_channels` by a 1 x 1 convolution, and the sum of the
    coarser ones, enlarged, is added. A single map is the pyramid's output, so that heads read it as any other
    backbone's; a 3 x 3 convolution follows in each head (`mtl.networks.heads.PyramidHead`).
    """

    def __init__(self, network: TimmBackbone, channels: int) -> None:
        super().__init__()
        self.network = network
        self.laterals = nn.ModuleList(nn.Conv2d(own, channels, kernel_size=1) for own in network.map_channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Tensor:
        maps = self.network.maps(images)
        coarser: Tensor | None = None
        for lateral, one in zip(reversed(self.laterals), reversed(maps), strict=True):
            own = lateral(one)
            coarser = own if coarser is None else own + F.interpolate(coarser, size=one.shape[-2:], mode="bilinear")
        assert coarser is not None
        return coarser

"""Small networks of the families that compaction knows, from timm, and random zeros in them."""

import timm
import torch
from torch import Tensor, nn

_WIDTHS = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 48)}
# A small one of each family, some of them without their last stages.
NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "mobilenetv3": ("mobilenetv3_small_050", {}),
    "efficientnet": ("mnasnet_small", {"out_indices": (3,)}),
    "lite": ("mobilenetv2_035", {"out_indices": (3,)}),
    "convnext": ("convnext_tiny", _WIDTHS),
    "convnextv2": ("convnextv2_atto", _WIDTHS),
    "regnetx": ("regnetx_002", {"out_indices": (3,)}),
    "regnety": ("regnety_002", {"out_indices": (3,)}),
    "resnet": ("seresnet18", {"out_indices": (2,)}),
}


class Features(nn.Module):
    """One map of a timm network, the last if not said, and a 1 x 1 convolution of it: {"map": (N, 2, h, w)}."""

    def __init__(self, name: str, **settings: object) -> None:
        super().__init__()
        settings = {"features_only": True, "out_indices": (-1,), "pretrained": False, **settings}
        self.net = timm.create_model(name, **settings)
        self.head = nn.Conv2d(self.net.feature_info.channels()[-1], 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"map": self.head(self.net(x)[0])}


class Vision(nn.Module):
    """A ViT of timm as a map of features, and a 1 x 1 convolution of it: {"map": (N, 2, h, w)}."""

    def __init__(self, name: str = "vit_tiny_patch16_224", **settings: object) -> None:
        super().__init__()
        self.vit = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **settings)
        self.head = nn.Conv2d(self.vit.embed_dim, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        height, width = self.vit.patch_embed.grid_size
        tokens = self.vit.forward_features(x)[:, self.vit.num_prefix_tokens :]
        features = tokens.transpose(1, 2).reshape(x.shape[0], self.vit.embed_dim, height, width)
        return {"map": self.head(features)}


def small_vit(**settings: object) -> Vision:
    """2 blocks, 3 heads of 8, 16 tokens of images 64 x 64."""
    return Vision("vit_tiny_patch16_224", **{"img_size": 64, "depth": 2, "embed_dim": 24, **settings})


def small_network(family: str) -> nn.Module:
    """Of a family, or "vit"."""
    name, settings = NETWORKS.get(family, ("", {}))
    return Features(name, **settings) if name else small_vit()


def random_state(model: nn.Module, seed: int) -> None:
    """Weights and statistics that are nowhere alike, so that an error shows; few of them are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            if name.endswith("running_var"):
                tensor.copy_(0.3 + noise.abs())
            elif tensor.ndim == 1:
                tensor.copy_(0.3 * noise if name.endswith(("bias", "running_mean")) else 1 + 0.3 * noise)
            elif tensor.ndim > 1 and name.endswith("weight"):
                fan = tensor[0].numel()
                tensor.copy_(noise * (2 / fan) ** 0.5)
            else:
                tensor.copy_(0.3 * noise)


def zero_groups(model: nn.Module, share: float, seed: int) -> None:
    """Make a share of each layer's groups zero: input channels, or heads of an attention's projection."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and not name.startswith("head"):
                zero_layer(name, module, share, generator)


def zero_layer(name: str, module: nn.Module, share: float, generator: torch.Generator) -> None:
    groups = getattr(module, "groups", 1)
    channels = getattr(module, "in_channels", None) or module.in_features
    if channels <= 4:  # the images
        return
    weight = module.weight
    if name.endswith("attn.proj"):
        size = channels // 3
        heads = torch.rand(3, generator=generator) < share
        weight[:, heads.repeat_interleave(size)] = 0
        return
    zero = torch.rand(channels, generator=generator) < share
    if isinstance(module, nn.ConvTranspose2d):
        weight[zero] = 0
        return
    width = channels // groups
    for c in zero.nonzero().flatten().tolist():
        group, own = divmod(c, width)
        rows = len(weight) // groups
        weight[group * rows : (group + 1) * rows, own] = 0

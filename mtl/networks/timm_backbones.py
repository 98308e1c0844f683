"""timm's networks as backbones: without their classifiers, and with output stride 8 where timm offers it."""

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mtl.config import TrialSettings
from mtl.errors import BadInput
from mtl.network_fields import TIMM
from mtl.networks.measurement import run_on_meta
from mtl.networks.same_padding import make_traceable
from mtl.own_code import MOST_SHOWN, first_line

INSTALL = "pip install 'parsimony[timm]'"
CLOSEST = 5
FINEST = 8  # the output stride that is asked for unless a recipe says otherwise: that of our ResNets
# Options that a recipe may not give: those that are ours to give, and those that read files or download.
RESERVED = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"),
    *("feature_cls", "feature_cfg", "out_indices", "output_stride", "img_size", "in_chans", "num_classes"),
    *("scriptable", "exportable", "no_jit", "global_pool", "dynamic_img_size", "device", "dtype"),
}


class TimmBackbone(nn.Module):
    """(N, 3, H, W) images -> (N, out_channels, h, w), the last map of timm's `network`, whose own names are kept.

    A convolutional network gives the map before its head. A vision transformer gives its normed patch tokens as a map
    of H / patch by W / patch, and takes images of `image_size` alone, as its positions are learned for one size.

    levels: whether `maps` gives more maps than the last: of each stride from 8 on the last one.
    Attributes: map_channels, map_sizes (height, width), strides: of what `maps` gives.
    Raises BadInput for a network that gives no such map, and whatever the network raises for images of this size.
    """

    def __init__(self, network: nn.Module, image_size: tuple[int, int], levels: bool = False) -> None:
        super().__init__()
        self.network = network
        info: Any = network.feature_info
        entries = info.get_dicts() if hasattr(info, "get_dicts") else list(info)
        self._tokens = _is_vision_transformer(network)
        self._gives_list = not hasattr(network, "forward_intermediates")
        self._indices = _levels(entries) if levels else [len(entries) - 1]
        self.strides = [entries[index]["reduction"] for index in self._indices]
        if hasattr(network, "prune_intermediate_layers"):
            # What comes after the last map: the head, and but for tokens the norm of what it pools.
            network.prune_intermediate_layers([self._indices[-1]], prune_norm=not self._tokens)  # type: ignore[operator]
        make_traceable(network)
        self._grid = network.patch_embed.grid_size if self._tokens else None  # type: ignore[union-attr]
        maps = run_on_meta(_Maps(self), image_size, torch.no_grad())
        if any(len(one.shape) != 4 or 0 in one.shape for one in maps):
            raise BadInput(f"gives maps of shape {tuple(maps[-1].shape)}; allowed: (N, channels, height, width)")
        self.map_channels = [one.shape[1] for one in maps]
        self.map_sizes = [(one.shape[2], one.shape[3]) for one in maps]
        self.out_channels: int = self.map_channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)[-1]

    def maps(self, images: Tensor) -> list[Tensor]:
        """From the finest to the coarsest, the last one of the network last."""
        network: Any = self.network
        if self._tokens:
            return [self._patches(images)]
        if self._gives_list:
            found = network(images)
            return [found[index] for index in self._indices]
        maps: list[Tensor] = network.forward_intermediates(images, indices=self._indices, intermediates_only=True)
        return maps

    def _patches(self, images: Tensor) -> Tensor:
        """As timm's forward_intermediates with norm=True, but nothing of it depends on the images' size, so that it
        can be traced."""
        network: Any = self.network
        patches = network.patch_embed
        tokens = patches.norm(patches.proj(images).flatten(2).transpose(1, 2))
        tokens = network.norm_pre(network.patch_drop(network._pos_embed(tokens)))
        tokens = network.norm(network.blocks(tokens))
        return tokens[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, self._grid)


class _Maps(nn.Module):
    """All maps of a backbone as a module's output."""

    def __init__(self, backbone: TimmBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.backbone.maps(images)


def make_timm_backbone(settings: TrialSettings) -> TimmBackbone:
    """The untrained network that `backbone` names. Raises BadInput, one line."""
    what = f"backbone {settings.backbone}"
    network = timm_network(settings)
    if _is_vision_transformer(network):
        sides: Any = network.patch_embed.patch_size  # type: ignore[union-attr]
        if any(length % side for length, side in zip(settings.image_size, sides, strict=True)):
            raise BadInput(
                f"image_size = {list(settings.image_size)} with {what}, whose patches are {sides[0]} x {sides[1]} "
                "pixels; allowed: multiples of these"
            )
    try:
        made = TimmBackbone(network, settings.image_size, levels=settings.head == "fpn")
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    # timm's networks raise errors of every kind for images that do not fit them.
    except Exception as error:
        height, width = settings.image_size
        raise BadInput(
            f"image_size = [{height}, {width}] with {what}: it takes no such images ({_line(error)}); allowed: a size "
            "that it takes"
        ) from error
    if settings.output_stride not in (None, made.strides[-1]):
        raise BadInput(f"output_stride = {settings.output_stride} with {what}; allowed: {made.strides[-1]}")
    return made


def timm_network(settings: TrialSettings, pretrained: bool = False) -> nn.Module:
    """timm's network without classifier, with the finest output stride that is wanted and offered.

    pretrained: with timm's weights; then errors are raised as they come. Raises BadInput.
    """
    timm, name, options = import_timm(settings.backbone), timm_name(settings), timm_options(settings)
    # A pyramid reads maps of different strides.
    wanted = settings.output_stride or (None if settings.head == "fpn" else FINEST)
    ways: list[dict[str, Any]] = [{}]
    if wanted:
        # MobileNetV3 has it only in the class that gives its features.
        ways = [{"output_stride": wanted}, {"output_stride": wanted, "features_only": True}, {}]
    for way in ways:
        try:
            with torch.device("meta") if pretrained else nullcontext():
                network: nn.Module = timm.create_model(name, num_classes=0, **options, **way)
        # What timm raises for arguments that a network does not have, or that do not fit each other, is of every kind.
        except Exception as error:
            if way == ways[-1]:
                raise BadInput(
                    f"backbone_options = {_shown(settings)} with backbone {settings.backbone} and image_size = "
                    f"{list(settings.image_size)}: {_line(error)}; allowed: arguments that timm takes for it"
                ) from error
            continue
        if "features_only" in way and hasattr(network, "hooks"):  # a list that hooks fill cannot be traced
            continue
        if not pretrained:
            return network
        loaded: nn.Module = timm.create_model(name, num_classes=0, pretrained=True, **options, **way)
        return loaded
    raise AssertionError("the last way gives a network or raises")


def timm_name(settings: TrialSettings) -> str:
    """The name of the architecture, with the tag of its weights if one is given. Raises BadInput."""
    timm = import_timm(settings.backbone)
    name = settings.backbone.removeprefix(TIMM)
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        close = difflib.get_close_matches(name, known, n=CLOSEST, cutoff=0.5)
        hint = f"close: {', '.join(close)}; " if close else ""
        raise BadInput(
            f"backbone {settings.backbone}: timm {timm.__version__} has no such network; {hint}allowed: timm: and a "
            f"name of timm.list_models(), which has {len(known):,}"
        )
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        tags = [one.partition(".")[2] for one in timm.list_models(name.partition(".")[0], pretrained=True)]
        raise BadInput(
            f"backbone {settings.backbone}: {_line(error)}; allowed: no tag, or one of {', '.join(filter(None, tags))}"
        ) from error
    return name


def import_timm(backbone: str) -> ModuleType:
    """The package. Raises BadInput where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise BadInput(f"backbone {backbone}: timm is not installed; allowed: after {INSTALL}") from error
    module: ModuleType = timm
    return module


def timm_options(settings: TrialSettings) -> dict[str, Any]:
    """The recipe's options, and the size of the images for a network that is made for one. Raises BadInput."""
    options: dict[str, Any] = dict(settings.backbone_options)
    for option in options:
        if option in RESERVED:
            raise BadInput(
                f"backbone_options: {option!r}; allowed for {settings.backbone}: arguments of its class but "
                f"{', '.join(sorted(RESERVED))}"
            )
    cfg = import_timm(settings.backbone).get_pretrained_cfg(timm_name(settings), allow_unregistered=False)
    return options | ({"img_size": settings.image_size} if cfg.fixed_input_size else {})


def _levels(entries: Sequence[dict[str, Any]]) -> list[int]:
    """Of each stride from 8 on the last map; the very last one where there are none."""
    strides = [(entry["reduction"], index) for index, entry in enumerate(entries)]
    return [[*group][-1][1] for stride, group in groupby(strides, key=lambda one: one[0]) if stride >= FINEST] or [
        len(entries) - 1
    ]


def _is_vision_transformer(network: nn.Module) -> bool:
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    return type(network) is VisionTransformer and type(network.patch_embed) is PatchEmbed


def _shown(settings: TrialSettings) -> str:
    return str(dict(settings.backbone_options))[:MOST_SHOWN]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:MOST_SHOWN]

"""Pretrained backbones: from a file or by name, checked before use, and identified by their content."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from mtl.config import TrialConfig, TrialSettings
from mtl.errors import BadInput
from mtl.network_fields import RESNETS
from mtl.networks import timm_weights
from mtl.networks.built_size import build_on_meta
from mtl.networks.checkpoint import is_model_content
from mtl.networks.pyramid import PyramidBackbone
from mtl.networks.tensor_file import misfit, read_tensors, shown, tensor_fault, unquoted
from mtl.networks.timm_backbones import TimmBackbone
from mtl.own_code import first_line
from mtl.paths import user_path

TORCHVISION_NAME = re.compile(r"\w+_Weights\.\w+")
OF_TIMM = "timm"  # the weights that timm has for its network
CONTENT = "a state dict (names and tensors), or a trial's model.pt"
ALLOWED = (
    "a state dict's path or a torchvision name such as ResNet50_Weights.IMAGENET1K_V2; with timm's backbones also timm"
)


def absolute_weights(weights: str) -> str:
    """The same file from any working directory; names as they are."""
    return weights if _is_name(weights) else str(user_path("weights =", weights).absolute())


def _is_name(weights: str) -> bool:
    return weights == OF_TIMM or bool(TORCHVISION_NAME.fullmatch(weights))


def weights_version(weights: str, settings: TrialSettings | None = None) -> str:
    """What identifies the weights' content, wherever they lie.

    Of a file the first 16 hexadecimal digits of the SHA-256 of its bytes; of a torchvision name the name of the file
    that it stands for, which ends in the first digits of that file's SHA-256 (`resnet50-11ad3fa6`); of timm's own
    weights the network's name with their tag, which `settings` say. Raises BadInput.
    """
    if weights == OF_TIMM and settings is not None:
        return timm_weights.version(settings)
    if TORCHVISION_NAME.fullmatch(weights):
        return Path(_torchvision_weights(weights).url).stem
    path = Path(weights)
    if path.is_fifo():
        raise BadInput(f"weights: {weights}: is a pipe, which would be waited for; allowed: {ALLOWED}")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise BadInput(f"weights: {weights}: {error.strerror or error}; allowed: {ALLOWED}") from error


def check_weights(settings: TrialSettings) -> None:
    """Raise BadInput, naming the first key, if `settings.weights` do not fit the backbone. Downloads nothing."""
    assert settings.weights is not None
    backbone = build_on_meta(settings, []).backbone
    assert isinstance(backbone, nn.Module)
    if settings.weights == OF_TIMM:
        timm_weights.version(settings)
        return
    if TORCHVISION_NAME.fullmatch(settings.weights):
        with torch.device("meta"):
            state = _without_classifier(_torchvision_model(settings.weights).state_dict())
    else:
        state = _read(settings.weights, settings)
    _check_fit(backbone, _fitting(backbone, state, settings), settings)


def fetch_weights(weights: str, settings: TrialSettings | None = None) -> None:
    """Download what a name stands for into torch's or timm's cache, unless it is there. Raises BadInput."""
    if weights == OF_TIMM and settings is not None:
        timm_weights.download(settings)
    if TORCHVISION_NAME.fullmatch(weights):
        _download(weights)


def load_weights(backbone: nn.Module, config: TrialConfig) -> None:
    """Copy `config.weights` into the backbone; what a name stands for is downloaded once.

    Raises BadInput for weights that cannot be read, do not fit, or are others than those that `config` was made with.
    """
    assert config.weights is not None
    found = weights_version(config.weights, config)
    if found != config.weights_version:
        raise BadInput(
            f"weights: {config.weights} has version {found} on this machine; allowed: {config.weights_version}, "
            "that with which the trial was planned"
        )
    if config.weights == OF_TIMM:
        state: Mapping[str, Tensor] = _inside(timm_weights.download(config), backbone)
    elif TORCHVISION_NAME.fullmatch(config.weights):
        state = _download(config.weights)
    else:
        state = _read(config.weights, config)
    state = _fitting(backbone, state, config)
    _check_fit(backbone, state, config)
    # A plain dict has no version, for which batch norm takes a missing num_batches_tracked, of old files, as 0.
    backbone.load_state_dict(dict(state))


def _read(path: str, settings: TrialSettings) -> dict[str, Tensor]:
    """The backbone's part of a state dict, or of a trial's model.pt."""
    content = read_tensors("weights:", path, ALLOWED, "a file that torch.save wrote, of tensors and plain data alone")
    state, prefix = (content["model"], "backbone.") if is_model_content(content) else (content, "")
    if not isinstance(state, Mapping):
        raise BadInput(f"weights: {path}: holds a {type(state).__name__}; allowed: {CONTENT}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadInput(f"weights: {path}: holds a {type(value).__name__} under {shown(name)}; allowed: {CONTENT}")
        if fault := tensor_fault(value):
            raise BadInput(f"weights: {path}: {unquoted(name)} {fault}; allowed: {CONTENT}")
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return _without_classifier(own) if settings.backbone in RESNETS else own


def _download(name: str) -> dict[str, Tensor]:
    url = _torchvision_weights(name).url
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise BadInput(
            f"weights: {name}: {url} cannot be downloaded into {torch.hub.get_dir()} ({first_line(error)}); "
            f"allowed: {ALLOWED}"
        ) from error
    return _without_classifier(state)


def _torchvision_weights(name: str) -> Any:
    try:
        return torchvision.models.get_weight(name)
    except (ValueError, KeyError) as error:
        raise BadInput(f"weights: {name!r}: torchvision has none of this name; allowed: {ALLOWED}") from error


def _torchvision_model(name: str) -> torch.nn.Module:
    """The untrained model that the weights are of."""
    kind = type(_torchvision_weights(name))
    for builder in torchvision.models.list_models(module=torchvision.models):
        if torchvision.models.get_model_weights(builder) is kind:
            model: torch.nn.Module = torchvision.models.get_model(builder, weights=None)
            return model
    raise BadInput(f"weights: {name!r} are of no image classifier; allowed: {ALLOWED}")


def _without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in ("fc.weight", "fc.bias")}


def _fitting(backbone: nn.Module, state: Mapping[str, Tensor], settings: TrialSettings) -> Mapping[str, Tensor]:
    """Weights as the backbone names them: those of a plain network of timm's lie in a part of ours, and what comes
    after its last map is not in ours."""
    own = backbone.state_dict()
    if not isinstance(backbone, PyramidBackbone | TimmBackbone) or set(state) <= set(own):
        return state
    beyond = timm_weights.plain_names(settings)
    network = backbone.network if isinstance(backbone, PyramidBackbone) else backbone
    assert isinstance(network, TimmBackbone)
    inside = network.network.state_dict()
    plain = {name: value for name, value in state.items() if name in inside or name not in beyond}
    return _inside(plain, backbone)


def _inside(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """A plain network's tensors as the backbone that holds it names them; a pyramid's own are new."""
    if not isinstance(backbone, PyramidBackbone):
        return {f"network.{name}": value for name, value in state.items()}
    laterals = {name: value for name, value in backbone.state_dict().items() if name.startswith("laterals.")}
    return {f"network.network.{name}": value for name, value in state.items()} | laterals


def _check_fit(backbone: nn.Module, state: Mapping[str, Tensor], settings: TrialSettings) -> None:
    """Raise BadInput at the first tensor that is missing, is not one of the backbone's, or is of another shape."""
    wanted = {
        name: value
        for name, value in backbone.state_dict().items()
        if name in state or not name.endswith(".num_batches_tracked")  # which old files lack
    }
    if fault := misfit(wanted, state, "backbone"):
        layers = settings.backbone_layers and list(settings.backbone_layers)
        sizes = f", backbone_width = {settings.backbone_width}, backbone_layers = {layers or 'the published'}"
        if settings.backbone not in RESNETS:
            sizes = f", backbone_options = {dict(settings.backbone_options)}" if settings.backbone_options else ""
        raise BadInput(
            f"weights: {settings.weights}: {fault}; allowed: weights that fit backbone = {settings.backbone}{sizes}"
        )

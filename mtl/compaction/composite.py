"""Modules that become several operations: norms with activations, norms of maps, self-attention."""

from typing import TYPE_CHECKING

from torch import fx, nn

from mtl.compaction import activations, moves
from mtl.compaction.graph import Node
from mtl.compaction.known import IDENTITIES, is_timm, known_module
from mtl.networks.attention import attention_parts

if TYPE_CHECKING:
    from mtl.compaction.trace import Translation

# Modules of timm that are not traced into; variants of them are refused by name.
TIMM_LEAVES = frozenset(["BatchNormAct2d", "LayerNorm2d", "Attention", "Conv2dSame"])


def is_composite(module: nn.Module) -> bool:
    return is_timm(module) and type(module).__name__ in TIMM_LEAVES


def translate(t: "Translation", source: fx.Node, module: nn.Module, path: str) -> Node | None:
    """Add what a module does to the translation's program; None for a module that is none of these."""
    if not source.args:
        return None
    if isinstance(module, nn.MultiheadAttention):
        return _multihead(t, source, module, path)
    if len(source.args) != 1 or any(v is not None and v is not False for v in source.kwargs.values()):
        return None
    if type(module) is nn.Flatten:
        x = t.value(source, source.args[0])
        dims = len(x.shape) + 1
        start, end = module.start_dim % dims, module.end_dim % dims
        return moves.merged(t, source, x, start, end)
    if not is_timm(module):
        return None
    match type(module).__name__:
        case "BatchNormAct2d":
            return _norm_with_activation(t, source, module, path)
        case "LayerNorm2d":
            x = t.value(source, source.args[0])
            c, h, w = x.shape
            rows = t.add(source, source.name, "permute", [x], (h, w, c), {"dims": [0, 2, 3, 1]})
            tensors = {name: value.detach().clone() for name, value in module.named_parameters()}
            norm = t.add(source, path, "layer_norm", [rows], rows.shape, {"eps": module.eps}, tensors)
            return t.add(source, source.name, "permute", [norm], (c, h, w), {"dims": [0, 3, 1, 2]})
        case "Attention":
            return _attention(t, source, module, path)
    return None


def _norm_with_activation(t: "Translation", source: fx.Node, module: nn.Module, path: str) -> Node | None:
    drop, act = module.get_submodule("drop"), module.get_submodule("act")
    if (
        type(drop).__name__ not in IDENTITIES
        or not isinstance(module, nn.BatchNorm2d)
        or not module.track_running_stats
    ):
        return None
    made = None if type(act) is nn.Identity else known_module(act)
    if type(act) is not nn.Identity and (made is None or made[0] not in ("relu", "act")):
        # timm's own activations call one function of torch's.
        kind = _TIMM_ACTIVATIONS.get(type(act).__name__)
        made = ("act", {"kind": kind, **activations.DEFAULTS.get(kind, {})}) if kind and is_timm(act) else None
        if made is None:
            return None
    x = t.value(source, source.args[0])
    tensors = {
        name: value.detach().clone()
        for name, value in module.state_dict().items()
        if name in ("weight", "bias", "running_mean", "running_var")
    }
    settings = {"eps": module.eps, "momentum": module.momentum, "affine": module.affine}
    norm = t.add(source, path, "norm", [x], x.shape, settings, tensors)
    return norm if made is None else t.add(source, f"{path}_act", made[0], [norm], x.shape, made[1])


_TIMM_ACTIVATIONS = {"Swish": "silu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Mish": "mish", "HardSwish": "hardswish"}


def _attention(t: "Translation", source: fx.Node, module: nn.Module, path: str) -> Node | None:
    parts = attention_parts(module)
    if parts is None:
        return None
    x = t.value(source, source.args[0])
    tokens, width = x.shape[0], parts.heads * parts.head_size
    if (len(x.shape), x.axis) != (2, 2):
        return None
    qkv = {"weight": parts.qkv_weight.detach().clone()}
    if parts.qkv_bias is not None:
        qkv["bias"] = parts.qkv_bias.detach().clone()
    projection = {name: value.detach().clone() for name, value in parts.projection.named_parameters()}
    names = ("in_proj", "out_proj") if isinstance(module, nn.MultiheadAttention) else ("qkv", "proj")
    rows = t.add(source, f"{path}.{names[0]}", "linear", [x], (tokens, 3 * width), {}, qkv)
    settings = {"heads": parts.heads, "size": parts.head_size, "scale": parts.scale}
    attended = t.add(source, f"{path}.attend", "attend", [rows], (tokens, width), settings)
    shape = (tokens, parts.projection.out_features)
    return t.add(source, f"{path}.{names[1]}", "linear", [attended], shape, {}, projection)


def _multihead(t: "Translation", source: fx.Node, module: nn.MultiheadAttention, path: str) -> Node | None:
    """torch's, as self-attention, whose first result alone is used."""
    same = len(source.args) >= 3 and len(set(source.args[:3])) == 1 and len(source.args) == 3
    neutral = all(
        name in ("need_weights", "average_attn_weights") or value is None or value is False
        for name, value in source.kwargs.items()
    )
    if not same or not neutral or not module.batch_first:
        return None
    node = _attention(t, source, module, path)
    if node is not None:
        t.several[source] = [node.name, None]
    return node

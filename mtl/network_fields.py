"""Which fields of a trial go with which network."""

from typing import Any

# The dilated ResNets whose widths and depths are fields of their own.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
OF_RESNETS = ("backbone_width", "backbone_layers", "stage_factors")
OF_HEADS = ("head", "head_channels", "head_rates")
TIMM = "timm:"  # begins the name of a backbone of timm


def network_fault(settings: Any) -> str | None:
    """What a trial's settings say of its network that does not go together, in one line; None for nothing.

    A field that does not apply must have its default: none is ignored in silence.
    """
    backbone, model = settings.backbone, settings.model
    if model and backbone:
        return f"backbone = {backbone} with model = {model}, which has its own; allowed: one of the two"
    kinds = f"{', '.join(RESNETS)}, timm:NAME, or my_module:MyBackbone"
    if not model and not backbone:
        return f"backbone is missing; allowed: {kinds}"
    if model and (not all(model.partition(":")) or model.startswith(TIMM)):
        return f"model = {model}; allowed: my_module:MyModel"
    if backbone and backbone not in RESNETS and not all(backbone.partition(":")):
        return f"backbone = {backbone}; allowed: {kinds}"
    foreign: dict[str, str] = {}
    if settings.network in RESNETS:
        foreign["backbone_options"] = "which has none"
        if settings.output_stride != 8:
            foreign["output_stride"] = "whose output stride is 8"
    else:
        foreign |= dict.fromkeys(OF_RESNETS, "which decides that itself")
        if not backbone.startswith(TIMM):
            foreign["output_stride"] = "which decides that itself"
    if model:
        foreign |= dict.fromkeys((*OF_HEADS, "weights"), "which has its own")
    elif settings.head != "deeplabv3":
        foreign["head_rates"] = f"whose heads are of {settings.head}"
    fields = type(settings).model_fields
    for name, why in foreign.items():
        value, default = getattr(settings, name), fields[name].get_default()
        if value != default:
            network = f"model = {model}" if model else f"backbone = {backbone}"
            shown = list(value) if isinstance(value, tuple) else value
            return f"{name} = {shown} with {network}, {why}; allowed: leave it out (--set {name}=)"
    if settings.own_network and settings.head == "fpn":
        return f"head = fpn with backbone = {backbone}, which gives one map; allowed: deeplabv3, lraspp"
    return None

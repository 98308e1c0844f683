"""What sentences and tables call a setting."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from analysis import text
from analysis.compute.costs import DENSE, OTHER_DENSE, targets
from analysis.read.load import LONGER_NAME


def setting_name(setting: Mapping[Hashable, Any], *, method: bool) -> str:
    """Such as "λ = 1e-3", "selection to 25 % of the MACs", "dense".

    Args:
        setting: a row of `settings_table`.
        method: whether to name the penalty and all that goes with it beside λ.
    """
    words = dict(word.partition("=")[::2] for word in str(setting["settings"]).split())
    compressor, target = words.pop("compressor", None), words.pop("target_macs", None)
    if compressor is not None:
        more = "".join(f" · {name}={value}" for name, value in words.items())
        to = f" to {100 * float(target):g} % of the MACs" if target else ""
        return f"{compressor}{to}{more}"
    strategy = setting["strategy"]
    if strategy == DENSE:
        return "the dense model (λ = 0)"
    if strategy in (OTHER_DENSE, LONGER_NAME):
        return str(setting["method"])
    return f"λ = {text.strength(setting['lambda'])}" + (f", {setting['method']}" if method else "")


def short_names(settings: pd.DataFrame) -> list[str]:
    """Of each of these settings, for the cells of tables: "group_lasso λ = 1e-3", "selection 25 %", "dense"."""
    goals = targets(settings)
    strengths = [f" λ = {text.strength(value)}" if value > 0 else "" for value in settings["lambda"]]
    shares = ["" if math.isnan(goal) else f" {100 * goal:g} %" for goal in goals]
    return [
        f"{name}{strength}{share}"
        for name, strength, share in zip(settings["strategy"], strengths, shares, strict=True)
    ]

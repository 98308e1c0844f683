"""What sentences and tables call a setting."""

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
        before = [f"{100 * float(one):g}" for one in words.pop("via", "").split(",") if one]
        way = f" by way of {' and '.join(filter(None, [', '.join(before[:-1]), before[-1]]))} %" if before else ""
        more = "".join(f" · {name}={value}" for name, value in words.items())
        to = f" to {100 * float(target):g} % of the MACs" if target else ""
        return f"{compressor}{to}{way}{more}"
    strategy = setting["strategy"]
    if strategy == DENSE:
        return "the dense model (λ = 0)"
    if strategy in (OTHER_DENSE, LONGER_NAME):
        return str(setting["method"])
    return f"λ = {text.strength(setting['lambda'])}" + (f", {setting['method']}" if method else "")


def short_names(settings: pd.DataFrame) -> list[str]:
    """Of each of these settings, for the cells of tables: "group_lasso λ = 1e-3", "selection 25 %", "dense"."""
    goals = targets(settings)
    sparsities = settings["settings"].str.extract(r"target_group_sparsity=([\d.e-]+)")[0].astype(float)
    strengths = [f" λ = {text.strength(value)}" if value > 0 else "" for value in settings["lambda"]]
    shares = [
        f" {100 * goal:g} %" if goal > 0 else f" {100 * gone:g} % of groups gone" if gone > 0 else ""
        for goal, gone in zip(goals, sparsities, strict=True)
    ]
    return [
        f"{name}{strength}{share}"
        for name, strength, share in zip(settings["strategy"], strengths, shares, strict=True)
    ]

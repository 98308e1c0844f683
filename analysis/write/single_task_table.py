"""One multi-task model against single-task models, written for people."""

from functools import partial

import pandas as pd

from analysis import text
from analysis.compute.against_single_tasks import SHARES
from analysis.compute.best import NO_MORE
from analysis.compute.text_table import DEVIATION_NOTE, TextTable, cells, mean_cells
from mtl.vocabulary.objective import MODEL_MACS

LABELS = {MODEL_MACS: "MACs", "model_parameters": "parameters", "model_latency_ms": "latency"}


def written_against_single_tasks(table: pd.DataFrame) -> TextTable:
    """One row for each multi-task setting of `against_single_tasks`, those that beat equal cost marked."""
    signed = partial(text.percent, signed=True)
    columns = {"tasks": table["tasks"].tolist(), "model": table["name"].tolist()}
    if table["setup"].nunique() > 1:
        columns["setup"] = table["setup"].tolist()
    for cost, share in SHARES.items():
        if table[share].notna().any():
            columns[f"{LABELS[cost]} [% of them]"] = [text.percent(one) for one in table[share].astype(float)]
    columns["Δm [%] ↑"] = mean_cells(table, "test_delta_m", signed)
    numbers = table.astype(
        dict.fromkeys((f"{name}_{part}" for name in ("equal_cost_delta_m", "gain") for part in ("mean", "std")), float)
    )
    shares = table["equal_cost_macs"].astype(float) / table["model_macs"].astype(float)
    columns["their MACs [% of its]"] = [text.percent(share) for share in shares]
    columns["their Δm [%] ↑"] = mean_cells(numbers, "equal_cost_delta_m", signed)
    columns["gain [%] ↑"] = mean_cells(numbers, "gain", signed)
    columns["single-task models of equal cost"] = [one or "none so cheap" for one in cells(table["equal_cost_models"])]
    note = (
        "Test split. One model for all tasks, on the front over performance and MACs or dense, against dense "
        "single-task models: what it costs as a share of them together, and Δm. Beside it the single-task models of "
        f"the sweep that together are best on validation at no more than {NO_MORE:g} times its MACs, and how much more "
        f"the one model's Δm is than theirs (gain, paired over seeds; marked where it is above 0). {DEVIATION_NOTE}"
    )
    return TextTable.of(columns, note, numbers["gain_mean"] > 0)

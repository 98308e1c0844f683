"""The paper-style table of a sweep: numbers for programs (CSV), and the same written for people."""

from collections.abc import Hashable, Sequence
from functools import partial

import pandas as pd

from analysis import text
from analysis.compute.best import NO_MORE, TOLERANCE, Best
from analysis.compute.costs import SHARES
from analysis.compute.setting_names import short_names
from analysis.compute.settings import ALL_METRICS, COST_COLUMNS, OF_METHOD
from analysis.compute.text_table import (
    CONSTANT,
    DEVIATION_NOTE,
    TextTable,
    cells,
    cost_cells,
    mean_cells,
    metric_header,
    setting_cells,
    shown_metrics,
    sparsity_cells,
)
from analysis.read.load import Sweep
from mtl.vocabulary.objective import WHOLE_COSTS

# Of the model to use and its rival in best.csv, means over seeds.
SIZES = (*WHOLE_COSTS, *SHARES.values(), "test_delta_m", "test_over_dense")


def front_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `front.csv`, one row per setting: selection on validation, means and deviations, all fractions."""
    names = ["delta_m", "test_delta_m", *ALL_METRICS, "group_sparsity", "parameter_sparsity"]
    names += [objective.column for objective in sweep.objectives]
    names += [column for column in (*WHOLE_COSTS, *COST_COLUMNS) if f"{column}_mean" in marked]
    for primary in sweep.tasks.values():
        names += [column for column in (f"val_{primary}", f"test_{primary}") if column in sweep.results.columns]
    values = [f"{name}_{part}" for name in dict.fromkeys(names) for part in ("mean", "std")]
    selection = ["objectives", "on_front", "cost_objectives", "on_cost_front", "best"]
    return marked[
        [
            "tasks",
            "setup",
            "method",
            *OF_METHOD,
            "strategy",
            "side",
            "lambda",
            "seeds",
            "trials",
            "delta_m_trials",
            *selection,
            *values,
        ]
    ]


def results_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """The paper-style table in numbers: test metrics, sparsities (fractions) and test Δm (fraction) of each setting.

    The last row holds the constant predictor's metrics, where the sweep knows them.
    """
    names = [*(f"test_{metric.name}" for metric in shown_metrics(sweep)), "group_sparsity", "parameter_sparsity"]
    names += [column for column in COST_COLUMNS if column != "over_dense" and f"{column}_mean" in marked]
    values = [f"{name}_{part}" for name in [*names, "test_delta_m", "test_delta_m_all"] for part in ("mean", "std")]
    fronts: dict[Hashable, type[object]] = {"on_front": object, "on_cost_front": object}
    table = marked[["tasks", "method", "lambda", "seeds", "trials", *values, *fronts]].astype(fronts)
    constant = {f"test_{name}_mean": value for name, value in sweep.constant_predictor.items()}
    if not constant:
        return table
    row = {"tasks": CONSTANT} | {column: value for column, value in constant.items() if column in values}
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True).astype({"seeds": "Int64", "trials": "Int64"})


def written_results(sweep: Sweep, marked: pd.DataFrame) -> TextTable:
    """The paper-style table as strings: `mean ± std`, percentages, an arrow for the better direction, the front."""
    numbers = results_table(sweep, marked)
    columns = setting_cells(numbers, ("tasks", "method", "lambda", "trials"))
    columns["front"] = ["●" if value is True else "" for value in numbers["on_front"]]
    if (numbers["on_cost_front"] == True).any():  # noqa: E712
        columns["cost front"] = ["●" if value is True else "" for value in numbers["on_cost_front"]]
    for header, name in (("Δm [%] ↑", "test_delta_m"), ("Δm, all metrics [%] ↑", "test_delta_m_all")):
        columns[header] = mean_cells(numbers, name, partial(text.percent, signed=True))
    columns |= sparsity_cells(numbers) | cost_cells(numbers)
    for metric in shown_metrics(sweep):
        digits = text.decimals(float(numbers[f"test_{metric.name}_mean"].abs().max()))
        write = partial(text.mean_std, decimals=digits)
        columns[metric_header(metric)] = mean_cells(numbers, f"test_{metric.name}", write)
    primaries = ", ".join(sweep.metrics[name].label for name in sweep.tasks.values())
    note = (
        "Test split; ● marks each combination's front, and its front over all methods in performance and MACs of the "
        f"whole model, heads included; both are chosen on the validation split. Δm is over {primaries}; Δm, "
        f"all metrics, over every metric that a task reports, averaged within the task first. {DEVIATION_NOTE}"
    )
    return TextTable.of(columns, note, numbers["on_front"] == True)  # noqa: E712  the constant predictor has none


def best_table(sweep: Sweep, marked: pd.DataFrame, bests: Sequence[Best]) -> pd.DataFrame:
    """One row per combination: the setting to use, why (or why there is none), its loss, trial and model file, what it
    costs and reaches, and the same of its rival (see `Best.rival`)."""
    rows = []
    for best in bests:
        row: dict[str, object] = {"tasks": best.tasks, "why": best.why}
        if best.row is not None:
            setting = marked.loc[best.row]
            row |= {name: setting[name] for name in ("setup", "method", "lambda", "seeds")}
            row |= {name: setting.get(f"{name}_mean") for name in SIZES}
            if best.rival is not None:
                rival = marked.loc[best.rival]
                row |= {"rival_method": rival["method"], "rival_lambda": rival["lambda"]}
                row |= {f"rival_{name}": rival.get(f"{name}_mean") for name in SIZES}
            row |= {"loss": best.loss, "trial_id": best.trial_id, "model": sweep.model_path(best.trial_id)}
        rows.append(row)
    rivals = [f"rival_{name}" for name in ("method", "lambda", *SIZES)]
    own = ["tasks", "setup", "method", "lambda", "seeds", "loss", "trial_id", "model", "why", *SIZES]
    return pd.DataFrame(rows, columns=[*own, *rivals])


def written_trade_offs(marked: pd.DataFrame, bests: Sequence[Best], volumes: pd.DataFrame) -> TextTable:
    """One row per combination: the model to use, and the front's size and hypervolume (test split)."""
    table = marked.reindex([best.row for best in bests]).reset_index(drop=True)
    star = (volumes["reference"] != "constant predictor").map({True: "*", False: ""})
    columns = {"tasks": [best.tasks for best in bests]}
    if marked["method"].nunique() > 1:
        columns["method"] = cells(table["method"])
    columns |= {
        "λ": cells(table["lambda"], text.strength),
        "groups gone [%]": mean_cells(table, "group_sparsity", text.percent),
        **cost_cells(table),
        "Δm [%] ↑": mean_cells(table, "test_delta_m", partial(text.percent, signed=True)),
        "loss [%]": [text.percent(best.loss) for best in bests],
        **_rival_cells(marked, bests),
        "trial": [best.trial_id for best in bests],
        "on the front": [f"{on} of {all_}" for on, all_ in volumes[["points_on_front", "points"]].to_numpy()],
        "hypervolume": [f"{volume:.3g}{star}" for volume, star in zip(volumes["hypervolume"], star, strict=True)],
    }
    if volumes["cost_hypervolume"].notna().any():
        worst = (volumes["cost_reference"] == "worst observed").map({True: "*", False: ""})
        volume = cells(volumes["cost_hypervolume"], "{:.3g}".format)
        on = [f"{on} of {all_}" for on, all_ in volumes[["points_on_cost_front", "points"]].to_numpy()]
        columns |= {"on the cost front": on, "its hypervolume": [a + b for a, b in zip(volume, worst, strict=True)]}
    note = (
        "The model to use of each combination, chosen on validation among all methods: no task worse than the constant "
        f"predictor's, and the cheapest with a loss of at most {100 * TOLERANCE:.0f} %, else the front's knee "
        "(best.csv says which). "
        "Loss: of what the dense model has over one without a channel (or the constant predictor), the share that this "
        "one lacks (validation). "
        "Hypervolume: of the front's test values as fractions, measured from the constant predictor's. "
    )
    if "best beside it" in columns:
        note += (
            "Best beside it: of the other side (what a user would do instead beside ours, ours beside that) the best "
            f"at no more than {NO_MORE:g} times its MACs, with its MACs and Δm. "
        )
    if "its hypervolume" in columns:
        note += "The cost front's hypervolume is over Δm × log2 MACs, measured from the dense model's MACs. "
    if any("*" in cell for name in ("hypervolume", "its hypervolume") for cell in columns.get(name, ())):
        note += (
            "* An objective for which the constant predictor is not known is measured from its worst observed value, "
            "so this volume compares with nothing else. "
        )
    return TextTable.of(columns, note + DEVIATION_NOTE)


def _rival_cells(marked: pd.DataFrame, bests: Sequence[Best]) -> dict[str, list[str]]:
    """The best of the other side at no more cost, where any model to use has one."""
    if all(best.rival is None for best in bests):
        return {}
    rivals = marked.reindex([best.rival for best in bests])
    names = dict(zip(marked.index, short_names(marked), strict=True))
    written = mean_cells(rivals, "test_delta_m", partial(text.percent, signed=True))
    shares = [text.percent(share) for share in rivals[f"{SHARES['model_macs']}_mean"]]
    shown = [
        ""
        if best.rival is None
        else names[best.rival] + f": {share} % of the MACs" * bool(share) + f", Δm {reached} %" * bool(reached)
        for best, share, reached in zip(bests, shares, written, strict=True)
    ]
    return {"best beside it": shown}

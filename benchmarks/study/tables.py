"""The tables of docs/study.md, in Markdown, from the sweeps in a folder. What is not there has no table."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from analysis import text
from analysis.compute.claims import judge_claims
from analysis.compute.intervals import Interval
from analysis.compute.merge import load_sweeps
from analysis.compute.published import TABLES, published_numbers
from analysis.read.load import Sweep
from benchmarks.strategy_tables import (
    ALTERNATIVES,
    SLOWER,
    TARGETS,
    WHOLE_FRONTS,
    compared,
    fronts,
    interval,
    main_table,
    other_table,
    percent,
    points,
    summary,
)
from benchmarks.study.parts import ALL_FACES, TRIPLE
from benchmarks.study.record import BASELINES, LATENCIES
from benchmarks.study.rows import over, trials
from mtl.vocabulary.files import RESULTS

Lines = list[dict[str, str]]
NAMES = {"segmentation_iou_micro": "IoU", "depth_mae": "depth MAE", "normals_cos": "cosine of normals"}


def tables(folder: Path) -> str:
    """All tables, each under its title."""
    parts: dict[str, Lines] = {}
    if (folder / "nyuv2" / RESULTS).is_file():
        names = [name for name in ("nyuv2", "nyuv2-l1") if (folder / name / RESULTS).is_file()]
        sweep = load_sweeps([folder / name for name in names])
        rows = with_other_budgets(trials(sweep), sweep, folder)
        parts |= nyu_tables(rows) | {"the paper's claims, on NYU-v2": claims(sweep)}
        if (folder / "nyuv2-bf16" / RESULTS).is_file():
            half = trials(load_sweeps([folder / "nyuv2-bf16"]))
            parts["bfloat16 and float32: Δm over the dense model of the same precision [%]"] = precisions(rows, half)
    if (folder / "nyuv2-paper" / RESULTS).is_file():
        parts["trained and measured as in the paper"] = paper_setting(folder)
    if (folder / "celebamask" / RESULTS).is_file():
        faces = load_sweeps([folder / "celebamask"])
        parts |= face_tables(trials(faces)) | {"the paper's claims, on CelebAMask-HQ": claims(faces)}
    if (folder / LATENCIES).is_file():
        parts["time of one image, compacted"] = latencies(pd.read_parquet(folder / LATENCIES))
    shown = {
        title: tabulate(lines, "keys", "github", disable_numparse=True).replace(" ± ", "\u00a0±\u00a0")  # on one line
        for title, lines in parts.items()
        if lines
    }
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in shown.items())


def updated(page: str, found: str) -> str:
    """A page with these tables in the place of its own of the same titles. Raises ValueError for one that it lacks."""
    for title, table in re.findall(r"(\*\*[^\n]+\*\*)\n\n((?:\|[^\n]*\n?)+)", found):
        before = re.compile(rf"{re.escape(title)}\n(?:\n(?:\|[^\n]*\n)+)?")
        place = before.search(page)
        if place is None:
            raise ValueError(f"no table {title}")
        page = f"{page[: place.start()]}{title}\n\n{table.strip()}\n{page[place.end() :]}"
    return page


def with_other_budgets(rows: pd.DataFrame, sweep: Sweep, folder: Path) -> pd.DataFrame:
    """The rows with those of the longer trainings, named so, over the dense models that are not longer."""
    dense = rows[(rows["tasks"] == TRIPLE) & (rows["method"] == "dense")]
    tables = [rows]
    if (folder / "nyuv2-half" / RESULTS).is_file():
        slower = over(trials(load_sweeps([folder / "nyuv2-half"])), dense, sweep)
        tables.append(slower[slower["method"] == "path"].assign(method=SLOWER))
    if (folder / "nyuv2-longer" / RESULTS).is_file():
        longer = over(trials(load_sweeps([folder / "nyuv2-longer"])), dense, sweep)
        tables.append(longer.assign(method=longer["method"] + ", longer"))
    return pd.concat(tables, ignore_index=True)


def nyu_tables(rows: pd.DataFrame) -> dict[str, Lines]:
    triple = rows[rows["tasks"] == TRIPLE]
    summed = summary(triple[triple["method"] != "l1"])
    return {
        "NYU-v2, all three tasks: Δm over the dense model [%] by share of its MACs": main_table(summed),
        "NYU-v2, all three tasks: without a target": other_table(summed),
        "NYU-v2: ours less the best alternative, by seed [points of Δm]": gains(triple),
        "NYU-v2, all three tasks: whole fronts": whole_fronts(triple),
        "NYU-v2, every combination: Δm over the dense model of the same tasks [%]": by_combination(rows),
        "NYU-v2: the penalty, the published gain and ours": penalties(rows, 1),
        "NYU-v2: ℓ1 beside the group lasso, all three tasks": unstructured(rows),
    }


def face_tables(rows: pd.DataFrame) -> dict[str, Lines]:
    triple = rows[rows["tasks"] == ALL_FACES]
    return {
        "CelebAMask-HQ, all three tasks: Δm over the dense model [%] by share of its MACs": main_table(summary(triple)),
        "CelebAMask-HQ, every combination: Δm over the dense model of the same tasks [%]": by_combination(rows),
        "CelebAMask-HQ: the penalty, the published gain and ours": penalties(rows, 2),
    }


def gains(rows: pd.DataFrame) -> Lines:
    return [
        {
            "ours": one["ours"],
            "share of the MACs": percent(one["target"]),
            "best alternative": one["best_alternative"],
            "gain": points(one["gain"], one["half_interval"]),
        }
        for ours in ("path", "selection")
        for one in compared(rows, ours, ALTERNATIVES)
    ]


def whole_fronts(rows: pd.DataFrame) -> Lines:
    return [
        {
            "strategy": one["method"],
            "height [points of Δm]": points(one["height"], one["half_interval"]),
            "epochs in all": str(one["epochs"]),
        }
        for one in fronts(rows)
    ]


def by_combination(rows: pd.DataFrame) -> Lines:
    """Δm of what has a target, by combination and method (rows) and cost (columns)."""
    lines = []
    for tasks, some in by_tasks(rows):
        for method in WHOLE_FRONTS:
            own = some[(some["method"] == method) & some["target_macs"].isin(TARGETS)]
            if own.empty:
                continue
            cells = {percent(target): mean_of(one["delta_m"]) for target, one in own.groupby("target_macs")}
            lines.append({"tasks": tasks, "strategy": method, "seeds": str(own["seed"].nunique())} | cells)
    columns = sorted({c for line in lines for c in line if c.endswith("%")}, key=lambda c: -float(c.split()[0]))
    return [{name: line.get(name, "") for name in ("tasks", "strategy", "seeds", *columns)} for line in lines]


def by_tasks(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each combination, single tasks first."""
    return sorted(rows.groupby("tasks"), key=lambda one: (one[0].count("+"), one[0]))


def penalties(rows: pd.DataFrame, table: int) -> Lines:
    """What a penalty gains over the dense model: as published, and ours, with what a narrow network of no fewer MACs
    gains here. Published gains are of the table's metrics, relative, mean over tasks."""
    published = next(one for one in TABLES if one.number == table)
    numbers = published_numbers(published)
    metrics = [name.removesuffix("_mean") for name in numbers if str(name).endswith("_mean") and "sparsity" not in name]
    lines: Lines = []
    for tasks, ours in by_tasks(rows):
        printed = numbers[numbers["tasks"].map(lambda one, t=tasks: set(one.split("+")) == set(t.split("+")))]
        base = printed[printed["lambda"] == 0]
        for _, row in printed[printed["lambda"] > 0].iterrows():
            changes = [
                (-1 if name == "depth_mae" else 1) * (row[f"{name}_mean"] / base[f"{name}_mean"].iloc[0] - 1)
                for name in metrics
                if row[f"{name}_mean"] == row[f"{name}_mean"]
            ]
            lines.append(
                {
                    "tasks": tasks,
                    "model": f"published, λ = {text.strength(row['lambda'])}",
                    "groups gone": f"{100 * row['group_sparsity_mean']:.0f} %",
                    "MACs": "",
                    "gain [%]": f"{100 * np.mean(changes):+.1f}".replace("-", text.MINUS),
                    "a narrow network": "not compared",
                }
            )
        for strength, some in ours[ours["method"] == "penalty"].groupby("lambda"):
            lines.append(
                {
                    "tasks": tasks,
                    "model": f"ours, λ = {text.strength(strength)}",
                    "groups gone": f"{100 * some['group_sparsity'].mean():.0f} %",
                    "MACs": f"{100 * some['cost'].mean():.0f} %",
                    "gain [%]": mean_of(some["delta_m"]),
                    "a narrow network": narrow_beside(ours, some["cost"].mean()),
                }
            )
    return lines


def narrow_beside(rows: pd.DataFrame, cost: float) -> str:
    """The largest narrow network that costs no more than this share of the MACs, or the smallest at all."""
    narrow = rows[rows["method"] == "narrow"]
    costs = narrow.groupby("target_macs")["cost"].mean()
    fitting = costs[costs <= cost]
    if costs.empty:
        return ""
    target = fitting.idxmax() if len(fitting) else costs.idxmin()
    some = narrow[narrow["target_macs"] == target]
    return f"{mean_of(some['delta_m'])} at {100 * costs[target]:.0f} % of the MACs"


def unstructured(rows: pd.DataFrame) -> Lines:
    some = rows[(rows["tasks"] == TRIPLE) & rows["method"].isin(["penalty", "l1"])]
    return [
        {
            "penalty": "ℓ1" if method == "l1" else "group lasso",
            "λ": text.strength(strength),
            "weights gone": f"{100 * one['parameter_sparsity'].mean():.0f} %",
            "groups gone": f"{100 * one['group_sparsity'].mean():.0f} %",
            "MACs after compaction": f"{100 * one['cost'].mean():.0f} %",
            "Δm over dense [%]": mean_of(one["delta_m"]),
        }
        for (method, strength), one in some.groupby(["method", "lambda"], sort=True)
    ]


def paper_setting(folder: Path) -> Lines:
    """Metrics of the dense models by both optimizers, of the penalty, and of narrow networks."""
    sweep = load_sweeps([folder / "nyuv2-paper"])
    rows = trials(sweep)
    metrics = [name for name in NAMES if f"test_{name}" in rows]
    lines = []
    if (folder / BASELINES).is_file():
        coupled = pd.read_parquet(folder / BASELINES)
        lines.append({"model": "dense, Adam with coupled L2 (as published)"} | setting_cells(coupled, metrics, rows))
    names = {"dense": "dense, AdamW", "penalty": "group lasso, AdamW", "narrow": "narrow network, AdamW"}
    for method, name in names.items():
        for _, some in rows[rows["method"] == method].groupby(["lambda", "target_macs"], dropna=False):
            strength, target = some["lambda"].iloc[0], some["target_macs"].iloc[0]
            more = (
                f", λ = {text.strength(strength)}" if strength else f", {percent(target)}" if target == target else ""
            )
            lines.append({"model": name + more} | setting_cells(some, metrics, rows))
    return lines


def setting_cells(some: pd.DataFrame, metrics: Sequence[str], rows: pd.DataFrame) -> dict[str, str]:
    groups = f"{100 * some['group_sparsity'].mean():.0f} %" if "group_sparsity" in some else "0 %"
    cells = {
        "groups gone": groups,
        "MACs": f"{100 * some['cost'].mean():.0f} %" if "cost" in some else "100 %",
        "seeds": str(some["seed"].nunique()),
    }
    for name in metrics:
        mean, half = interval(some[f"test_{name}"].tolist())
        cells[NAMES[name]] = f"{mean:.3f} ± {half:.3f}" if half == half else f"{mean:.3f}"
    dense = rows[rows["method"] == "dense"].set_index("seed")
    over = []
    for name in metrics:
        reference = dense[f"test_{name}"].reindex(some["seed"]).to_numpy()
        over.append((-1 if name == "depth_mae" else 1) * (some[f"test_{name}"].to_numpy() / reference - 1))
    cells["over dense AdamW [%]"] = points(*interval(np.mean(over, axis=0).tolist()))
    return cells


def precisions(single: pd.DataFrame, half: pd.DataFrame) -> Lines:
    lines = []
    single = single[single["tasks"] == TRIPLE]
    for (method, target, strength), some in half.groupby(["method", "target_macs", "lambda"], dropna=False):
        if method == "dense":
            continue
        same = single["target_macs"].eq(target) if target == target else single["target_macs"].isna()
        other = single[(single["method"] == method) & same & (single["lambda"] == strength)]
        if other.empty:
            continue
        merged = some.merge(other, on="seed", suffixes=("", "_single"))
        setting = percent(target) if target == target else f"λ = {text.strength(strength)}"
        lines.append(
            {
                "model": f"{method}, {setting}",
                "float32": mean_of(other["delta_m"]),
                "bfloat16": mean_of(some["delta_m"]),
                "difference, by seed": points(*interval((merged["delta_m"] - merged["delta_m_single"]).tolist())),
            }
        )
    return lines


def claims(sweep: Sweep) -> Lines:
    return [
        {
            "claim": claim.statement,
            "verdict": claim.verdict,
            "effect [%]": text.percent(claim.effect.mean, signed=True),
            "95 % interval": between(claim.effect) if claim.effect.number > 1 else "",
            "p (Holm)": f"{claim.adjusted_p:.2g}" if claim.adjusted_p == claim.adjusted_p else "",
            "seeds": str(claim.seeds),
        }
        for claim in judge_claims(sweep)
    ]


def between(effect: Interval) -> str:
    return f"{text.percent(effect.low, signed=True)} to {text.percent(effect.high, signed=True)}"


def latencies(rows: pd.DataFrame) -> Lines:
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for _, row in rows.sort_values(["cost", "width"], ascending=[False, True]).iterrows():
        setting = f"λ = {text.strength(row['lambda'])}" if row["lambda"] else percent(row["target_macs"])
        line = lines.setdefault((row["method"], setting), {"model": f"{row['method']}, {setting}"})
        line["share of the MACs"] = f"{100 * row['cost']:.0f} %"
        where = f"{row['width']} × {row['height']}"
        line[f"{where} [ms]"] = f"{row['milliseconds']:.2f}"
        line[f"times the dense speed, {where}"] = f"{1 / row['share']:.2f}"
    return list(lines.values())


def mean_of(values: "pd.Series[float]") -> str:
    """Per cent, with the 95 % interval over seeds."""
    return points(*interval(values.tolist()))

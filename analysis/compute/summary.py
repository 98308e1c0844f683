"""The results of a sweep in sentences: how much is done, which model to use, and what to be careful about."""

import math
import shlex
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import text
from analysis.compute.best import Best, asked_for, beaten_by_constant
from analysis.compute.costs import SHARES
from analysis.compute.fronts import joined
from analysis.compute.setting_names import setting_name
from analysis.read.load import Sweep
from mtl.vocabulary.objective import MODEL_MACS

# Combinations for which the first lines name a model.
MOST_COMBINATIONS = 3
ITSELF = "That is what a user would do without parsimony."


def progress(sweep: Sweep) -> str:
    """How many of the planned trials are done, failed, stopped and not finished."""
    ended = len(sweep.results)
    done, failed, stopped = (len(sweep.trials(status)) for status in ("done", "failed", "stopped"))
    sentence = f"{done} of {text.count(sweep.planned, 'planned trial')} {'is' if done == 1 else 'are'} done"
    if failed:
        sentence += f", {failed} failed"
    if stopped:
        sentence += f", {stopped} {'was' if stopped == 1 else 'were'} stopped early (not in the means)"
    missing = max(0, sweep.planned - ended)
    if missing == 0:
        return f"{sentence}."
    begun = 0 if sweep.history is None else len(set(sweep.history["trial_id"]) - set(sweep.results["trial_id"]))
    started = f" ({begun} of them {'has' if begun == 1 else 'have'} started)" if begun else ""
    verb = "is" if missing == 1 else "are"
    return f"{sentence}. {missing} of {sweep.planned} trials {verb} not finished{started}: what follows will change."


def findings(sweep: Sweep, marked: pd.DataFrame, bests: Sequence[Best], volumes: pd.DataFrame) -> list[str]:
    """For the tasks that the sweep was made for: the model to use, or why there is none, and the range of the front."""
    sentences = []
    for tasks in asked_for([best.tasks for best in bests])[:MOST_COMBINATIONS]:
        best = next(one for one in bests if one.tasks == tasks)
        sentences.append(model_to_use(sweep, marked, best))
        if sentence := beside(sweep, marked, best):
            sentences.append(sentence)
        if sentence := front_range(marked, tasks, volumes):
            sentences.append(sentence)
    return sentences


def model_to_use(sweep: Sweep, marked: pd.DataFrame, best: Best) -> str:
    """Which model, its test results, why it was chosen, and the command that makes it small."""
    if best.row is None:
        return f"No model of {best.tasks} is worth using: {best.why}."
    setting = marked.loc[best.row]
    values = setting.to_dict()
    several = marked["method"].nunique() > 1
    size = _size(values) or f"{100 * values['group_sparsity_mean']:.0f} % of the channel groups gone"
    said = f"Model to use for {best.tasks}: {setting_name(values, method=several)}: {size}"
    if performance := _performance(values):
        said += f", Δm {performance}"
    over = _over(int(values["delta_m_trials"] or values["trials"]))
    said += f" (test split, {over})."
    return f"{said} {reason(sweep, marked, best)} Its trial {best.trial_id}: {command(sweep, best.trial_id)}"


def command(sweep: Sweep, trial_id: str) -> str:
    """What makes a trial's model small."""
    command = f"parsimony compact {shlex.quote(sweep.model_path(trial_id))}"
    recipe = sweep.info.get("recipe") or {}
    name = str(recipe.get("model") or recipe.get("backbone") or "")
    # A class of the user's own runs only where it is asked for.
    own = ":" in name and not name.startswith("timm:")
    return f"{command} --network {shlex.quote(name)}" if own else command


def reason(sweep: Sweep, marked: pd.DataFrame, best: Best) -> str:
    """Why a model is the one to use, in sentences."""
    lost = f"{100 * best.loss:.1f} %" if best.loss > 0 else "nothing"
    if not math.isnan(best.loss):
        said = (
            f"It loses {lost} of what the dense model has over one that sees nothing of the image, and is {best.why}."
        )
    else:
        said = f"It is {best.why}."
    if worse := beaten_by_constant(sweep, marked.loc[[best.row]], "test")[0]:
        said += f" On the test split it is worse than the constant predictor on {', '.join(worse)}."
    return said


def _size(values: Mapping[Hashable, Any]) -> str:
    """What it costs; empty where that, or the dense model of the same tasks, is not known."""
    shares = [
        f"{100 * values[name]:.0f} % of its {label}"
        for label, column in (("MACs", SHARES[MODEL_MACS]), ("parameters", SHARES["model_parameters"]))
        if not math.isnan(values.get(name := f"{column}_mean", math.nan))
    ]
    return " and ".join(shares).replace("its", "the dense model's", 1)


def _performance(values: Mapping[Hashable, Any]) -> str:
    """Over dense models: single-task ones, and where these are others the one of the same tasks."""
    references = {"test_delta_m": "dense single-task models"}
    if "+" in str(values["tasks"]) and values["side"] != "dense":
        references["test_over_dense"] = "the dense model of the same tasks"
    return ", ".join(
        f"{text.percent(mean, values[f'{column}_std'], signed=True)} % against {reference}"
        for column, reference in references.items()
        if not math.isnan(mean := values.get(f"{column}_mean", math.nan))
    )


def beside(sweep: Sweep, marked: pd.DataFrame, best: Best) -> str:
    """What the other side reaches at the cost of the model to use: beside ours what a user would do instead. Empty
    where there is no such model, or that is the dense one, or costs are not known."""
    if best.row is None:
        return ""
    own = marked.loc[best.row].to_dict()
    if not _size(own) or own["side"] == "dense":
        return ""
    if best.rival is not None:
        rival = marked.loc[best.rival].to_dict()
        said = "At no more cost, the best of what a user would do instead"
        if own["side"] != "ours":
            said = f"{ITSELF} At no more cost, the best of ours"
        name = setting_name(rival, method=marked["method"].nunique() > 1)
        reached = f", Δm {performance}" if (performance := _performance(rival)) else ""
        return f"{said} is {name}: {_size(rival)}{reached}."
    if own["side"] != "ours":
        return f"{ITSELF} At no more cost, there is nothing of ours here."
    said = "At no more cost, there is nothing here of what a user would do instead, such as a narrower network"
    recipe = sweep.info["recipe"]
    if sweep.info.get("search") or not isinstance(recipe, Mapping):
        return f"{said}."
    compressors = [*(recipe.get("compressors") or ["penalty"]), "narrow"]
    shares = [*(recipe.get("targets") or []), float(f"{own[f'{SHARES[MODEL_MACS]}_mean']:.2g}")]
    listed = [",".join(dict.fromkeys(map(str, values))) for values in (compressors, shares)]
    return f"{said}: --set compressors={listed[0]} --set targets={listed[1]} adds one."


def front_range(marked: pd.DataFrame, tasks: str, volumes: pd.DataFrame) -> str:
    """From where to where the front of a combination runs, and its hypervolume; empty where it is one point."""
    rows, volume = marked[marked["tasks"] == tasks], volumes.loc[volumes["tasks"] == tasks].iloc[0]
    if sentence := _cost_front(rows, volume):
        return sentence
    front = rows.loc[rows["on_front"], "group_sparsity_mean"]
    if front.nunique() < 2:
        return ""
    low, high = f"{100 * front.min():.0f}", f"{100 * front.max():.0f}"
    return (
        f"The front of {tasks} runs from {low} % to {high} % group sparsity; its hypervolume is "
        f"{volume['hypervolume']:.3g}."
    )


def _cost_front(rows: pd.DataFrame, volume: pd.Series) -> str:
    """The range of a combination's front over all methods; empty where costs are not known."""
    front = rows[rows["on_cost_front"]]
    name = f"{SHARES[MODEL_MACS]}_mean"
    if len(front) < 2 or name not in front or front[name].isna().any():
        return ""
    low, high = (f"{100 * share:.0f}" for share in (front[name].min(), front[name].max()))
    made = ", ".join(dict.fromkeys(front.sort_values(name, ascending=False)["strategy"]))
    return (
        f"The front of {rows['tasks'].iloc[0]} over all methods ({made}) runs from {high} % to {low} % of the dense "
        f"model's MACs; its hypervolume over Δm × log2 MACs is {volume['cost_hypervolume']:.3g}."
    )


def cautions(sweep: Sweep, marked: pd.DataFrame) -> list[str]:
    """What a reader might overlook: few seeds, missing baselines, models no better than a constant."""
    sentences = []
    if (marked["trials"] == 1).all():
        sentences.append("Every setting was run with one seed: nothing is known of the spread, so there is no ±.")
    elif (marked["trials"] == 1).any():
        lone = int((marked["trials"] == 1).sum())
        sentences.append(f"{lone} of {len(marked)} settings have one finished trial; they are shown without ±.")
    if (marked["trials"] > marked["seeds"]).any():
        sentences.append("Some settings have several trials of one seed; their means run over all of them.")
    partly = int(marked["delta_m_trials"].between(1, marked["trials"] - 1).sum())
    if partly:
        sentences.append(
            f"In {partly} of {len(marked)} settings Δm is the mean of fewer trials than the other numbers, as a dense "
            f"single-task model of some seed is not there."
        )
    own = ", ".join(marked.loc[marked["objectives"] != joined(sweep.objectives), "tasks"].unique())
    if own:
        sentences.append(
            f"Not every objective is known for {own}, as Δm is not without the dense (λ = 0) single-task models of the "
            f"same seed; their fronts are drawn over their own primary metrics."
        )
    for task, primary in sweep.tasks.items():
        column, metric = f"test_{primary}_mean", sweep.metrics[primary]
        constant = sweep.constant_predictor.get(primary)
        if constant is None or column not in marked or marked[column].isna().all():
            continue
        best = marked[column].max() if metric.maximize else marked[column].min()
        if not (best > constant if metric.maximize else best < constant):
            sentences.append(f"No model beats the constant predictor on {task} ({metric.label} {constant:.3g}).")
    return sentences


def _over(trials: int) -> str:
    return "one seed" if trials == 1 else f"mean ± sample standard deviation over {trials} seeds"

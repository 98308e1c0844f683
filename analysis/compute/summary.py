"""The results of a sweep in sentences: how much is done, which model to use, and what to be careful about."""

import math
import shlex
from collections.abc import Sequence

import pandas as pd

from analysis import text
from analysis.compute.best import Best, asked_for, beaten_by_constant
from analysis.compute.fronts import joined
from analysis.read.load import Sweep

# Combinations for which the first lines name a model.
MOST_COMBINATIONS = 3


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
        sentences += [_use(sweep, marked, best)]
        front = marked.loc[(marked["tasks"] == tasks) & marked["on_front"], "group_sparsity_mean"]
        if front.nunique() > 1:
            low, high = f"{100 * front.min():.0f}", f"{100 * front.max():.0f}"
            volume = volumes.loc[volumes["tasks"] == tasks, "hypervolume"].iloc[0]
            sentences.append(
                f"The front of {tasks} runs from {low} % to {high} % group sparsity; its hypervolume is {volume:.3g}."
            )
    return sentences


def _use(sweep: Sweep, marked: pd.DataFrame, best: Best) -> str:
    """Which model, its test results, why it was chosen, and the command that makes it small."""
    if best.row is None:
        return f"No model of {best.tasks} is worth using: {best.why}."
    setting = marked.loc[best.row]
    values = setting.to_dict()
    method = f", {values['method']}" if marked["method"].nunique() > 1 else ""
    said = f"Model to use for {best.tasks}: λ = {text.strength(values['lambda'])}{method}: "
    said += f"{100 * values['group_sparsity_mean']:.0f} % of the channel groups gone"
    over = _over(int(values["trials"]))
    if not math.isnan(values["test_delta_m_mean"]):
        delta_m = text.percent(values["test_delta_m_mean"], values["test_delta_m_std"], signed=True)
        over = _over(int(values["delta_m_trials"]))
        said += f", Δm {delta_m} % against dense single-task models"
    said += f" (test split, {over})."
    lost = f"{100 * best.loss:.1f} %" if best.loss > 0 else "nothing"
    if not math.isnan(best.loss):
        said += (
            f" It loses {lost} of what the dense model has over one that sees nothing of the image, and is {best.why}."
        )
    else:
        said += f" It is {best.why}."
    if worse := beaten_by_constant(sweep, marked.loc[[best.row]], "test")[0]:
        said += f" On the test split it is worse than the constant predictor on {', '.join(worse)}."
    return f"{said} Its trial {best.trial_id}: parsimony compact {shlex.quote(sweep.model_path(best.trial_id))}"


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

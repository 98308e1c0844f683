"""What a sweep says, in sentences: how much of it is done, the best trade-off, and what to be careful about."""

import pandas as pd

from analysis import text
from analysis.fronts import OVERALL, overall_best
from analysis.load import Sweep


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


def findings(marked: pd.DataFrame, volumes: pd.DataFrame) -> list[str]:
    """The best trade-off over all combinations and the span of the front; empty where no Δm is known."""
    index = overall_best(marked)
    if index is None:
        return []
    best = marked.loc[index].to_dict()
    groups = f"{100 * best['group_sparsity_mean']:.0f}"
    delta_m = text.percent(best["test_delta_m_mean"], best["test_delta_m_std"], signed=True)
    sentences = [
        f"Best trade-off: {best['tasks']} at λ = {text.strength(best['lambda'])}: {groups} % of the channel groups "
        f"gone, Δm {delta_m} % against dense single-task models (test split, {_over(int(best['delta_m_trials']))})."
    ]
    front = marked.loc[marked["on_overall_front"], "group_sparsity_mean"]
    if front.nunique() > 1:
        low, high = f"{100 * front.min():.0f}", f"{100 * front.max():.0f}"
        over = " over all combinations" if marked["tasks"].nunique() > 1 else ""
        volume = volumes.loc[volumes["tasks"] == OVERALL, "hypervolume"].iloc[0]
        sentences.append(
            f"The front{over} runs from {low} % to {high} % group sparsity; its hypervolume is {volume:.3g}."
        )
    return sentences


def cautions(sweep: Sweep, marked: pd.DataFrame) -> list[str]:
    """What a reader could otherwise take for granted: seeds, missing baselines, models no better than a constant."""
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
    own = ", ".join(marked.loc[marked["objectives"] != _objectives(sweep), "tasks"].unique())
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


def _objectives(sweep: Sweep) -> str:
    return "+".join(objective.column for objective in sweep.objectives)

"""Everything that the analysis computes, in one typed value: figures, tables and the report draw from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.claims import Claim
from analysis.load import Objective, Sweep
from analysis.paper_tables import PaperTable


@dataclass(frozen=True)
class Computed:
    """What one sweep, or several merged ones, say.

    Shares and Δm are fractions, metrics are in their own units. An empty table keeps its columns.

    Attributes:
        sweep: what was read; `sweep.results` has a column `sweep`, the name of the sweep that a trial is of, and
            `setup`, the name of the first sweep with the same recipe but for combinations, λ, seeds and penalty.
        marked: one row a setting (setup, tasks, penalty, λ): means and deviations over seeds, its place on the fronts,
            and `knee` (see `analysis.fronts.with_fronts`). Dominated settings stay in.
        runs: one row a trial, whatever its status: `judged`, `why_not` (why it is on no front), `objectives`,
            `on_front`, `on_overall_front`: the fronts over single runs.
        volumes: hypervolume of each combination's front, and of all, with the reference.
        run_volumes: hypervolume of each combination and seed: `tasks`, `seed`, `hypervolume`, the reference.
        attainment: the empirical attainment surfaces over seeds: `tasks`, `level` (25, 50, 75: attained by at least
            that percentage of the seeds), `seeds`, `objectives`, and a column for each reported objective.
        knees: one row a front that has a knee point: the setting, its reported values, `distance`.
        claims: the paper's four claims, tested.
        affinity: what each task gains from which others: `setup`, `penalty`, `lambda`, `task`, `partners`, `gain`,
            `low`, `high`, `p_value`, `adjusted_p`, `seeds`.
        paper_tables: tables 1 to 3 of the paper, as far as the sweep has their tasks, beside the published numbers.
        layer_survival: share of groups that survive, by setting and layer: `setup`, `tasks`, `penalty`, `lambda`,
            `layer`, `position`, `stage`, `groups`, `alive_mean`, `alive_std`, `seeds`. None without layers.parquet.
        stage_survival: the same by stage, without `layer` and `position`.
        overlap: which groups the joint model shares with single-task models: `setup`, `penalty`, `lambda`, `seed`,
            `task`, `joint`, `stage` ("all" and each stage), `jaccard`, `expected` (under independence), `excess`.
        missing: planned trials that are not done: `sweep`, `tasks`, `penalty`, `lambda`, `seed`, `state`.
        constant_predictor: one row a metric: `metric`, `label`, `unit`, `maximize`, `constant`, `best`, `best_tasks`,
            `best_lambda`, `beaten`: the best mean over seeds of any setting beside it, on the test split.
        cautions: sentences: what a reader could otherwise take for granted.
    """

    sweep: Sweep
    marked: pd.DataFrame
    runs: pd.DataFrame
    volumes: pd.DataFrame
    run_volumes: pd.DataFrame
    attainment: pd.DataFrame
    knees: pd.DataFrame
    claims: tuple[Claim, ...]
    affinity: pd.DataFrame
    paper_tables: tuple[PaperTable, ...]
    layer_survival: pd.DataFrame | None
    stage_survival: pd.DataFrame | None
    overlap: pd.DataFrame | None
    missing: pd.DataFrame
    constant_predictor: pd.DataFrame
    cautions: tuple[str, ...]


def compute(sweeps: Sequence[Path | str] | Path | str, objectives: Sequence[Objective] = ()) -> Computed:
    """Reads the folders of one or many sweeps, finished or running, and computes everything.

    Args:
        sweeps: a sweep's folder, or several.
        objectives: what the fronts trade; those of `sweep.json` where empty.

    Raises:
        BadInput: a folder is no sweep, its files cannot be used, or no trial is done yet.
    """
    raise NotImplementedError

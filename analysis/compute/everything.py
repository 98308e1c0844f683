"""Everything that the analysis computes, in one typed value for the figures, the tables and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import text
from analysis.compute import summary
from analysis.compute.affinity import affinity_table
from analysis.compute.against_single_tasks import against_single_tasks
from analysis.compute.attainment import attainment_table
from analysis.compute.benchmark import Benchmark, benchmark
from analysis.compute.best import Best, with_best
from analysis.compute.claims import Claim, judge_claims
from analysis.compute.constant import constant_table
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.layers import LayerTables, layer_tables
from analysis.compute.merge import load_sweeps
from analysis.compute.missing import missing_table
from analysis.compute.paper_tables import PaperTable, paper_tables
from analysis.compute.runs import run_table, run_volumes, torch_versions
from analysis.compute.settings import settings_table
from analysis.read.load import LONGER, LONGER_NAME, Sweep
from mtl.vocabulary.delta_m import NO_RETRAINING
from mtl.vocabulary.objective import Objective

NAMED = 3  # trials that a caution names


@dataclass(frozen=True)
class Computed:
    """What was found in one sweep, or in several merged ones.

    Shares and Δm are fractions, metrics are in their own units. An empty table keeps its columns.

    Attributes:
        sweep: what was read; `sweep.results` has a column `sweep`, the name of the sweep that a trial is of, and
            `setup`, the name of the first sweep with the same recipe but for combinations, λ, seeds and penalty.
        marked: one row per setting (setup, tasks, method, λ): means and deviations over seeds, its place on the fronts,
            and `best`, whether it is the one to use (see `analysis.compute.best`). Dominated settings stay in.
        bests: the model to use of each combination, or why there is none.
        runs: one row per trial, whatever its status, and the fronts over single runs (see `run_table`).
        volumes: hypervolume of each combination's front, with the reference (see `hypervolume_table`).
        run_volumes: hypervolume of each combination and seed.
        attainment: the empirical attainment surfaces over seeds (see `attainment_table`).
        claims: the paper's four claims, tested.
        single_task: multi-task models against the single-task models of the same tasks (see `against_single_tasks`).
        affinity: what each task gains from which others (see `affinity_table`).
        paper_tables: tables 1 to 3 of the paper, as far as the sweep has their tasks, beside the published numbers.
        benchmark: beside what others published on NYU-v2 in MTAN's setting; None where the sweep is not of it.
        layers: which groups survive in each layer and stage, and which are shared; None without layers.parquet.
        missing: planned trials that are not done (see `missing_table`).
        constant_predictor: the constant predictor's metrics beside the best of the sweep (see `constant_table`).
        cautions: sentences that warn of what a reader might overlook.
    """

    sweep: Sweep
    marked: pd.DataFrame
    bests: tuple[Best, ...]
    runs: pd.DataFrame
    volumes: pd.DataFrame
    run_volumes: pd.DataFrame
    attainment: pd.DataFrame
    claims: tuple[Claim, ...]
    single_task: pd.DataFrame
    affinity: pd.DataFrame
    paper_tables: tuple[PaperTable, ...]
    benchmark: Benchmark | None
    layers: LayerTables | None
    missing: pd.DataFrame
    constant_predictor: pd.DataFrame
    cautions: tuple[str, ...]


def compute(
    sweeps: Sequence[Path | str] | Path | str, objectives: Sequence[Objective] = (), places: Sequence[str] = ()
) -> Computed:
    """Reads the folders of one or many sweeps, finished or running, and computes everything.

    Args:
        sweeps: a sweep's folder, or several.
        objectives: what the fronts trade; those of `sweep.json` where empty.
        places: where people find each folder's sweep, where that is not the folder.

    Raises:
        BadInput: a folder is no sweep, its files cannot be used, or no trial is done yet.
    """
    folders = [sweeps] if isinstance(sweeps, str | Path) else list(sweeps)
    sweep = load_sweeps(folders, objectives, places)
    settings = settings_table(sweep)
    marked, bests = with_best(sweep, with_fronts(sweep, settings))
    runs = run_table(sweep, marked)
    volumes = hypervolume_table(sweep, marked)
    return Computed(
        sweep=sweep,
        marked=marked,
        bests=bests,
        runs=runs,
        volumes=volumes,
        run_volumes=run_volumes(sweep, runs, volumes),
        attainment=attainment_table(sweep, runs),
        claims=judge_claims(sweep),
        single_task=against_single_tasks(sweep, marked),
        affinity=affinity_table(sweep),
        paper_tables=paper_tables(sweep, settings),
        benchmark=benchmark(sweep, marked),
        layers=layer_tables(sweep),
        missing=missing_table(sweep),
        constant_predictor=constant_table(sweep, settings),
        cautions=(*summary.cautions(sweep, marked), *further_cautions(sweep, runs)),
    )


def further_cautions(sweep: Sweep, runs: pd.DataFrame) -> list[str]:
    """Cautions about trials without a number, merged sweeps, and files that older sweeps did not write."""
    sentences = []
    without = runs[~runs["judged"] & (runs["status"] == "done")]
    for why, rows in without.groupby("why_not", sort=False):
        named = ", ".join(rows["trial_id"].head(NAMED))
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        sentences.append(
            f"{text.count(len(rows), 'done trial')} {'has' if len(rows) == 1 else 'have'} {why} and "
            f"{'is' if len(rows) == 1 else 'are'} on no front of single runs: {named}{more}."
        )
    if biased := [part.name for part in sweep.parts or (sweep,) if part.info.get("validates_on_train")]:
        sentences.append(
            f"{', '.join(biased)}: the images that validate were trained on, so that whatever was chosen by "
            "validation, the fronts and the model to use, is chosen badly; the test split is untouched."
        )
    setups = sweep.results["setup"].unique()
    if len(setups) > 1:
        sentences.append(
            f"The sweeps are of {len(setups)} setups ({', '.join(map(str, setups))}), whose recipes or data differ in "
            "more than tasks, λ, seeds and penalty: their trials are not averaged together, and Δm is each setup's own."
        )
        if old := [part.name for part in sweep.parts if not part.info.get("setup")]:
            sentences.append(
                f"{', '.join(old)}: of an earlier version, which did not write the setup, so that nothing is averaged "
                "with it; the sweep's own command, given again, writes it."
            )
    sentences += [*_retraining_caution(sweep), *_path_caution(sweep)]
    if len(versions := torch_versions(sweep)) > 1:
        sentences.append(
            f"The trials ran with torch {' and '.join(versions)}: the same trial may come to other numbers with "
            "another version."
        )
    known = {name for part in sweep.parts for name in part.constant_predictor}
    if differing := sorted(known - set(sweep.constant_predictor)):
        sentences.append(
            f"The sweeps disagree on the constant predictor of {', '.join(differing)}, so it is shown nowhere."
        )
    if sweep.layers is None:
        sentences.append("No layers.parquet was written: where channels survive, and which tasks share, is not known.")
    else:
        done = sweep.trials("done")
        absent = int((~done["trial_id"].isin(sweep.layers["trial_id"])).sum())
        if absent:
            sentences.append(f"{absent} of {len(done)} done trials have no rows in layers.parquet.")
    return sentences


def _path_caution(sweep: Sweep) -> list[str]:
    """How many epochs models have had that start from another trial's model."""
    done = sweep.trials("done")
    if "epochs_in_all" not in done or not (on_path := done["epochs_in_all"] > done["epochs_run"]).any():
        return []
    most, others = int(done["epochs_in_all"][on_path].max()), int(done["epochs_in_all"][~on_path].max())
    return [
        f"Models of a path start from another trial's model: they have had up to {most} epochs in all, the others up "
        f"to {others}. What more epochs gain is part of their Δm."
    ]


def _retraining_caution(sweep: Sweep) -> list[str]:
    """What to compare retrained models with, and which of them have nothing to compare with."""
    done = sweep.trials("done")
    longer = set(done["tasks"][done["retraining"] == LONGER])
    retrained = done["tasks"][~done["retraining"].isin([NO_RETRAINING, LONGER])].unique()
    if not len(retrained):
        return []
    alone = [str(tasks) for tasks in retrained if tasks not in longer]
    lacking = f" There is none of {', '.join(alone)}." if alone else ""
    return [
        f"Retrained models have had twice the epochs of the others: what that gains is to be read against "
        f"{LONGER_NAME}, and not against Δm = 0, where the models have the recipe's own epochs.{lacking}"
    ]

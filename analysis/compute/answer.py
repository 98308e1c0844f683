"""The model to use, in the same sentences as at the head of the report."""

from pathlib import Path

from analysis.compute import summary
from analysis.compute.best import find_best
from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table


def answer(folder: Path | str, place: str = "") -> list[str]:
    """For the tasks that a sweep or search was made for: the model to use or why there is none, and the front's span.

    Args:
        folder: with the sweep's files.
        place: where people find them, where that is not the folder.

    Raises:
        BadInput: the folder is no sweep, its files cannot be used, or no trial is done yet.
    """
    sweep = load_sweeps([folder], places=[place])
    marked = with_fronts(sweep, settings_table(sweep))
    return summary.findings(sweep, marked, find_best(sweep, marked), hypervolume_table(sweep, marked))

"""The study's figures, as PNG: those of the analysis, of the study's sweeps."""

from pathlib import Path

from analysis.compute.best import with_best
from analysis.compute.fronts import with_fronts
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.figures.costs import cost_figure
from analysis.figures.drawing import Drawing, style
from analysis.figures.lambda_curves import metrics_figure
from mtl.vocabulary.files import RESULTS

COST, LAMBDA = "cost", "lambda"
# By the name of the picture: the sweep and what is drawn of it.
PICTURES = {
    "study-nyuv2": ("nyuv2", COST),
    "study-nyuv2-lambda": ("nyuv2", LAMBDA),
    "study-celebamask": ("celebamask", COST),
}


def draw(folder: Path) -> dict[str, bytes]:
    """By name; those whose sweeps are not in the folder are left out."""
    pictures = {}
    for name, (sweep, what) in PICTURES.items():
        if (folder / sweep / RESULTS).is_file():
            drawing = picture(folder / sweep, what)
            if isinstance(drawing, Drawing):
                pictures[name] = drawing.png
    return pictures


def picture(folder: Path, what: str) -> Drawing | str:
    """A figure of a sweep, or why there is none."""
    sweep = load_sweeps([folder])
    marked, _ = with_best(sweep, with_fronts(sweep, settings_table(sweep)))
    with style():
        return cost_figure(marked) if what == COST else metrics_figure(sweep, marked)

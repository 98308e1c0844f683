"""Tables of strings, which metrics they show, and how their columns are called."""

from dataclasses import dataclass

from analysis.read.load import Sweep
from mtl.vocabulary.metric import Metric

CONSTANT = "constant predictor"
# What the tables 1 to 3 of arXiv 2308.12114 report, shown beside the sweep's own primary metrics where it has them.
PAPER_METRICS = ("segmentation_iou_micro", "depth_mae", "normals_cos")
DEVIATION_NOTE = "± is the sample standard deviation over seeds (ddof 1); a value without ± comes from one trial."


@dataclass(frozen=True)
class TextTable:
    """A table of strings. `marked` says of each row whether it is to stand out."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[bool, ...]
    note: str

    def markdown(self) -> str:
        """A pipe table with its note below; marked rows are bold."""
        lines = [self.header, tuple("---" for _ in self.header)]
        for row, marked in zip(self.rows, self.marked, strict=True):
            lines.append(tuple(f"**{cell}**" if marked and cell else cell for cell in row))
        body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"{body}\n\n{self.note}\n"


def shown_metrics(sweep: Sweep) -> list[Metric]:
    """Each task's primary metric, and the paper's for that task, as far as the trials report them."""
    names = []
    for task, primary in sweep.tasks.items():
        names += [primary, *(name for name in PAPER_METRICS if name in sweep.metrics and name.startswith(f"{task}_"))]
    return [sweep.metrics[name] for name in dict.fromkeys(names) if f"test_{name}" in sweep.results.columns]


def metric_header(metric: Metric) -> str:
    """The label, the unit if there is one, and the better direction."""
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.label}{unit} {'↑' if metric.maximize else '↓'}"

"""Two tasks of one kind, in what a real trial writes: each has a column, a panel and a name of its own."""

import sys
from pathlib import Path

import pytest

from analysis.compute.everything import compute
from analysis.compute.text_table import shown_metrics
from analysis.figures.lambda_curves import metric_panels
from analysis.write.report_tables import written_constants
from analysis.write.tables import written_results
from search.cli import main

TWINS = """
import numpy as np
from mtl.datasets.base import Dataset, Sample
from mtl.tasks import Task

class Twins(Dataset):
    name = "twins"
    tasks = {
        "left": Task("left", "segmentation", ("dark", "bright")),
        "right": Task("right", "segmentation", ("dark", "bright")),
        "tall": Task("tall", "binary"),
        "wide": Task("wide", "classification", ("no", "yes")),
    }

    def __init__(self, root):
        pass

    def fingerprint(self):
        return "twins"

    def size(self, split):
        return 8

    def read(self, split, index, image_size):
        image = np.random.default_rng(index).integers(0, 256, (*image_size, 3), np.uint8)
        bright = (image.mean(axis=2) > 128).astype(np.uint8)
        label = np.array(index % 2, np.uint8)
        return Sample(image, {"left": bright, "right": 1 - bright, "tall": label, "wide": label})
"""
RECIPE = """
dataset = "twins:Twins"
image_size = 16
tasks = ["left", "right", "tall", "wide"]
combinations = ["left+right+tall+wide"]
lambdas = [0]
seeds = 1
backbone = "resnet18"
backbone_width = 8
backbone_layers = [1, 1, 1, 1]
head_channels = 4
head_rates = [1]
batch_size = 8
epochs = 1
"""
LABELS = ["left mean IoU", "right mean IoU", "tall accuracy", "wide accuracy"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "twins.py").write_text(TWINS)
    (folder / "twins.toml").write_text(RECIPE)
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.delitem(sys.modules, "twins", raising=False)
        words = ["--data", str(folder / "data"), "--storage", str(folder / "results")]
        assert main(["train", str(folder / "twins.toml"), *words]) == 0
        sys.modules.pop("twins", None)
    return folder / "results" / "twins"


def test_each_task_has_a_column_a_panel_and_a_name(trained: Path) -> None:
    found = compute(trained)
    assert [metric.label for metric in shown_metrics(found.sweep)] == LABELS
    table = written_results(found.sweep, found.marked)
    assert [header for header in table.header if "IoU" in header or "accuracy" in header] == [
        f"{label} ↑" for label in LABELS
    ]
    (row,) = found.sweep.results.to_dict("records")
    for label, task in zip(LABELS, ("left", "right", "tall", "wide"), strict=True):
        value = row[f"test_{task}_{'miou' if 'IoU' in label else 'accuracy'}"]
        assert table.rows[0][table.header.index(f"{label} ↑")] == f"{value:.3f}"
    assert [panel.title for panel in metric_panels(found.sweep, found.marked)] == LABELS
    names = [line[0] for line in written_constants(found).rows]
    assert len(set(names)) == len(names) == 2 * 3 + 2 * 2

"""What the published dense baseline was trained with, beside ours: the same network, data, rate, epochs and seeds.

The authors train dense models by Adam, whose weight decay of 0.1 is an L2 penalty on all parameters (coupled), and
sparse ones by AdamW, whose decay of 0.1 is decoupled. So a published gain of a sparse model over the dense one is that
of another optimizer as well. Here the dense model is trained by both.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from benchmarks.study.parts import Part
from benchmarks.study.run import on_data
from mtl.config import TrialConfig
from mtl.networks.model import MultiTaskModel
from mtl.training import Training, set_deterministic
from search.engine.trial import trial_data
from search.recipe_file import load_recipe
from search.sweep import open_sweep

COUPLED = 0.1


class CoupledAdam(torch.optim.Adam):
    """Adam with L2 0.1 in the gradient, as the published dense models have it."""

    def raise_refused(self) -> None:
        """Nothing is refused: what `Training` asks of its optimizer."""


class CoupledTraining(Training):
    """A dense training by `CoupledAdam`; learned task weights keep their own rate and have no decay, as in ours."""

    def _start(self, model: MultiTaskModel) -> None:
        super()._start(model)
        learned = list(self.weighting.parameters())
        groups = [{"params": list(self.model.parameters()), "lr": self.config.lr, "weight_decay": COUPLED}]
        if learned:
            groups.append({"params": learned, "lr": self.config.weighting_lr, "weight_decay": 0.0})
        self.optimizer = CoupledAdam(groups)  # type: ignore[assignment]
        self.scheduler = self._make_scheduler()


def train_baselines(part: Part, storage: Path, data: Mapping[str, Path | None], file: Path) -> None:
    """Train the part's dense models by `CoupledAdam` and write their test metrics: one row a seed, `seed` and the
    metrics; those that are there are not trained again."""
    fields, folder = on_data(part, storage, data)
    sweep = open_sweep(load_recipe(part.recipe, fields), str(storage), part.name, folder, here=True)
    rows = pd.read_parquet(file).to_dict("records") if file.is_file() else []
    known = {row["seed"] for row in rows}
    dense = [config for config in sweep.configs if config.strength == 0 and config.compressor == "penalty"]
    for config in dense:
        if config.seed not in known:
            print(f"dense by Adam with coupled L2, seed {config.seed}", file=sys.stderr, flush=True)
            rows.append({"seed": config.seed, **tested(config, folder)})
            _write(pd.DataFrame(rows), file)


def tested(config: TrialConfig, data: str | None) -> dict[str, float]:
    """The test metrics of one dense training by `CoupledAdam`."""
    set_deterministic()
    training = CoupledTraining(config, *trial_data(config, data), torch.device("cpu"))
    while not training.done:
        training.run_epoch()
    return {name: value for name, value in training.test().items() if name.startswith(("test_", "val_"))}


def _write(table: pd.DataFrame, file: Path) -> None:
    new = file.with_suffix(".new")
    table.to_parquet(new, index=False)
    new.replace(file)

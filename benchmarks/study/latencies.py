"""How long the study's compact models take for one image, beside the dense model in turns, on this machine.

At the images' size in the study and at four times its sides, where a small network's fixed costs weigh less. Dense
models are compacted too (nothing goes, batch norms are folded), so that the gain is that of the channels alone.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.compute.costs import DENSE, strategies, targets
from analysis.read.load import Sweep
from mtl.compaction import certify, compact
from mtl.networks.checkpoint import load_checkpoint
from mtl.vocabulary.files import MODEL, trial_file

METHODS = ("path", "selection", "narrow", "group_lasso", "torch_pruning_norm")
SIZES = (1, 4)  # times the sides of the study's images
ROUNDS, WARM_UP = 60, 10


def measure_latencies(sweep: Sweep, tasks: str, seed: int = 0, rounds: int = ROUNDS) -> pd.DataFrame:
    """One row a model and size, of these tasks and seed: `method`, `target_macs`, `lambda`, `cost` (share of the dense
    model's MACs), `height` and `width` in pixels, `milliseconds` (median) and `share` (median over rounds of its time
    over the dense model's in the same round)."""
    done = sweep.trials("done")
    done = done[(done["tasks"] == tasks) & (done["seed"] == seed)]
    done = done.assign(method=strategies(done), target_macs=targets(done))
    chosen = done[done["method"].isin(METHODS)]
    dense = done[done["method"] == DENSE].iloc[0]
    rows = []
    height, width = sweep.info["recipe"]["image_size"]
    for times in SIZES:
        image = random_image(times * height, times * width)
        full = compacted(sweep.folder, dense["trial_id"], image)
        for _, trial in chosen.iterrows():
            print(f"latency of {trial['trial_id']} at {times * width} x {times * height}", file=sys.stderr, flush=True)
            own, all_of_it = in_turns([compacted(sweep.folder, trial["trial_id"], image), full], image, rounds)
            about = {name: trial[name] for name in ("method", "target_macs", "lambda")}
            rows.append(
                about
                | {"cost": trial["model_macs_share"], "height": times * height, "width": times * width}
                | {"milliseconds": statistics.median(own), "dense_milliseconds": statistics.median(all_of_it)}
                | {"share": float(np.median(np.divide(own, all_of_it)))}
            )
    return pd.DataFrame(rows)


def compacted(folder: Path, trial_id: str, image: Tensor) -> nn.Module:
    """A trial's model without its zero channels, proved equal on the image."""
    model = load_checkpoint(folder / trial_file(trial_id, MODEL)).model
    small = compact(model, image)
    certify(model, small, [image])
    return small.to(memory_format=torch.channels_last)


def random_image(height: int, width: int) -> Tensor:
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return image.to(memory_format=torch.channels_last)


@torch.inference_mode()
def in_turns(models: list[nn.Module], image: Tensor, rounds: int) -> list[list[float]]:
    """Milliseconds of each model in each round; they run in turns, so that what else the machine does meets all."""
    times: list[list[float]] = [[] for _ in models]
    for round_ in range(WARM_UP + rounds):
        for model, own in zip(models, times, strict=True):
            started = time.perf_counter()
            model(image)
            if round_ >= WARM_UP:
                own.append(1e3 * (time.perf_counter() - started))
    return times

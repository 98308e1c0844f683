"""What early stopping saves and what it costs, on synthetic learning curves: `python -m benchmarks.early_stopping`.

A random search of 64 trials with one task over the penalty's strength and the learning rate, on 8 simulated workers;
no Ray, no training. With u = log10 strength in [-5, -2] and v in [-1, 1], how far the learning rate is from the best,
both uniform, a trial ends near

    sparsity  s = (1 - v²/2) / (1 + exp(-3 (u + 3.5)))        error  d = 0.4 + 0.5 s³ + 0.6 v²

and after e epochs it is at s (1 - exp(-e / 4)) and d + (1.5 - d) exp(-e / τ), τ uniform in 2..6, the error with normal
noise of 0.01. So trials with a bad learning rate are beaten in both objectives, and the others trade one for the other.

Compared: no stopping; asha on delta_m alone; asha on a sum of both objectives with equal weights; mo_asha. Of each the
share of epochs run, and of the hypervolume of (-error, sparsity) of the trials that ran to their end, its corner the
largest error and sparsity 0; means over the seeds, and the worst seed's hypervolume.
"""

import argparse
import heapq
import json
from collections.abc import Sequence

import moocore
import numpy as np

from mtl.config import TrialConfig
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import EpochRow, SuccessiveHalving

ERROR = Objective("val_depth_mae", "minimize")
POLICIES = {
    "none": (),
    "asha, delta_m": (Objective("delta_m", "maximize"),),
    "asha, equal weights": (Objective("equal_weights", "maximize"),),
    "mo_asha": (Objective("delta_m", "maximize"), Objective("group_sparsity", "maximize")),
}
TRIALS, EPOCHS, WORKERS = 64, 27, 8


def learning_curves(random: np.random.Generator) -> list[list[EpochRow]]:
    """The rows of every epoch of every trial."""
    curves = []
    epochs = np.arange(1, EPOCHS + 1)
    for _ in range(TRIALS):
        u, v, tau = random.uniform(-5, -2), random.uniform(-1, 1), random.uniform(2, 6)
        sparsity = (1 - v**2 / 2) / (1 + np.exp(-3 * (u + 3.5)))
        error = 0.4 + 0.5 * sparsity**3 + 0.6 * v**2
        sparsities = sparsity * (1 - np.exp(-epochs / 4))
        errors = error + (1.5 - error) * np.exp(-epochs / tau) + random.normal(0, 0.01, EPOCHS)
        # The range of the errors is about 1, as is that of the sparsities.
        curves.append(
            [
                {"epoch": e, "val_depth_mae": d, "group_sparsity": s, "equal_weights": s - d}
                for e, (d, s) in enumerate(zip(errors.tolist(), sparsities.tolist(), strict=True))
            ]
        )
    return curves


def run(curves: Sequence[Sequence[EpochRow]], halving: SuccessiveHalving, random: np.random.Generator) -> list[int]:
    """Epochs that each trial runs, the trials started in their order as workers become free."""
    configs = [simulated_config(n) for n in range(len(curves))]
    epochs = [0] * len(curves)
    waiting = list(range(WORKERS, len(curves)))
    running = [(random.uniform(0.8, 1.2), n) for n in range(WORKERS)]
    heapq.heapify(running)
    while running:
        now, n = heapq.heappop(running)
        row = curves[n][epochs[n]]
        epochs[n] += 1
        goes_on = halving.report(configs[n], row) and epochs[n] < EPOCHS
        if goes_on or waiting:
            heapq.heappush(running, (now + random.uniform(0.8, 1.2), n if goes_on else waiting.pop(0)))
    return epochs


def simulated_config(number: int) -> TrialConfig:
    return TrialConfig(
        dataset="simulated",
        image_size=(16, 16),
        backbone="resnet18",
        epochs=EPOCHS,
        tasks=("depth",),
        strength=1.0,
        seed=number,
        data_version="",
    )


def hypervolume(curves: Sequence[Sequence[EpochRow]], epochs: Sequence[int]) -> float:
    """Of (-error, sparsity) at the end of the trials that ran to it; the corner is that of all trials."""
    ends = np.array([[-curve[-1]["val_depth_mae"], curve[-1]["group_sparsity"]] for curve in curves])
    done = [count == EPOCHS for count in epochs]
    return float(moocore.hypervolume(ends[done], ref=np.array([ends[:, 0].min(), 0.0]), maximise=True))


def compare(seeds: int, grace_epochs: int, reduction_factor: int) -> dict[str, dict[str, float]]:
    """By policy the shares of epochs and of hypervolume, 1 being those without stopping."""
    shares: dict[str, list[tuple[float, float]]] = {name: [] for name in POLICIES}
    for seed in range(seeds):
        curves = learning_curves(np.random.default_rng(seed))
        whole = hypervolume(curves, [EPOCHS] * TRIALS)
        for name, objectives in POLICIES.items():
            grace = grace_epochs if objectives else EPOCHS + 1
            halving = SuccessiveHalving(objectives, {"depth": ERROR}, grace, reduction_factor)
            epochs = run(curves, halving, np.random.default_rng(seed))
            shares[name].append((sum(epochs) / (EPOCHS * TRIALS), hypervolume(curves, epochs) / whole))
    return {
        name: {
            "epochs": round(float(np.mean([e for e, _ in pairs])), 3),
            "hypervolume": round(float(np.mean([h for _, h in pairs])), 4),
            "hypervolume_worst": round(min(h for _, h in pairs), 4),
        }
        for name, pairs in shares.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--grace-epochs", type=int, default=9)
    parser.add_argument("--reduction-factor", type=int, default=3)
    options = parser.parse_args()
    results = compare(options.seeds, options.grace_epochs, options.reduction_factor)
    if options.json:
        print(json.dumps(vars(options) | {"policies": results}, indent=1))
        return
    for name, found in results.items():
        print(
            f"{name:20s} epochs {found['epochs']:5.1%}   hypervolume {found['hypervolume']:6.2%}"
            f" (worst seed {found['hypervolume_worst']:6.2%})"
        )


if __name__ == "__main__":
    main()

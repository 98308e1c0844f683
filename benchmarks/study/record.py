"""What of the study's sweeps is kept in the project: their rows, without models, images or paths.

Each folder below `RECORDING` is a sweep that `parsimony analyze` reads: `sweep.json`, `results.parquet`,
`layers.parquet`, and of `history.parquet` how the groups went in trials with a penalty.
"""

import shutil
from pathlib import Path

import pandas as pd

from mtl.vocabulary.files import HISTORY, LAYERS, RESULTS, SWEEP

RECORDING = Path(__file__).parents[1] / "recordings" / "study"
LATENCIES, BASELINES = "latencies.parquet", "baselines.parquet"
DYNAMICS = ["trial_id", "epoch", "lambda", "group_sparsity", "parameter_sparsity"]


def record(storage: Path, recording: Path = RECORDING) -> None:
    """Keep the rows of every sweep in the storage, in place of those recorded before."""
    for found in sorted(storage.glob(f"*/{SWEEP}")):
        sweep, kept = found.parent, recording / found.parent.name
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, kept / SWEEP)
        results = pd.read_parquet(sweep / RESULTS)
        penalised = results.loc[results["lambda"] > 0, "trial_id"]
        _write(results, kept / RESULTS)
        if len(penalised):
            history, layers = pd.read_parquet(sweep / HISTORY), pd.read_parquet(sweep / LAYERS)
            _write(history.loc[history["trial_id"].isin(penalised), DYNAMICS], kept / HISTORY)
            _write(layers[layers["trial_id"].isin(penalised)], kept / LAYERS)
    for name in (LATENCIES, BASELINES):
        if (storage / name).is_file():
            shutil.copyfile(storage / name, recording / name)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False, compression="zstd", compression_level=19)

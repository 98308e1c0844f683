"""The names of all files of a sweep, below STORAGE/NAME."""

import re

SWEEP, PROGRESS = "sweep.json", "progress.json"
RESULTS, HISTORY, LAYERS = "results.parquet", "history.parquet", "layers.parquet"
PROPOSALS, JOURNAL = "proposals.parquet", "study.journal"
FILES = (SWEEP, PROGRESS, RESULTS, HISTORY, LAYERS, PROPOSALS, JOURNAL)

# Each trial has a folder. error.txt has the details of why the trial's process died.
TRIALS = "trials"
CHECKPOINT, MODEL, RESULT, ERROR = TRIAL_FILES = ("checkpoint.pt", "model.pt", "result.json", "error.txt")
TRIAL_ID = re.compile("[0-9a-f]{16}")


def trial_file(trial_id: str, name: str) -> str:
    """A file of a trial: checkpoint.pt while it is unfinished, model.pt and result.json afterwards."""
    return f"{TRIALS}/{trial_id}/{name}"

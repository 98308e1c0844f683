"""What a trial is called where people look through many."""

import re

from mtl.config import TrialConfig

ID_DIGITS = 8
MOST_LETTERS = 70  # of the tasks


def run_name(config: TrialConfig) -> str:
    """Such as "segmentation+depth path 25 % seed 1 · 012b9dcc": tasks, what makes it small, seed, start of its id.

    At most 128 letters, as Weights & Biases takes.
    """
    tasks = config.combination if len(config.combination) <= MOST_LETTERS else f"{len(config.tasks)} tasks"
    return f"{tasks} {_way(config)} seed {config.seed} · {config.trial_id[:ID_DIGITS]}"


def folder_name(config: TrialConfig) -> str:
    """The same for every file system and object store: segmentation+depth_path_25pct_seed_1_012b9dcc."""
    plain = run_name(config).replace("λ ", "lambda_").replace(" %", "pct").replace(" · ", "_")
    return re.sub(r"[^A-Za-z0-9+._-]+", "_", plain)


def _way(config: TrialConfig) -> str:
    if config.compressor != "penalty":
        share = config.target_group_sparsity or config.target_macs
        return f"{config.compressor} {100 * share:g} %" + " of groups zero" * bool(config.target_group_sparsity)
    retraining = "" if config.retraining == "none" else f" {config.retraining}"
    return ("dense" if config.dense else f"λ {config.strength:g}") + retraining

"""The folder on this machine for what is made from datasets, and for compiled kernels."""

import os
from pathlib import Path


def default_cache_root() -> Path:
    """$PARSIMONY_CACHE, else $XDG_CACHE_HOME/parsimony, else ~/.cache/parsimony."""
    if chosen := os.environ.get("PARSIMONY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parsimony"

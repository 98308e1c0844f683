"""Copies of sweeps that were really run, changed in places."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd


def copied(folder: Path, target: Path) -> Path:
    """The sweep's own files, without its trials' folders, in `target` under its name."""
    copy = target / folder.name
    copy.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return copy


def edit_info(folder: Path, **fields: object) -> Path:
    """Sets fields of sweep.json."""
    path = folder / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def edit_table(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], name: str = "results") -> Path:
    """Replaces results.parquet, or another table, by what `change` makes of it."""
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    return folder

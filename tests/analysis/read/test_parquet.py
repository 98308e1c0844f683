"""Parquet files are read in the calling thread: what threads of Arrow's hold as a process ends may abort it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import finished

READ = """
import os, sys
from pathlib import Path
from analysis.read.load import load_sweep
from search.store.results import count_results
from search.store.storage import Store
from search.store.tables import search_columns

folder = Path(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
load_sweep(folder)
store = Store(str(folder.parent), folder.name)
count_results(store)
search_columns(store)
assert len(os.listdir("/proc/self/task")) == before
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_reading_a_sweep_starts_no_thread(storage: Path) -> None:
    reader = [sys.executable, "-c", READ, str(storage / "first")]
    finished(subprocess.Popen(reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), 0)

"""A search that ends with its time."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.progress import Progress
from search.store.storage import Store
from search.tuning import search as lambda_search
from search.tuning.search import BudgetedSource
from search.tuning.study import OpenStudy
from tests.support.made_up_search import none_wanted, searcher, space, study, well

ENDED = "2026-01-01T00:10:00+00:00"  # ten minutes after the made-up trials' start


def test_no_trial_starts_that_would_end_after_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(lambda_search, "time", SimpleNamespace(monotonic=lambda: now))
    own = study()
    one = searcher(space("seeds=2", "objectives=group_sparsity,parameter_sparsity"), 50, own, baselines=none_wanted())
    source = BudgetedSource(one, OpenStudy(own, None), 1.0, Progress(Store(str(tmp_path), "s"), [], 0))
    first = source.next()
    assert first is not None
    one.ended(dataclasses.replace(well(first), ended_at=ENDED))
    now = 3600 - 601
    assert source.next() is not None
    now = 3600 - 599
    assert source.next() is None
    assert source.exhausted
    assert source.complete

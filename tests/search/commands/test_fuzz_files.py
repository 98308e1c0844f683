"""Every file of a sweep's folder, damaged in every way: the command works, or says in one line which file it is."""

import contextlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search.commands.analyze
from analysis.compute.everything import compute
from mtl.vocabulary.files import HISTORY, JOURNAL, LAYERS, PROGRESS, PROPOSALS, RESULTS, SWEEP
from search.cli import main
from search.store import lease
from tests.support.damage import Damage, a_folder, damages, json_damages, table_damages, written
from tests.support.in_process import without_ray, words

SEED = 12
# Of the many single fields of a file, so many are drawn.
FIELDS = 5
SEARCH = ["--trials", "2", "--set", "sampler=random", "--set", "search_space.lr=[1e-3,1e-2]"]
CLAIM = {
    "id": "abc",
    "process": "abcdef-1-1",
    "host": "h",
    "pid": 1,
    "started_at": "2026-01-01T00:00:00+00:00",
    "driving": True,
    "term": 0,
}


READ_BY = {
    SWEEP: ["status", "dry-run", "warm-start", "sweep", "train"],
    PROGRESS: ["status"],
    RESULTS: ["status", "sweep", "train"],
    HISTORY: ["sweep"],
    LAYERS: ["sweep"],
    "result.json": ["status", "sweep", "train"],
}


@pytest.fixture(scope="module", autouse=True)
def no_ray() -> Iterator[None]:
    with without_ray():
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("swept")
    assert main(words("sweep", storage)) == 0
    return storage


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("searched")
    assert main(words("search", storage, *SEARCH)) == 0
    return storage


def content_of(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else "folder or link"
        for path in folder.rglob("*")
    }


def run(case: str, arguments: list[str], folder: Path) -> int:
    """The exit status: 0, or 2 with a last line that names a file in the folder, and no file changed."""
    before = content_of(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    *notes, last = err.getvalue().splitlines() or [""]
    assert status in (0, 2), f"{case}: exit status {status}: {last}"
    if status == 2:
        assert last.startswith("parsimony: "), f"{case}: {last}"
        assert f"{folder}/" in last, f"{case}: {last}"
        assert not [note for note in notes if note.startswith("parsimony: ")], f"{case}: {notes}"
        assert content_of(folder) == before, case
    return status


def sampled(cases: list[tuple[str, Damage]], count: int, name: str) -> list[tuple[str, Damage]]:
    places = np.random.default_rng([SEED, *name.encode()]).permutation(len(cases))[:count]
    return [cases[place] for place in sorted(places)]


def of_fields(path: Path) -> list[tuple[str, Damage]]:
    """Single fields, rows or columns of this file."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        found = [(name, written(json.dumps(one).encode())) for name, one in json_damages(content)]
    elif path.suffix == ".journal":
        lines = path.read_text().splitlines()
        found = [
            (f"{place}-{name}", written("\n".join([*lines[:place], json.dumps(one), *lines[place + 1 :], ""]).encode()))
            for place, line in enumerate(lines)
            for name, one in json_damages(json.loads(line), 2)
        ]
    else:
        found = []
        for name, table in sampled(list(table_damages(pd.read_parquet(path))), FIELDS, path.name):  # type: ignore[arg-type]
            buffer = io.BytesIO()
            table.to_parquet(buffer)  # type: ignore[attr-defined]
            found.append((name, written(buffer.getvalue())))
    return sampled(found, FIELDS, path.name)


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model.pt", "analysis"))
    return target


@pytest.mark.parametrize("name", [SWEEP, PROGRESS, RESULTS, HISTORY, LAYERS, "result.json"])
def test_a_sweeps_files(name: str, swept: Path, tmp_path: Path) -> None:
    trial = sorted(path.name for path in (swept / "rooms" / "trials").iterdir())[0]
    place = Path("rooms", "trials", trial, name) if name == "result.json" else Path("rooms", name)
    storage, other = tmp_path / "storage", tmp_path / "other"
    folder = str(storage / "rooms")
    readers = {
        "status": ["status", folder],
        "dry-run": words("sweep", storage, "--dry-run"),
        "warm-start": words("search", other, "--warm-start", folder, "--dry-run", *SEARCH),
        "sweep": words("sweep", storage),
        "train": words("train", storage),
    }
    for number, (damage_name, damage) in enumerate([*damages(name, SEED), *of_fields(swept / place)]):
        for reader in READ_BY[name]:
            # What runs the missing trials takes its time: the two come in turns.
            if reader == ("sweep", "train")[number % 2]:
                continue
            copied(swept, storage)
            if name == PROGRESS:  # which is looked at where trials are missing
                sweep = json.loads((storage / "rooms" / SWEEP).read_text())
                (storage / "rooms" / SWEEP).write_text(json.dumps(sweep | {"trials_planned": 9}))
            damage(storage / place)
            run(f"{name} {damage_name}: {reader}", readers[reader], storage)
    assert not other.exists()


@pytest.mark.parametrize("name", [JOURNAL, RESULTS, SWEEP])
def test_a_searchs_files(name: str, searched: Path, tmp_path: Path) -> None:
    storage, place = tmp_path / "storage", Path("rooms", name)
    for damage_name, damage in [*damages(name, SEED), *of_fields(searched / place)]:
        copied(searched, storage)
        damage(storage / place)
        run(f"{name} {damage_name}", words("search", storage, *SEARCH), storage)


def test_a_folder_in_the_place_of_a_table_is_told_before_a_trial_runs(searched: Path, tmp_path: Path) -> None:
    for name in (PROPOSALS, HISTORY, LAYERS, PROGRESS, JOURNAL):
        storage = copied(searched, tmp_path / "storage")
        shutil.rmtree(storage / "rooms" / "trials")
        a_folder(storage / "rooms" / name)
        assert run(name, words("search", storage, *SEARCH), storage) == 2


def test_other_drivers_claims(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old ones: what they say cannot be read, but their time can."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.01)
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(CLAIM))
    storage, name = tmp_path / "storage", "driver-abc.json"
    for damage_name, damage in [*damages(name, SEED), *of_fields(path)]:
        copied(swept, storage)
        claim = storage / "rooms" / name
        claim.write_text(json.dumps(CLAIM))
        damage(claim)
        if claim.is_file():
            os.utime(claim, (1, 1))
        assert run(f"claim {damage_name}", words("sweep", storage), storage) == 0, damage_name
        assert not claim.is_file(), damage_name


@pytest.mark.parametrize("name", [SWEEP, RESULTS, HISTORY, LAYERS])
def test_the_analysis(name: str, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is computed; drawing comes after it and reads no file."""
    monkeypatch.setattr(
        search.commands.analyze, "analyze", lambda folders, objectives, **_: compute(folders, objectives)
    )
    for damage_name, damage in itertools.chain(damages(name, SEED), of_fields(swept / "rooms" / name)):
        folder = copied(swept, tmp_path / "storage") / "rooms"
        damage(folder / name)
        run(f"{name} {damage_name}: analyze", ["analyze", str(folder)], folder.parent)

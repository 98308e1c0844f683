"""The study's journal: Optuna's own format, whole after a kill, in a folder and in an object store."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import TrialState

from mtl.errors import BadInput
from search.store.errors import StorageError
from search.store.storage import Store
from search.tuning.journal import JOURNAL, StoreJournal
from tests.search.store.test_storage import full_disk
from tests.support.s3_server import S3Server


def fill(backend: BaseJournalBackend, trials: int = 3) -> None:
    """A study with told trials, one that runs and one that waits."""
    study = optuna.create_study(
        storage=JournalStorage(backend), study_name="one", directions=["maximize"] * 2, load_if_exists=True
    )
    for number in range(trials):
        trial = study.ask({"x": FloatDistribution(1e-3, 1, log=True)})
        trial.set_user_attr("means", {"delta_m": -0.1 * number})
        trial.set_constraint("x<=1", -0.5)
        study.tell(trial, [number, 0.1])
    study.enqueue_trial({"x": 0.5})
    study.ask({"x": FloatDistribution(1e-3, 1, log=True)})
    study.enqueue_trial({"x": 0.25})


def trials(backend: BaseJournalBackend) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(storage=JournalStorage(backend), study_name="one").trials


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path), "search")
    (tmp_path / "search").mkdir()
    return found


def test_optunas_own_backend_reads_it(store: Store, tmp_path: Path) -> None:
    journal = StoreJournal(store)
    fill(journal)
    read = trials(JournalFileBackend(str(tmp_path / "search" / JOURNAL)))
    assert read == trials(journal)
    assert [trial.state for trial in read] == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING, TrialState.WAITING]
    assert read[1].user_attrs["means"] == {"delta_m": -0.1}


def test_it_reads_what_optunas_own_backend_wrote_and_the_other_way_round(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "search" / JOURNAL
    fill(JournalFileBackend(str(path)))
    assert trials(StoreJournal(store)) == trials(JournalFileBackend(str(path)))
    fill(StoreJournal(store))
    assert len(trials(JournalFileBackend(str(path)))) == 3 + 1 + 4 + 1  # one that waited was asked for
    assert trials(StoreJournal(store)) == trials(JournalFileBackend(str(path)))


def test_a_study_is_the_same_after_it_is_opened_again(store: Store) -> None:
    journal = StoreJournal(store)
    fill(journal)
    again = StoreJournal(store)
    assert list(again.read_logs(0)) == list(journal.read_logs(0))
    assert list(again.read_logs(4)) == list(journal.read_logs(0))[4:]
    assert trials(again) == trials(journal)


def test_after_a_kill_at_any_byte_of_a_line_the_rest_is_read_and_goes_on(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "search" / JOURNAL
    fill(StoreJournal(store))
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in (1, len(last) // 2, len(last) - 1):  # the last is a line that lacks only its end
        path.write_bytes(whole[:-cut])
        torn = StoreJournal(store)
        assert path.read_bytes() == whole[:-cut], "reading alone changed the file"
        assert len(list(torn.read_logs(0))) == whole.count(b"\n") - 1
        fill(torn, trials=1)
        assert all(json.loads(line) for line in path.read_bytes().splitlines())
        assert trials(JournalFileBackend(str(path))) == trials(torn) == trials(StoreJournal(store))


def test_a_file_that_is_no_journal_is_bad_input(store: Store, tmp_path: Path) -> None:
    (tmp_path / "search" / JOURNAL).write_text('{"op_code": 0}\nnothing of the kind\n')
    with pytest.raises(BadInput, match=r"study .*/search/study\.journal: is not Optuna's journal \(.*\); allowed"):
        StoreJournal(store)


def test_each_change_is_on_the_disk_as_it_is_made(store: Store, tmp_path: Path) -> None:
    journal = StoreJournal(store)
    study = optuna.create_study(storage=JournalStorage(journal), study_name="one")
    study.enqueue_trial({"x": 1})
    assert [trial.state for trial in trials(JournalFileBackend(str(tmp_path / "search" / JOURNAL)))] == [
        TrialState.WAITING
    ]


def test_a_full_disk_is_one_line_and_the_journal_goes_on_after(store: Store) -> None:
    journal = StoreJournal(store.waiting(0))
    with full_disk(), pytest.raises(StorageError, match=r"cannot be written \(.*File too large"):
        fill(journal, trials=50)
    assert list(StoreJournal(store).read_logs(0)) == list(journal.read_logs(0))
    fill(StoreJournal(store))
    assert trials(StoreJournal(store))[-1].state == TrialState.WAITING


def test_in_an_object_store(s3: S3Server) -> None:
    store = Store(s3.uri("bucket/prefix"), "search")
    journal = StoreJournal(store)
    fill(journal)
    assert s3.keys("bucket/prefix/search") == []
    journal.flush()
    assert s3.keys("bucket/prefix/search") == [JOURNAL]
    again = StoreJournal(store)
    assert trials(again) == trials(journal)
    fill(again)
    assert len(trials(StoreJournal(store))) == 5, "what has not been flushed is not there"
    again.flush()
    assert trials(StoreJournal(store)) == trials(again)


def test_a_flush_without_a_change_writes_nothing(s3: S3Server) -> None:
    store = Store(s3.uri("bucket/prefix"), "search", patience=0)
    journal = StoreJournal(store)
    fill(journal)
    journal.flush()
    with s3.outage():
        journal.flush()
        fill(journal)
        with pytest.raises(StorageError):
            journal.flush()
    journal.flush()
    assert trials(StoreJournal(store)) == trials(journal)


@pytest.mark.parametrize("line", [b"1", b"[]", b"{}", b'{"op_code": "x"}', b"[" * 100_000 + b"]" * 100_000, b"\xff"])
def test_a_line_that_is_no_change_of_a_study_is_bad_input(line: bytes, store: Store, tmp_path: Path) -> None:
    fill(StoreJournal(store))
    path = tmp_path / "search" / JOURNAL
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(
        BadInput, match=r"study .*/search/study\.journal: is not Optuna's journal \(.*\); allowed"
    ) as caught:
        StoreJournal(store)
    assert "\n" not in str(caught.value)

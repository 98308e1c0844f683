"""Where a search's study is kept: beside its results, in SQLite, on a real PostgreSQL server; and who can open it."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from mtl.errors import BadInput
from mtl.vocabulary.constraint import Constraint
from search.store.errors import StudyError
from search.store.results import TrialResult
from search.store.storage import Store
from search.tuning.journal import JOURNAL
from search.tuning.study import OpenStudy, StudyPlace, check_study, open_study, study_errors
from tests.support.made_up_search import OBJECTIVES, run, searcher, space, summary, well
from tests.support.postgres_server import PASSWORD, postgres_programs, running_postgres
from tests.support.waiting import DEADLINE_SECONDS, wait_until

PROGRAMS = postgres_programs()
IDENTITY = {"objectives": ["delta_m:maximize", "group_sparsity:maximize"], "search_space": {"lambda": [1e-3, 10.0]}}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL server on this machine")
    pytest.importorskip("psycopg", reason="psycopg, the driver of PostgreSQL, is not installed")
    yield from running_postgres(PROGRAMS)


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StudyPlace:
    """An empty place for the study of a search called as the test's folder."""
    store = Store(str(tmp_path), f"search-{tmp_path.name}")
    (tmp_path / store.name).mkdir()
    if request.param == "journal":
        return StudyPlace(store)
    if request.param == "sqlite":
        return StudyPlace(store, f"sqlite:///{tmp_path}/study.db")
    return StudyPlace(store, request.getfixturevalue("postgres"))


def opened(place: StudyPlace) -> OpenStudy:
    return open_study(place, OBJECTIVES, IDENTITY)


def test_a_study_is_kept_and_a_search_goes_on_from_it(place: StudyPlace) -> None:
    of = space("seeds=2", "search_space.lambda=[1e-3, 10]")
    more: dict[str, Any] = {"constraints": [Constraint("group_sparsity", "<=", 0.5)], "sampler": "tpe"}
    known: dict[str, TrialResult] = {}

    def outcome(config: Any) -> TrialResult:
        known[config.trial_id] = well(config)
        return known[config.trial_id]

    first = searcher(of, 4, opened(place).study, **more)
    run(first, outcome)
    again = searcher(of, 9, opened(place).study, known=known, **more)
    assert summary(again.proposals) == summary(first.proposals)
    run(again, outcome)
    unbroken = searcher(of, 9, **more)
    run(unbroken)
    assert summary(again.proposals) == summary(unbroken.proposals)
    kept = opened(place).study
    assert kept.metric_names == ["delta_m", "group_sparsity"]
    for trial, expected in zip(kept.trials, unbroken.study.trials, strict=True):
        assert (trial.state, trial.params, trial.values) == (expected.state, expected.params, expected.values)
        assert (trial.user_attrs, trial.constraints) == (expected.user_attrs, expected.constraints)


def test_checking_makes_no_study(place: StudyPlace) -> None:
    check_study(place, IDENTITY)
    study = opened(place)
    check_study(place, IDENTITY)
    assert study.study.study_name == place.store.name


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("objectives", ["macs:minimize"], 'objectives = ["delta_m:maximize", "group_sparsity:maximize"], this'),
        (
            "search_space",
            {"lambda": [1e-3, 1.0]},
            'search_space = {"lambda": [0.001, 10.0]}, this search has {',
        ),
    ],
)
def test_a_study_of_something_else_is_bad_input(place: StudyPlace, field: str, value: Any, said: str) -> None:
    opened(place)
    with pytest.raises(BadInput) as caught:
        check_study(place, IDENTITY | {field: value})
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"study {place}: was made with ")
    assert str(caught.value).endswith("allowed: the same, or another --name")
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_that_is_not_of_a_search_is_bad_input(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="search")
    with pytest.raises(BadInput, match=r"search was not made by a search; allowed: another --name$"):
        check_study(StudyPlace(Store(str(tmp_path), "search"), url), IDENTITY)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:CLOSED/db", "postgresql+psycopg://me:***@127.0.0.1:"),
        (f"postgresql+psycopg://me:{PASSWORD}@nowhere.invalid/db", "postgresql+psycopg://me:***@nowhere.invalid/db"),
        (f"mysql+nothing://me:{PASSWORD}@127.0.0.1/db", "mysql+nothing://me:***@127.0.0.1/db"),
        (f"nosuch://me:{PASSWORD}@127.0.0.1/db", "nosuch://me:***@127.0.0.1/db"),
        (f"me:{PASSWORD}@127.0.0.1", "--study URL: "),
        (f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:port/db", "--study URL: "),
        ("sqlite:////proc/nowhere/study.db", "--study sqlite:////proc/nowhere/study.db: OperationalError"),
        ("", "--study URL: "),
    ],
)
def test_what_cannot_be_reached_is_a_line_without_the_password(url: str, said: str, tmp_path: Path) -> None:
    # Found as the test runs: processes that test beside one another must collect the same tests.
    url = url.replace("CLOSED", str(closed_port()))
    with pytest.raises(BadInput) as caught:
        check_study(StudyPlace(Store(str(tmp_path), "search"), url), IDENTITY)
    line = str(caught.value)
    assert said in line
    assert "; allowed: an Optuna storage URL that can be reached, such as sqlite:///study.db or postgresql+" in line
    assert PASSWORD not in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_password_is_not_told(postgres: str, tmp_path: Path) -> None:
    wrong = postgres.replace(PASSWORD, "another-word")
    with pytest.raises(BadInput, match="password authentication failed") as caught:
        check_study(StudyPlace(Store(str(tmp_path), "search"), wrong), IDENTITY)
    assert "another-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("not a database\n" * 1000)
    with pytest.raises(BadInput, match="file is not a database"):
        check_study(StudyPlace(Store(str(tmp_path), "search"), f"sqlite:///{tmp_path}/study.db"), IDENTITY)


def test_checking_leaves_no_file(tmp_path: Path) -> None:
    """A dry run writes nothing, and bad input leaves nothing behind."""
    check_study(StudyPlace(Store(str(tmp_path), "search"), f"sqlite:///{tmp_path}/study.db"), IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_goes_away_is_an_error_of_the_study(tmp_path: Path) -> None:
    place = StudyPlace(Store(str(tmp_path), "search"), f"sqlite:///{tmp_path}/study.db")
    study = opened(place).study
    (tmp_path / "study.db").write_bytes(b"broken" * 1000)
    said = r"^the study's storage failed: DatabaseError: .*not a database"
    with pytest.raises(StudyError, match=said), study_errors():
        study.enqueue_trial({"lambda": 1})


@pytest.fixture
def dashboard() -> Iterator[Any]:
    """Starts optuna-dashboard of a storage; the function gives what its page is made of."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    processes: list[subprocess.Popen[bytes]] = []

    def start(storage: str) -> Any:
        port = closed_port()
        program = "import sys; from optuna_dashboard._cli import main; sys.argv[0] = 'optuna-dashboard'; main()"
        words = [sys.executable, "-c", program, storage, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        processes.append(process)

        def ask(path: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=DEADLINE_SECONDS) as answer:
                return json.load(answer)

        def answers() -> bool:
            assert process.poll() is None, "optuna-dashboard has ended"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers)
        return ask

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_optuna_dashboard_opens_it(place: StudyPlace, dashboard: Any) -> None:
    run(searcher(space("seeds=1"), 3, opened(place).study))
    ask = dashboard(place.url or str(place.store.folder / JOURNAL if place.store.folder else ""))
    studies = [one for one in ask("studies")["study_summaries"] if one["study_name"] == place.store.name]
    assert [one["directions"] for one in studies] == [["maximize", "maximize"]]
    detail = ask(f"studies/{studies[0]['study_id']}")
    assert detail["objective_names"] == ["delta_m", "group_sparsity"]
    complete = [trial for trial in detail["trials"] if trial["state"] == "Complete"]
    expected = opened(place).study.get_trials(states=[TrialState.COMPLETE])
    assert len(complete) == 3
    assert [trial["values"] for trial in complete] == [pytest.approx(one.values) for one in expected]

"""The Optuna study of a search: where it is kept, and what it is of."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mtl.errors import BadInput
from mtl.vocabulary.checked import STRICT, Damaged, check, shortened
from mtl.vocabulary.objective import Objective
from search.store.errors import StudyError
from search.store.storage import Store
from search.tuning.journal import JOURNAL, StoreJournal, not_a_journal
from search.tuning.samplers import quiet

IDENTITY = "parsimony"
# What came into the identity later, with what studies were before it did.
EARLIER: Mapping[str, Any] = {"retraining": ["none"], "method_version": 1}
CONNECT_SECONDS = 10
LOCK_SECONDS = 60  # a dashboard may read a SQLite file while the search writes to it
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"timeout": LOCK_SECONDS},
    "postgresql": {"connect_timeout": CONNECT_SECONDS},
    "mysql": {"connect_timeout": CONNECT_SECONDS},
}


@dataclass(frozen=True)
class StudyPlace:
    """Where a search's study is: `study.journal` beside its results, or a database that an Optuna URL names."""

    store: Store
    url: str | None = None

    def __str__(self) -> str:
        """As a person may see it: without a password."""
        if self.url is None:
            return self.store.shown(JOURNAL)
        return make_url(self.url).render_as_string(hide_password=True)


class OpenStudy:
    """A study, and what makes sure that it is kept."""

    def __init__(self, study: optuna.Study, journal: StoreJournal | None) -> None:
        self.study, self._journal = study, journal

    def flush(self) -> None:
        """Called after each change. Raises StorageError."""
        if self._journal is not None:
            self._journal.flush()


def open_study(place: StudyPlace, objectives: Sequence[Objective], identity: Mapping[str, Any]) -> OpenStudy:
    """The search's study, made where there is none. Raises BadInput as `check_study`, and StorageError."""
    check_study(place, identity)
    storage, journal = _storage(place)
    study = optuna.create_study(
        storage=storage,
        study_name=place.store.name,
        directions=[objective.direction for objective in objectives],
        load_if_exists=True,
    )
    study.set_metric_names([objective.column for objective in objectives])
    study.set_user_attr(IDENTITY, dict(identity))
    opened = OpenStudy(study, journal)
    opened.flush()
    return opened


def check_study(
    place: StudyPlace, identity: Mapping[str, Any], distributions: Mapping[str, BaseDistribution] | None = None
) -> None:
    """Raise BadInput where the storage cannot be reached, or has a study of this name that is of something else.

    identity: what all proposals of a study have in common, as JSON has it, by the name of the recipe's field;
    distributions: of the parameters, where the study's trials are to be looked at too.
    """
    with _reached(place):
        if place.url is not None and _is_new(place.url):
            return
    storage, _ = _storage(place)
    names = {study.study_name: study for study in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    if place.store.name not in names:
        return
    summary = names[place.store.name]
    attributes = summary.user_attrs
    if not isinstance(attributes.get(IDENTITY), dict):
        raise BadInput(f"study {place}: {place.store.name} is not of a search; allowed: another --name")
    earlier, asked = EARLIER | attributes[IDENTITY], json.loads(json.dumps(dict(identity)))
    for name in asked:
        if earlier.get(name) != asked[name]:
            raise BadInput(
                f"study {place}: was made with {name} = {json.dumps(earlier.get(name))}, this search has "
                f"{json.dumps(asked[name])}; allowed: the same, or another --name"
            )
    if distributions is None:
        return
    for trial in storage.get_all_trials(summary._study_id, deepcopy=False):
        try:
            _check_trial(trial, len(summary.directions), distributions)
        except Damaged as error:
            raise BadInput(
                f"study {place}: trial {trial.number}: {error}; allowed: what a search wrote, or another --name"
            ) from error


class _Queued(BaseModel):
    """What Optuna has noted with a trial."""

    model_config = STRICT

    fixed_params: dict[str, Any] = {}
    constraints: list[float] = []


class _Told(BaseModel):
    """What the searcher has."""

    model_config = STRICT

    trial_ids: list[str] | None = Field(None, min_length=1)
    note: str = ""
    looked: int = Field(0, ge=0)
    means: dict[str, float] = {}
    deviations: dict[str, float] = {}


class _Noted(BaseModel):
    """All of a study's trial that is read again, besides its state, its values and its parameters."""

    model_config = STRICT

    system: _Queued
    user: _Told


def _check_trial(trial: FrozenTrial, objectives: int, distributions: Mapping[str, BaseDistribution]) -> None:
    """Raise Damaged where samplers or the searcher could not go on with it."""
    found = check(_Noted, {"system": trial.system_attrs, "user": trial.user_attrs})
    check(dict[str, float], trial.constraints)
    if trial.state == TrialState.COMPLETE:
        values = trial.values or []
        if len(values) != objectives or not all(isinstance(value, float | int) for value in values):
            raise Damaged(f"its values are {shortened(trial.values)}, not {objectives} numbers")
    queued = found.system.fixed_params
    for name, value in (*trial.params.items(), *queued.items()):
        if name not in distributions or not _contains(distributions[name], value):
            raise Damaged(f"parameter {name} is {shortened(value)}, not of this search's space")
    if missing := [name for name in distributions if name not in trial.params and found.user.trial_ids is not None]:
        raise Damaged(f"parameter {missing[0]} is missing")


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError, OverflowError):
        return False


def _storage(place: StudyPlace) -> tuple[BaseStorage, StoreJournal | None]:
    quiet()
    if place.url is None:
        journal = StoreJournal(place.store)
        try:
            return JournalStorage(journal), journal
        except Exception as error:  # Optuna acts on each line as it stands, so that any error may come of it
            raise not_a_journal(place.store.shown(JOURNAL), error) from error
    with _reached(place):
        return RDBStorage(place.url, engine_kwargs={"connect_args": _connect_args(place.url)}), None


def _is_new(url: str) -> bool:
    """Whether a database has no studies at all: opening it as a storage would make their tables, or its file."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or ":memory:")
        return not path.exists() and os.access(path.parent, os.W_OK)
    engine = sqlalchemy.create_engine(url, connect_args=_connect_args(url))
    try:
        return not sqlalchemy.inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def _connect_args(url: str) -> dict[str, Any]:
    return dict(ARGUMENTS.get(make_url(url).get_backend_name(), {}))


@contextlib.contextmanager
def _reached(place: StudyPlace) -> Iterator[None]:
    """Raises BadInput for what a database that cannot be used raises."""
    try:
        yield
    except (ImportError, OSError, SQLAlchemyError, OptunaError, ValueError) as error:
        try:
            shown = str(place)
        except (SQLAlchemyError, ValueError):
            shown = "URL"
        raise BadInput(
            f"--study {shown}: {_one_line(error)}; allowed: an Optuna storage URL that can be reached, such as "
            "sqlite:///study.db or postgresql+psycopg://USER@HOST/DATABASE (pip install 'psycopg[binary]')"
        ) from error


def study_errors() -> tuple[type[Exception], ...]:
    """What a study's storage raises while a search runs."""
    return (OptunaError, sqlalchemy.exc.SQLAlchemyError)


def study_error(error: Exception) -> StudyError:
    """As the one line that ends a search."""
    return StudyError(f"the study's storage failed: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    """The innermost cause's first line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")

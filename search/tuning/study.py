"""The Optuna study of a search: its storage, and the checks that it belongs to this search."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
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
from search.tuning.space import SearchSpace, contains

IDENTITY = "parsimony"
# Entries of the identity that old studies do not have, with their values for these studies.
EARLIER: Mapping[str, Any] = {"retraining": ["none"], "method_version": 1}
CONNECT_SECONDS = 10
LOCK_SECONDS = 60  # a dashboard may read the SQLite file while the search writes to it
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {"timeout": LOCK_SECONDS},
    "postgresql": {"connect_timeout": CONNECT_SECONDS},
    "mysql": {"connect_timeout": CONNECT_SECONDS},
}


@dataclass(frozen=True)
class StudyPlace:
    """Where a search keeps its study: in `study.journal` beside its results, or in the database of an Optuna URL."""

    store: Store
    url: str | None = None

    def __str__(self) -> str:
        """For messages: without the password."""
        if self.url is None:
            return self.store.shown(JOURNAL)
        return make_url(self.url).render_as_string(hide_password=True)


class OpenStudy:
    """A study and its journal, if it has one."""

    def __init__(self, study: optuna.Study, journal: StoreJournal | None) -> None:
        self.study, self._journal = study, journal

    def flush(self) -> None:
        """Save the changes; call it after each change. Raises StorageError."""
        if self._journal is not None:
            self._journal.flush()


def open_study(place: StudyPlace, objectives: Sequence[Objective], identity: Mapping[str, Any]) -> OpenStudy:
    """Open the search's study, or make it. Raises BadInput like `check_study`, and StorageError."""
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


def check_study(place: StudyPlace, identity: Mapping[str, Any], space: SearchSpace | None = None) -> None:
    """Raise BadInput if the storage cannot be reached, or if its study of this name belongs to another search.

    Args:
        identity: what all proposals of a study have in common, as plain data.
        space: that of the parameters; if given, the study's trials are checked too.
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
        raise BadInput(f"study {place}: {place.store.name} was not made by a search; allowed: another --name")
    earlier, asked = EARLIER | attributes[IDENTITY], json.loads(json.dumps(dict(identity)))
    for name in asked:
        if earlier.get(name) != asked[name]:
            raise BadInput(
                f"study {place}: was made with {name} = {json.dumps(earlier.get(name))}, this search has "
                f"{json.dumps(asked[name])}; allowed: the same, or another --name"
            )
    if space is None:
        return
    for trial in storage.get_all_trials(summary._study_id, deepcopy=False):
        try:
            _check_trial(trial, len(summary.directions), space)
        except Damaged as error:
            raise BadInput(
                f"study {place}: trial {trial.number}: {error}; allowed: what a search wrote, or another --name"
            ) from error


class _ByOptuna(BaseModel):
    """What Optuna stores with a trial, as far as the search reads it."""

    model_config = STRICT

    fixed_params: dict[str, Any] = {}
    constraints: list[float] = []


class _ByUs(BaseModel):
    """What the searcher stores with a trial."""

    model_config = STRICT

    trial_ids: list[str] | None = Field(None, min_length=1)
    note: str = ""
    looked: int = Field(0, ge=0)
    means: dict[str, float] = {}
    deviations: dict[str, float] = {}


def _check_trial(trial: FrozenTrial, objectives: int, space: SearchSpace) -> None:
    """Raise Damaged if the samplers or the searcher could not use the trial."""
    queued = check(_ByOptuna, trial.system_attrs).fixed_params
    proposed = check(_ByUs, trial.user_attrs).trial_ids is not None
    check(dict[str, float], trial.constraints)
    if trial.state == TrialState.COMPLETE:
        values = trial.values or []
        if len(values) != objectives or not all(isinstance(value, float | int) for value in values):
            raise Damaged(f"its values are {shortened(trial.values)}, not {objectives} numbers")
    distributions = space.distributions
    for name, value in (*trial.params.items(), *queued.items()):
        if name not in distributions or not contains(distributions[name], value):
            raise Damaged(f"parameter {name} is {shortened(value)}, outside this search's space")
    if missing := [name for name in space.active(trial.params) if proposed and name not in trial.params]:
        raise Damaged(f"parameter {missing[0]} is missing")


def _storage(place: StudyPlace) -> tuple[BaseStorage, StoreJournal | None]:
    quiet()
    if place.url is None:
        journal = StoreJournal(place.store)
        try:
            return JournalStorage(journal), journal
        except Exception as error:  # Optuna does not check the lines, so they may cause any error
            raise not_a_journal(place.store.shown(JOURNAL), error) from error
    with _reached(place):
        return RDBStorage(place.url, engine_kwargs={"connect_args": _connect_args(place.url)}), None


def _is_new(url: str) -> bool:
    """Whether the database has no studies yet. Opening it with Optuna would make its tables, or its file."""
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
    """Inside, the errors of a database that cannot be used become BadInput."""
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


@contextlib.contextmanager
def study_errors() -> Iterator[None]:
    """Inside, an error of the study's storage becomes StudyError."""
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        raise StudyError(f"the study's storage failed: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """The type and the first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")

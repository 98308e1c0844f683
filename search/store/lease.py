"""One driver a sweep: its claim in the store, kept fresh while it lives, and soon void when it does not."""

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field

from mtl.errors import BadInput
from mtl.vocabulary.checked import STRICT, Count, Damaged, parse
from search.store.clock import Moment, now
from search.store.errors import LeaseLost, StorageError
from search.store.messages import say
from search.store.process import ProcessId
from search.store.storage import CHECK_SECONDS, Store

BEAT_SECONDS = 5.0
# Without a beat for so long, by the storage's clock, a driver is taken for dead.
STALE_SECONDS = 30.0
POLL_SECONDS = 0.5
PREFIX, SUFFIX = "driver-", ".json"
# Time that passes while a laptop sleeps counts too, where the system can tell.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _parsed(process: str) -> str:
    ProcessId.parse(process)
    return process


@dataclass(frozen=True)
class Claim:
    """What a driver says of itself. `term` is above that of every driver it took over from."""

    __pydantic_config__: ClassVar = STRICT

    id: str
    process: Annotated[str, AfterValidator(_parsed)]
    host: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
    pid: int
    started_at: Moment
    driving: bool
    term: Count

    @property
    def file(self) -> str:
        return f"{PREFIX}{self.id}{SUFFIX}"

    def __str__(self) -> str:
        if not self.process:
            return f"a driver whose claim {self.file} this version cannot read"
        return f"pid {self.pid} on {self.host} since {self.started_at}"

    @property
    def lives(self) -> bool | None:
        """None where that cannot be seen from here."""
        return ProcessId.parse(self.process).lives() if self.process else None

    @classmethod
    def of_file(cls, name: str, data: bytes) -> "Claim":
        """What the file's content says; of one that is damaged or of another version no more than that it drives."""
        try:
            claim = parse(cls, data)
        except Damaged:
            claim = cls(id="", process="", host="", pid=0, started_at="", driving=True, term=0)
        return replace(claim, id=name.removeprefix(PREFIX).removesuffix(SUFFIX))


class Lease:
    """The right to drive a sweep and to write its tables, from `with` to its end.

    Every driver writes a claim, a file of its own, and drives only after a listing, made later than that write, that
    shows no other claim but of the dead. Of two that start together at least one so sees the other; the one with the
    larger id withdraws and the other waits until it has. That needs no more of a storage than that a listing shows
    what was written before it, as folders and object stores do.

    A claim is dead where its process was one of this machine and is no more, or where it was not renewed for
    `STALE_SECONDS`, by the storage's clock, and is not while somebody watches. Whoever finds it dead removes it; its
    driver, if it only slept, sees that at its next beat.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hurried = store.waiting(0)
        self._claim = Claim(
            id=uuid.uuid4().hex,
            process=str(ProcessId.own()),
            host=socket.gethostname(),
            pid=ProcessId.own().pid,
            started_at=now(),
            driving=False,
            term=0,
        )
        self._lost: str | None = None
        self._renewed = self._tried = 0.0
        self._beating = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Raises BadInput where another driver lives, or where the storage cannot be written."""
        self._made = self._store.missing_folders()
        try:
            try:
                self._put(self._store.waiting(CHECK_SECONDS))
            except StorageError as error:
                raise BadInput(f"--{error}") from error
            self._wait_until_alone()
            self._claim = replace(self._claim, driving=True)
            self._put(self._store)
            self._renewed = time.clock_gettime(_CLOCK)
            # It may have slept since it saw itself alone.
            self._beat()
            self.check()
        except BaseException:
            self._remove()
            raise
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._remove()

    @property
    def lost(self) -> bool:
        """Whether another driver is known to have taken over."""
        return self._lost is not None

    def check(self) -> None:
        """Raise LeaseLost where another driver has taken over: to be called before what only the driver writes."""
        now = time.clock_gettime(_CLOCK)
        if now - self._renewed > STALE_SECONDS and now - self._tried > BEAT_SECONDS:
            self._beat()
        if self._lost:
            raise LeaseLost(self._lost)

    def _wait_until_alone(self) -> None:
        watched: dict[str, tuple[float, float]] = {}
        waiting_for: str | None = None
        while True:
            # Rewritten at each turn: its time is the storage's now, and a network folder lists afresh what it wrote.
            self._put(self._store)
            files = self._store.files()
            now = files.get(self._claim.file, 0.0)
            others = self._others(self._store, files)
            alone = True
            for claim in others:
                changed = files[claim.file]
                first, since = watched.setdefault(claim.file, (changed, time.monotonic()))
                lives = claim.lives
                stale = now - changed >= STALE_SECONDS
                unmoved = changed == first and time.monotonic() - since >= 2 * BEAT_SECONDS
                if lives is False or (stale and unmoved):
                    self._claim = replace(self._claim, term=max(self._claim.term, claim.term + 1))
                    self._store.delete(claim.file)
                    continue
                alone = False
                lives = changed != first or (lives and not stale)
                if lives and (claim.driving or claim.id < self._claim.id):
                    raise BadInput(
                        f"sweep {self._store} is driven by {claim}; allowed: one driver at a time; "
                        f"if that one is dead, remove {self._store.shown(claim.file)} and run this again"
                    )
                if not lives and waiting_for != claim.id:
                    waiting_for = claim.id
                    say(f"sweep {self._store} was driven by {claim}: waiting whether it still is")
            if alone and self._claim.file in files:
                return
            time.sleep(POLL_SECONDS)

    def _others(self, store: Store, files: dict[str, float]) -> list[Claim]:
        return [claim for claim in read_claims(store, files) if claim.file != self._claim.file]

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and self._lost is None:
            self._beat()

    def _beat(self) -> None:
        """Renew the claim, or find out that it was taken. While the storage is away nobody can take it."""
        with self._beating:
            self._tried = time.clock_gettime(_CLOCK)
            try:
                taken = self._claim.file not in self._hurried.files()
                if not taken:
                    self._put(self._hurried)
                others = self._others(self._hurried, self._hurried.files())
            except StorageError:
                return
            # One that slept between its look and its write is told by the higher term of who took over meanwhile.
            above = [claim for claim in others if claim.driving and claim.term > self._claim.term]
            if taken or above:
                new = f", by {above[0]}" if above else ""
                self._lost = f"sweep {self._store} was taken over while this driver did not answer{new}"
            else:
                self._renewed = time.clock_gettime(_CLOCK)

    def _put(self, store: Store) -> None:
        content: dict[str, Any] = asdict(self._claim)
        store.write(self._claim.file, json.dumps(content, indent=1).encode())

    def _remove(self) -> None:
        with contextlib.suppress(StorageError):  # the next driver sees that this process is gone
            self._hurried.delete(self._claim.file)
        self._store.remove_empty(self._made)


def read_claims(store: Store, files: Collection[str]) -> list[Claim]:
    """Of the sweep's files those that drivers wrote. Raises StorageError."""
    claims = []
    for name in files:
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            try:
                data = store.read(name)
            except BadInput:  # no file after all
                data = b""
            if data is not None:
                claims.append(Claim.of_file(name, data))
    return claims


def living_driver(store: Store) -> Claim | None:
    """Who drives the sweep, as far as can be seen without taking part: a process of this machine lives or does not;
    of another machine's the claim was renewed lately, by this machine's clock. Raises StorageError."""
    files = store.files()
    for claim in read_claims(store, files):
        renewed = time.time() - files[claim.file] < 2 * STALE_SECONDS
        if claim.driving and (renewed if claim.lives is None else claim.lives):
            return claim
    return None

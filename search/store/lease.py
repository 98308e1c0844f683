"""One driver for each sweep: its claim in the store, which it renews while it lives, and which expires soon after."""

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field

from mtl.errors import BadInput
from mtl.vocabulary.checked import STRICT, Count, Damaged, parse
from search.store.clock import Moment, now
from search.store.errors import LeaseLost, StorageError
from search.store.messages import say
from search.store.process import ProcessId
from search.store.storage import CHECK_SECONDS, Store

BEAT_SECONDS = 5.0
# A driver that has not renewed its claim for so long, by the storage's clock, counts as dead.
STALE_SECONDS = 30.0
POLL_SECONDS = 0.5
PREFIX, SUFFIX = "driver-", ".json"
# If the system has such a clock, the time while a laptop sleeps counts too.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _parsed(process: str) -> str:
    ProcessId.parse(process)
    return process


@dataclass(frozen=True)
class Claim:
    """What a driver says about itself. Its `term` is higher than those of the drivers from which it took over."""

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
        """Whether its process lives; None if that cannot be seen from here."""
        return ProcessId.parse(self.process).lives() if self.process else None

    @classmethod
    def of_file(cls, name: str, data: bytes) -> "Claim":
        """The claim in a file. If it is damaged or of another version, all that is known is that somebody drives."""
        try:
            claim = parse(cls, data)
        except Damaged:
            claim = cls(id="", process="", host="", pid=0, started_at="", driving=True, term=0)
        return replace(claim, id=name.removeprefix(PREFIX).removesuffix(SUFFIX))


class Lease:
    """The right to drive a sweep and to write its tables, held inside `with`.

    Each driver writes a claim, a file of its own. It drives only after a later listing of the folder shows no other
    claim, except of dead drivers. So if two start together, at least one sees the other; the one with the larger id
    withdraws, and the other waits until it has. All that this needs from a storage is that a listing shows the files
    written before it; folders and object stores do that.

    A claim is dead if its process was on this machine and has ended, or if it was not renewed for `STALE_SECONDS`, by
    the storage's clock, and is not renewed while somebody watches it. Whoever finds a dead claim removes it. If its
    driver only slept, it sees that at its next beat.
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
        """Raises BadInput if another driver lives, or if the storage cannot be written."""
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
            # This process may have slept since it saw no other claim.
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
        """Raise LeaseLost if another driver has taken over. Call it before writing what only the driver writes."""
        now = time.clock_gettime(_CLOCK)
        if now - self._renewed > STALE_SECONDS and now - self._tried > BEAT_SECONDS:
            self._beat()
        if self._lost:
            raise LeaseLost(self._lost)

    def _wait_until_alone(self) -> None:
        watched: dict[str, tuple[float, float]] = {}
        waiting_for: str | None = None
        while True:
            # Written again each time: its time is then the storage's current time, and network folders list it anew.
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
                        f"if that driver is dead, remove {self._store.shown(claim.file)} and run this again"
                    )
                if not lives and waiting_for != claim.id:
                    waiting_for = claim.id
                    say(f"sweep {self._store} was driven by {claim}: waiting to see whether it still is")
            if alone and self._claim.file in files:
                return
            time.sleep(POLL_SECONDS)

    def _others(self, store: Store, files: dict[str, float]) -> list[Claim]:
        return [claim for claim in read_claims(store, files) if claim.file != self._claim.file]

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and self._lost is None:
            self._beat()

    def _beat(self) -> None:
        """Renew the claim, or find that another driver has taken over. Nobody can while the storage is away."""
        with self._beating:
            self._tried = time.clock_gettime(_CLOCK)
            try:
                taken = self._claim.file not in self._hurried.files()
                if not taken:
                    self._put(self._hurried)
                others = self._others(self._hurried, self._hurried.files())
            except StorageError:
                return
            # If this driver slept between its look and its write, the new driver's higher term shows it.
            above = [claim for claim in others if claim.driving and claim.term > self._claim.term]
            if taken or above:
                new = f", by {above[0]}" if above else ""
                self._lost = f"sweep {self._store} was taken over while this driver did not answer{new}"
            else:
                self._renewed = time.clock_gettime(_CLOCK)

    def _put(self, store: Store) -> None:
        store.write(self._claim.file, json.dumps(asdict(self._claim), indent=1).encode())

    def _remove(self) -> None:
        with contextlib.suppress(StorageError):  # the next driver sees that this process has ended
            self._hurried.delete(self._claim.file)
        self._store.remove_empty(self._made)


def read_claims(store: Store, files: Collection[str]) -> list[Claim]:
    """The drivers' claims among the sweep's files. Raises StorageError."""
    claims = []
    for name in files:
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            try:
                data = store.read(name)
            except BadInput:  # not a file
                data = b""
            if data is not None:
                claims.append(Claim.of_file(name, data))
    return claims


def living_driver(store: Store) -> Claim | None:
    """Who drives the sweep, seen from outside: a living process of this machine, or one of another machine that has
    renewed its claim lately by this machine's clock. Raises StorageError."""
    files = store.files()
    for claim in read_claims(store, files):
        renewed = time.time() - files[claim.file] < 2 * STALE_SECONDS
        if claim.driving and (renewed if claim.lives is None else claim.lives):
            return claim
    return None

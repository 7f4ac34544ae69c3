"""The connections to one server: how they are shared, when a transaction is tried again.

A few connections for all, and one that only beats use: however busy the others are, a node can
say that it lives. What fails is tried again as a whole transaction, a few times and never for
long; what may have been committed is never tried again here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore, Lock
from typing import NamedTuple, TypeVar

import pymysql

from duetime.chance import Chance
from duetime.clock import MICROS, SystemClock
from duetime.errors import (
    AnswerLost,
    LifecycleError,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from duetime.store_url import StoreUrl
from duetime.stores.mysql import driver
from duetime.stores.mysql.driver import Verdict
from duetime.stores.mysql.servers import Servers
from duetime.stores.mysql.session import Session

__all__ = [
    "BEAT_TIMEOUT",
    "CONNECT_TIMEOUT",
    "NEXT_TIMEOUT",
    "SINGLE",
    "STATEMENT_TIMEOUT",
    "BusyError",
    "Database",
    "DuplicateError",
    "Way",
]

CONNECT_TIMEOUT = 5.0  # seconds
NEXT_TIMEOUT = 2.0  # to connect to one of several servers: then the next is tried
STATEMENT_TIMEOUT = 10.0
BEAT_TIMEOUT = 2.0  # a beat that is later than that is better sent on a new connection
_SERVER_SOONER = 0.5  # s: the server gives up a statement before we stop listening
_PATIENCE = 3600.0  # s, for what people wait for: migrations, counts, checks
_CONNECTIONS = 16
_TRIES = 5
_FIRST_PAUSE, _GROWTH = 10_000, 4  # µs: pauses are drawn from 0 to this, then 4 times as long

R = TypeVar("R")
Check = Callable[[Session], None]


class Way(NamedTuple):
    """How a call uses the connections."""

    whole: bool = False  # a transaction of several statements, not one
    reserved: bool = False  # on the connection for beats
    patient: bool = False  # on a connection of its own, whose statements may take an hour
    checked: bool = True  # only where the tables are those of this program
    waits: int = 2  # how often it may wait for a lock in vain, a second each time
    fresh: bool = False  # on Galera: what any member has committed is to be seen


SINGLE = Way()
_UNCHECKED = Way(checked=False)


class DuplicateError(Exception):
    """A key was taken; the transaction was rolled back."""


class BusyError(Exception):
    """What was read had changed when it was written; to be tried again as a whole."""


class _Pool:
    """Connections that are lent to one call at a time, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._idle: list[Session] = []
        self._lock = Lock()
        self._room = BoundedSemaphore(size)

    def enter(self, timeout: float) -> bool:
        """Wait for room; tell whether there was any in time."""
        return self._room.acquire(timeout=timeout)

    def leave(self) -> None:
        """Make room."""
        self._room.release()

    def take(self, way: Way, place: int) -> Session | None:
        """Return an idle connection that still stands, rather one in the mode that is needed.

        Those to another server than `place` are closed.
        """
        while True:
            with self._lock:
                fit = (s for s in reversed(self._idle) if s.fits(whole=way.whole, fresh=way.fresh))
                session = next(fit, None) or (self._idle[-1] if self._idle else None)
                if session is not None:
                    self._idle.remove(session)
            if session is None or (session.place == place and not session.is_stale):
                return session
            session.close()

    def give(self, session: Session) -> None:
        """Keep a connection for the next call."""
        with self._lock:
            self._idle.append(session)

    def empty(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()


class Database:
    """One database; `check` is asked about each new connection whether its tables are ours."""

    def __init__(self, url: StoreUrl, chance: Chance, check: Check) -> None:
        """Nothing is opened before the first use."""
        self.url = url
        self._chance = chance
        self._check = check
        self._clock = SystemClock()
        self._tls = driver.tls(url)
        self._servers = Servers(url)
        self._pid = os.getpid()
        self._closed = False
        self._pool = _Pool(_CONNECTIONS)
        self._reserved = _Pool(1)

    def run(self, work: Callable[[Session], R], way: Way = SINGLE) -> R:
        """Return what `work` returns, done as a whole or not at all.

        Raises StoreError; DuplicateError is passed on.
        """
        self.alive()
        pool = self._reserved if way.reserved else self._pool
        if not pool.enter(STATEMENT_TIMEOUT):
            raise StoreUnavailable(
                f"{self.url}: all {_CONNECTIONS} connections were in use for "
                f"{STATEMENT_TIMEOUT:g} s.",
                code="store_busy",
            )
        try:
            return self._insist(work, pool, way)
        finally:
            pool.leave()

    def _insist(self, work: Callable[[Session], R], pool: _Pool, way: Way) -> R:
        """Try a whole transaction up to five times, with growing pauses drawn by chance."""
        until = self._clock.boot() + int(min(_timeout(way), STATEMENT_TIMEOUT) * MICROS)
        busy = 0
        bound = _FIRST_PAUSE
        for tries in range(_TRIES):
            try:
                return self._try(work, pool, way)
            except BusyError:
                error: StoreError = StoreUnavailable(
                    f"{self.url}: these events changed as fast as they were read.",
                    code="store_busy",
                )
            except _AgainError as again:
                error = again.error
                busy += again.busy
                if again.renew:
                    self._pool.empty()
            if busy >= way.waits or tries == _TRIES - 1 or self._clock.boot() >= until:
                raise error
            self._clock.sleep(int(self._chance.random() * bound))
            bound *= _GROWTH
        raise AssertionError("unreachable")

    def _try(self, work: Callable[[Session], R], pool: _Pool, way: Way) -> R:
        self.alive()
        session: Session | None = None
        shared = way.checked and not way.patient
        good = False
        try:
            session = pool.take(way, self._servers.current) if shared else None
            if session is not None and way.reserved:
                self._see_that_it_takes_part(session)
            session = session or self._servers.connect(lambda url: self._connect(url, way))
            self._catch_up(session)
            session.refresh(fresh=way.fresh)
            result = work(session)
            good = shared
            return result
        except pymysql.MySQLError as error:
            unsure = session is not None and session.unsure
            good = shared and not unsure and driver.judge(error)[0] not in driver.ELSEWHERE
            if session is not None and driver.judge(error)[0] in driver.ELSEWHERE:
                self._servers.leave(session.place)
            raise self._translate(error, unsure=unsure) from error
        except (StoreError, DuplicateError, BusyError):
            good = shared
            raise
        finally:
            if session is not None and os.getpid() == self._pid:
                still = self._servers.ended(session.place)
                if good and still and not self._closed and not session.is_broken:
                    pool.give(session)
                else:
                    session.close()

    def _see_that_it_takes_part(self, session: Session) -> None:
        """Before a beat: a node does not stay with a member that lags, if there are others."""
        if session.is_galera and self._servers.are_several:
            session.look()
            if not session.takes_part:
                raise pymysql.OperationalError(driver.LAGGING, "this member is not synced")

    def _catch_up(self, session: Session) -> None:
        """See what was committed on the server that was used before."""
        moves = self._servers.moves
        if session.moves != moves:
            session.catch_up()
            session.moves = moves

    def _connect(self, url: StoreUrl, way: Way) -> Session:
        timeout = _timeout(way)
        hurry = NEXT_TIMEOUT if self._servers.are_several else CONNECT_TIMEOUT
        try:
            connection = driver.connect(
                url, encrypted=self._tls, connect_timeout=hurry, timeout=timeout
            )
        except RuntimeError as error:  # a login that needs the package cryptography
            raise StoreUnavailable(f"{url}: {error}.", code="store_login") from error
        try:
            session = Session(connection, timeout - _SERVER_SOONER, 50 if way.patient else 1)
            if way.checked:
                self._check(session)
        except BaseException:
            connection._force_close()  # noqa: SLF001 - close() sends, and may block
            raise
        return session

    def each(self, work: Callable[[Session], R]) -> Iterator[tuple[StoreUrl, R | str]]:
        """Do this on every server of the URL by itself; yield the answer, or what went wrong."""
        for url in self.url.each():
            try:
                session = self._connect(url, _UNCHECKED)
                try:
                    yield url, work(session)
                finally:
                    session.close()
            except pymysql.MySQLError as error:
                yield url, str(self._translate(error, unsure=False))

    def alive(self) -> None:
        """Raise LifecycleError after close, and in a child that was forked with this open."""
        if os.getpid() != self._pid:
            raise LifecycleError(
                "This store was opened before a fork: connections must not cross it. "
                "Make a store of its own in each process.",
                code="forked",
            )
        if self._closed:
            raise LifecycleError("This store is closed.", code="closed")

    def close(self) -> None:
        """Close every connection; one that is in use closes when its call ends."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._pool.empty()
        self._reserved.empty()

    def _translate(self, error: pymysql.MySQLError, *, unsure: bool) -> Exception:
        """Return our error for one of the server's: did it happen, and what is to be done?"""
        code, verdict = driver.judge(error)
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        said = f"({code})" if code in driver.QUOTING else f"({code}: {text})"[:300]
        if unsure:
            return AnswerLost(f"{self.url}: the answer to a commit was lost {said}.")
        if verdict is Verdict.DUPLICATE:
            return DuplicateError()
        if verdict is Verdict.BUSY:
            why = f"{self.url}: another transaction held these rows for too long {said}."
            return _AgainError(StoreUnavailable(why, code="store_busy"), busy=1, renew=False)
        if verdict in (Verdict.LOST, Verdict.AGAIN, Verdict.CUT_OFF):
            why = f"{self.url} cannot be reached or is not ready {said}."
            renew = verdict is Verdict.LOST or code in driver.ELSEWHERE
            return _AgainError(StoreUnavailable(why), busy=0, renew=renew)
        return self._refused(code, verdict, said)

    def _refused(self, code: int, verdict: Verdict, said: str) -> StoreError:
        """Return our error for what would be refused again."""
        if verdict is Verdict.FULL:
            return StoreFull(f"No room is left for {self.url}: free some space {said}.")
        if verdict is Verdict.DENIED:
            text = f"{self.url} does not let this user in, or not do this {said}."
            return StoreUnavailable(text, code="store_denied")
        if verdict is Verdict.DATABASE:
            text = f"There is no database {self.url.database!r} at {self.url}: create it, then run "
            return SchemaError(f"{text}`duetime migrate`.", code="database_missing")
        if verdict is Verdict.SCHEMA:
            return SchemaError(
                f"{self.url} does not have the tables of this program (error {code}): "
                "run `duetime migrate`, then `duetime check`."
            )
        if verdict is Verdict.TOO_LARGE:
            text = f"{self.url}: an event is larger than max_allowed_packet {said}."
            return StoreError(text, code="packet_too_large")
        return StoreError(f"{self.url} refused a value or a call {said}.", code="mysql_refused")


def _timeout(way: Way) -> float:
    """Return how many seconds a statement may take."""
    if way.patient:
        return _PATIENCE
    return BEAT_TIMEOUT if way.reserved else STATEMENT_TIMEOUT


class _AgainError(Exception):
    """It did not happen and may be tried again.

    `busy` is 1 when it waited for a lock; with `renew`, other connections will fare no better.
    """

    def __init__(self, error: StoreError, *, busy: int, renew: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.busy = busy
        self.renew = renew

"""The connections to one server: how they are shared, when a transaction is tried again.

A few connections for all, and one for the calls that keep a node alive: however busy the others
are, it can say that it lives. What fails is tried again as a whole transaction, a few times and
never for long; what may have been committed is never tried again here.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import psycopg

from duetime.chance import Chance
from duetime.clock import MICROS, SystemClock
from duetime.errors import (
    AnswerLost,
    LifecycleError,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)
from duetime.store_url import StoreUrl
from duetime.stores.postgres import driver
from duetime.stores.postgres.driver import LIMITS, Link, Verdict
from duetime.stores.postgres.session import Session

__all__ = ["OLDEST", "BusyError", "Database", "DuplicateError"]

OLDEST = 13  # the first version of the server that is served
_CONNECT_TIMEOUT = 5.0  # s
_CALL_TIMEOUT = 10.0  # s, all tries of a call together
_SERVER_SOONER = 0.5  # s: the server gives up a statement before nobody listens any more
_PATIENCE = 3600.0  # s, for what people wait for: migrations, counts, checks
_CONNECTIONS = 8
_TRIES = 5
_FIRST_PAUSE, _GROWTH = 10_000, 4  # µs: pauses are drawn from 0 to this, then 4 times as long

R = TypeVar("R")
_open: weakref.WeakSet[Database] = weakref.WeakSet()
_left_open: list[Session] = []


class DuplicateError(Exception):
    """A key was taken; the transaction was rolled back."""


class BusyError(Exception):
    """What was read had changed when it was written; to be tried again as a whole."""


class _AgainError(Exception):
    """It did not happen and may be tried again."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


def _leave_alone() -> None:
    """In a forked child: keep the parent's connections from ever being closed here."""
    for database in list(_open):
        _left_open.extend(database.abandon())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)


class _Pool:
    """Connections that are lent to one call at a time, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self.room = BoundedSemaphore(size)
        self._idle: list[Session] = []
        self._lock = Lock()
        self._closed = False

    def take(self) -> Session | None:
        """Return an idle connection that still stands, the one that was used last."""
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None or not session.is_stale:
                return session
            session.close()

    def give(self, session: Session) -> None:
        """Keep a connection for the next call."""
        with self._lock:
            if not self._closed:
                self._idle.append(session)
                return
        session.close()

    def empty(self, *, for_good: bool = False) -> None:
        """Close what is idle; `for_good`, whatever comes back too."""
        with self._lock:
            self._closed |= for_good
            idle = self.abandon()
        for session in idle:
            session.close()

    def abandon(self) -> list[Session]:
        """Give up what is idle without closing it, and return it."""
        idle, self._idle = self._idle, []
        return idle


class Database:
    """One database; `check` is asked about each new connection whether its tables are ours."""

    def __init__(
        self,
        url: StoreUrl,
        sql: bytes,
        chance: Chance,
        check: Callable[[Session], None],
    ) -> None:
        """Nothing is opened before the first use; `sql` asks a connection about itself."""
        self.url = url
        self._sql = sql
        self._chance = chance
        self._check = check
        self._clock = SystemClock()
        self._pid = os.getpid()
        self._closed = False
        self._limits = True  # until a pooler refuses them
        self._pool = _Pool(_CONNECTIONS)
        self._reserved = _Pool(1)
        _open.add(self)

    def run(
        self,
        work: Callable[[Session], R],
        *,
        reserved: bool = False,
        checked: bool = True,
        patient: bool = False,
    ) -> R:
        """Return what `work` returns, done as a whole or not at all.

        `reserved` uses the connection of the node's keeper. Without `checked`, server and tables
        may be anything; with `patient`, statements may take an hour: both use a connection of
        their own. Raises StoreError; DuplicateError is passed on.
        """
        self.alive()
        pool = self._reserved if reserved else self._pool
        if not pool.room.acquire(timeout=_CALL_TIMEOUT):
            raise StoreUnavailable(
                f"{self.url}: all {_CONNECTIONS} connections were in use for {_CALL_TIMEOUT:g} s.",
                code="store_busy",
            )
        try:
            return self._insist(work, pool, checked=checked, patient=patient)
        finally:
            pool.room.release()

    def _insist(
        self, work: Callable[[Session], R], pool: _Pool, *, checked: bool, patient: bool
    ) -> R:
        """Try a whole transaction up to five times, with growing pauses drawn by chance."""
        until = self._clock.boot() + int((_PATIENCE if patient else _CALL_TIMEOUT) * MICROS)
        bound = _FIRST_PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return self._try(work, pool, until, checked=checked, patient=patient)
            except _AgainError as again:
                if not left or self._clock.boot() >= until:
                    raise again.error from again.__cause__
            self._clock.sleep(int(self._chance.random() * bound))
            bound *= _GROWTH
        raise AssertionError("unreachable")

    def _try(
        self,
        work: Callable[[Session], R],
        pool: _Pool,
        until: int,
        *,
        checked: bool,
        patient: bool,
    ) -> R:
        self.alive()
        shared = checked and not patient
        session: Session | None = None
        good = False
        try:
            session = pool.take() if shared else None
            session = session or self._connect(until, checked=checked, patient=patient)
            session.start(until)
            result = work(session)
            good = True
            return result
        except psycopg.Error as error:
            good = self._translates(error)
            raise self._translate(error, unsure=session is not None and session.unsure) from error
        except BusyError as error:
            good = True
            text = f"{self.url}: these events changed as fast as they were read."
            if session is not None and session.unsure:
                raise AnswerLost(text) from error
            raise _AgainError(StoreUnavailable(text, code="store_busy")) from error
        except (StoreError, DuplicateError):
            good = True
            raise
        finally:
            if session is not None and os.getpid() == self._pid:
                if good and shared and not session.is_broken:
                    pool.give(session)
                else:
                    session.close()

    def _translates(self, error: psycopg.Error) -> bool:
        """Tell whether a connection is as good as before; if no other is, let go of all."""
        verdict = driver.judge(error)
        if verdict in (Verdict.LOST, Verdict.READ_ONLY):
            self._pool.empty()
            self._reserved.empty()
            return False
        return True

    def _connect(self, until: int, *, checked: bool, patient: bool) -> Session:
        timeout = (_PATIENCE if patient else _CALL_TIMEOUT) - _SERVER_SOONER
        try:
            link = self._link(timeout, limits=self._limits)
        except psycopg.Error as error:
            if not self._limits or not driver.without_limits(error):
                raise
            self._limits = False
            link = self._link(timeout, limits=False)
        link.until = until
        try:
            engine, number, is_replica, encoding, *limits = _told(link, self._sql)
            in_force = limits == [LIMITS["lock_timeout"], "read committed"]
            has_ctid = driver.has_ctid(engine)
            session = Session(link, limits=in_force, statement_timeout=timeout, has_ctid=has_ctid)
            if checked:
                self.admit(number, encoding, is_replica=is_replica)
                self._check(session)
        except BaseException:
            link.close()
            raise
        return session

    def _link(self, timeout: float, *, limits: bool) -> Link:
        return driver.connect(
            self.url, limits=limits, connect_timeout=_CONNECT_TIMEOUT, statement_timeout=timeout
        )

    def admit(self, number: int, encoding: str, *, is_replica: bool) -> None:
        """Refuse a server that cannot be served."""
        if number < OLDEST * 10_000:
            raise StoreUnsupported(
                f"{self.url}: PostgreSQL {number // 10_000} is too old, it must be {OLDEST} or "
                "newer.",
                code="postgres_version",
            )
        if encoding != "UTF8":
            raise StoreUnsupported(
                f"{self.url}: the database's encoding is {encoding}; make one with UTF8.",
                code="postgres_encoding",
            )
        if is_replica:
            raise StoreUnavailable(
                f"{self.url} is a read replica: claims are decided on the primary alone.",
                code="store_replica",
            )

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

    def abandon(self) -> list[Session]:
        """Give up all idle connections without closing or locking anything, and return them."""
        return [*self._pool.abandon(), *self._reserved.abandon()]

    def close(self) -> None:
        """Close every connection; one that is in use closes when its call ends."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._pool.empty(for_good=True)
        self._reserved.empty(for_good=True)

    def _translate(self, error: psycopg.Error, *, unsure: bool) -> Exception:
        """Return our error for one of the server's: did it happen, and what is to be done?"""
        verdict, text = driver.judge(error), driver.said(error)
        if unsure:
            return AnswerLost(f"{self.url}: the answer was lost ({text}).")
        if verdict is Verdict.DUPLICATE:
            return DuplicateError()
        if verdict is Verdict.BUSY:
            why = f"{self.url}: another transaction held these rows for too long ({text})."
            return _AgainError(StoreUnavailable(why, code="store_busy"))
        if verdict in (Verdict.LOST, Verdict.AGAIN):
            return _AgainError(StoreUnavailable(f"{self.url} cannot be used ({text})."))
        return self._refused(verdict, text)

    def _refused(self, verdict: Verdict, text: str) -> StoreError:
        """Return our error for what would be refused again."""
        where = self.url
        if verdict is Verdict.SLOW:
            return StoreUnavailable(f"{where} took too long ({text}).", code="store_slow")
        if verdict is Verdict.READ_ONLY:
            return StoreUnavailable(f"{where} takes no writes ({text}).", code="store_read_only")
        if verdict is Verdict.FULL:
            return StoreFull(f"No room is left for {where}: free some space ({text}).")
        if verdict is Verdict.DENIED:
            why = f"{where} does not let this user in, or not do this ({text})."
            return StoreUnavailable(why, code="store_denied")
        if verdict is Verdict.DATABASE:
            why = f"There is no such database ({text}): create it, then run `duetime migrate`."
            return SchemaError(f"{where}: {why}", code="database_missing")
        if verdict is Verdict.SCHEMA:
            return SchemaError(
                f"{where} does not have the tables of this program ({text}): "
                "run `duetime migrate`, then `duetime check`."
            )
        return StoreError(f"{where} refused a value or a call ({text}).", code="postgres_refused")


def _told(link: Link, statement: bytes) -> tuple[Any, ...]:
    """Return what a new connection says of itself."""
    row = link.execute(statement).fetchone()
    assert row is not None
    return row

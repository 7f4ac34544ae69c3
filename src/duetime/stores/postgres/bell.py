"""NOTIFY as a hint: a node hears of what others have stored before its next look would find it.

Nothing depends on it. A ring that is lost, that comes too late or twice, that nobody hears, or
that a pooler swallows leaves everything to the looks that a node takes anyway.
"""

from __future__ import annotations

import contextlib
from threading import Lock

import psycopg

from duetime.clock import MICROS, Clock
from duetime.errors import StoreError, StoreUnavailable
from duetime.store_url import StoreUrl
from duetime.stores.postgres import driver
from duetime.stores.postgres.connection import Database

__all__ = ["PostgresBell"]

_QUIET = MICROS // 100  # µs between two rings of a process: a notification holds up other commits
_CONNECT_TIMEOUT = 5.0  # s
_STATEMENT_TIMEOUT = 5.0  # s
_FOREVER = 1 << 62  # µs: nothing bounds the wait for a ring but the caller


class PostgresBell:
    """Rings by the store's own connections; hears on one more, which need not be there."""

    def __init__(
        self, url: StoreUrl, database: Database, sql: dict[str, bytes], clock: Clock
    ) -> None:
        """Open nothing yet."""
        self._url = url
        self._database = database
        self._ring, self._listen = sql["ring"], sql["listen"]
        self._clock = clock
        self._lock = Lock()
        self._quiet_until = 0  # boot clock, µs
        self._link: driver.Link | None = None

    def ring(self, due_at: int) -> bool:
        """Tell every node that hears of an event due at that time; return whether it was sent.

        At most once every 10 ms: what falls between is found by whoever was woken, or by a look.
        """
        boot = self._clock.boot()
        with self._lock:
            if boot < self._quiet_until:
                return False
            self._quiet_until = boot + _QUIET
        try:
            self._database.run(lambda db: db.rows(self._ring, {"due_at": due_at}))
        except StoreError:
            return False  # only a hint, and the event is stored
        return True

    def hear(self, seconds: float) -> int | None:
        """Wait at most so long; return the soonest due time that was rung, None if nothing was.

        For one thread. Raises StoreError when there is no connection; the next call makes one.
        """
        try:
            link = self._link = self._link or self._connect()
            heard = [_due(note.payload) for note in link.notifies(timeout=seconds, stop_after=1)]
        except psycopg.Error as error:
            self.close()
            raise StoreUnavailable(f"{self._url}: {driver.said(error)}") from error
        return min((due_at for due_at in heard if due_at is not None), default=None)

    def close(self) -> None:
        """Let go of the connection."""
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(psycopg.Error):
                link.close()

    def _connect(self) -> driver.Link:
        link = driver.connect(
            self._url,
            limits=False,
            connect_timeout=_CONNECT_TIMEOUT,
            statement_timeout=_STATEMENT_TIMEOUT,
        )
        link.until = self._clock.boot() + int(_STATEMENT_TIMEOUT * MICROS)
        try:
            link.execute(self._listen)
        except BaseException:
            link.close()
            raise
        link.until = _FOREVER
        return link


def _due(payload: str) -> int | None:
    """Return what was rung; anyone who may connect may ring, with anything."""
    return int(payload) if payload.isascii() and payload.isdigit() and len(payload) < 20 else None

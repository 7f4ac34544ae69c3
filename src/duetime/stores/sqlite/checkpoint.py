"""When the write-ahead log is copied into the file: by SQLite itself, or so that a bug cannot.

SQLite 3.7.0 to 3.51.2 can lose pages if one connection checkpoints while another, which holds the
write lock, begins the log anew. Such a library never checkpoints by itself here: now and then a
second connection of this process does, while the writer holds the write lock of the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from duetime.stores.sqlite.driver import Connection, Driver, affected

__all__ = ["Checkpoints", "advice", "chosen"]

_PAGES = 20_000  # rarer checkpoints write a hot page once instead of many times
_CAREFUL_PAGES = 5_000  # fewer, for every other writer waits meanwhile
_PAGES_PER_COMMIT, _ROWS_PER_PAGE = 3, 10  # as measured: single rows at random places; bulk

_log = logging.getLogger("duetime")


class Checkpoints(Protocol):
    """Who copies the log into the file, and when."""

    def set_up(self, connection: Connection) -> None:
        """Tell a new connection whether it is to checkpoint by itself."""

    def in_write(self, writer: Connection, connect: Callable[[], Connection]) -> None:
        """Checkpoint if it is time; a transaction that `writer` is in has changed nothing yet.

        `connect` opens one more connection.
        """


def chosen(driver: Driver, path: str) -> Checkpoints:
    """Return the way that suits the version of SQLite; warn of an affected one in the log."""
    if not affected(driver.version):
        return _BySqlite()
    _log.warning("sqlite_version: %s", advice(driver.version, driver.through), extra={"path": path})
    return _Careful(driver)


def advice(version: str, through: str) -> str:
    """Return what is to be said about an affected version."""
    return (
        f"SQLite {version} through {through} has the WAL-reset bug (3.7.0 to 3.51.2): a file can "
        "be damaged when one connection checkpoints while another writes. Duetime checkpoints "
        "only while it holds the write lock, which is safe; let your own connections do none "
        "(PRAGMA wal_autocheckpoint = 0), or use sqlite:///file, which brings a repaired SQLite."
    )


class _BySqlite:
    """SQLite checkpoints by itself after the commit that makes the log long enough."""

    def set_up(self, connection: Connection) -> None:
        connection.rows(f"PRAGMA wal_autocheckpoint = {_PAGES}")

    def in_write(self, writer: Connection, connect: Callable[[], Connection]) -> None:
        """Nothing to do."""


class _Careful:
    """We checkpoint while we hold the write lock: nobody can begin the log anew meanwhile.

    Neither the log nor its index can be looked at from here without dropping locks, so its
    growth is reckoned. The last connection that closes the file checkpoints as always: SQLite
    makes sure that it is alone.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._pages = 0
        self._changes = 0

    def set_up(self, connection: Connection) -> None:
        connection.rows("PRAGMA wal_autocheckpoint = 0")

    def in_write(self, writer: Connection, connect: Callable[[], Connection]) -> None:
        changes = writer.total_changes
        self._pages += _PAGES_PER_COMMIT + abs(changes - self._changes) // _ROWS_PER_PAGE
        self._changes = changes
        if self._pages < _CAREFUL_PAGES:
            return
        self._pages = 0
        begun = writer.in_transaction
        if not begun:
            writer.run("BEGIN IMMEDIATE")
        self._checkpoint(connect())
        # A transaction that began before the checkpoint cannot begin the log anew.
        writer.run("ROLLBACK")
        if begun:
            writer.run("BEGIN IMMEDIATE")

    def _checkpoint(self, second: Connection) -> None:
        try:
            second.rows("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            with suppress(self._driver.error):
                second.close()

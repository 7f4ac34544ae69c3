"""SQLite through the standard library: the one that SQLAlchemy and Django use."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from duetime.stores.sqlite.driver import BUSY, Driver

__all__ = ["DRIVER", "Sqlite3"]

_BUSY_SNAPSHOT = BUSY | 2 << 8  # no waiting helps: what was read is no longer the newest


class Sqlite3:
    """A connection of sqlite3; see `driver.Connection`."""

    __slots__ = ("_wait", "connection")

    def __init__(self, connection: sqlite3.Connection, wait: Callable[[int], bool]) -> None:
        self.connection = connection
        self._wait = wait

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.connection.in_transaction

    @property
    def total_changes(self) -> int:
        """How many rows it has changed since it was opened."""
        return self.connection.total_changes

    def first(self, sql: str, values: Sequence[Any] = ()) -> Any | None:
        """Return the first row of a query, or None."""
        return self._execute(sql, values).fetchone()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query as tuples."""
        return self._execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed."""
        return self._execute(sql, values).rowcount

    def change_many(self, sql: str, many: Iterable[Sequence[Any]]) -> int:
        """Run one statement with each of many values; return how many rows they changed."""
        return max(self._cursor().executemany(sql, many).rowcount, 0)

    def run(self, sql: str) -> None:
        """Run statements that answer nothing; executescript would commit before the first."""
        statement = ""
        for part in sql.split(";"):
            statement += part + ";"
            if sqlite3.complete_statement(statement):
                if statement.strip(" \n;"):
                    self._execute(statement)
                statement = ""

    def close(self) -> None:
        """Close it; a transaction that is open is rolled back."""
        self.connection.close()

    def _cursor(self) -> sqlite3.Cursor:
        return self.connection.cursor()

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement, again while others hold the lock: it has no handler to pass on."""
        tries = 0
        while True:
            try:
                return self._cursor().execute(sql, values)
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code & 255 != BUSY or code == _BUSY_SNAPSHOT or not self._wait(tries):
                    raise
            tries += 1


class _Borrowed(Sqlite3):
    """A caller's connection: rows come as tuples and texts as str, whatever it makes of its own."""

    __slots__ = ()

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self.connection.cursor(sqlite3.Cursor)
        cursor.row_factory = None
        return cursor


def _never(_: int) -> bool:
    return False


def _connect(path: str, wait: Callable[[int], bool]) -> Sqlite3:
    # mode=rw: only `migrate` makes a file. No transaction is begun but by our own BEGIN.
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    return Sqlite3(connection, wait)


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 255


def _borrow(connection: object) -> Sqlite3 | None:
    return _Borrowed(connection, _never) if isinstance(connection, sqlite3.Connection) else None


DRIVER = Driver(
    name="sqlite3",
    through="Python's sqlite3",
    version=sqlite3.sqlite_version,
    error=sqlite3.Error,
    connect=_connect,
    code=_code,
    borrow=_borrow,
)

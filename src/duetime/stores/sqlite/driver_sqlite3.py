"""SQLite through the standard library: the one that SQLAlchemy and Django use."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from duetime.stores.sqlite.driver import BUSY, Driver

__all__ = ["DRIVER", "Sqlite3"]

_BUSY_SNAPSHOT = BUSY | 2 << 8  # no waiting helps: what was read is no longer the newest


class Sqlite3:
    """A connection of sqlite3; see `driver.Connection`."""

    __slots__ = ("_facts", "_wait", "connection")

    def __init__(
        self, connection: Any, wait: Callable[[int], bool], facts: Any | None = None
    ) -> None:
        """Execute on `connection`; `facts` knows its state, if it does not itself."""
        self.connection = connection
        self._wait = wait
        self._facts = connection if facts is None else facts

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._facts.in_transaction)

    @property
    def begins_itself(self) -> bool:
        """Whether a transaction is begun at a caller's first change, as by default."""
        return self._facts.isolation_level is not None

    @property
    def total_changes(self) -> int:
        """How many rows it has changed since it was opened."""
        return int(self._facts.total_changes)

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
        cursor = self._cursor()
        cursor.executemany(sql, many)
        return max(cursor.rowcount, 0)

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
        cursor: sqlite3.Cursor = self.connection.cursor()
        return cursor

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement, again while others hold the lock: it has no handler to pass on."""
        tries = 0
        while True:
            try:
                cursor = self._cursor()
                cursor.execute(sql, values)
                return cursor
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                if code & 255 != BUSY or code == _BUSY_SNAPSHOT or not self._wait(tries):
                    raise
            tries += 1


class _Borrowed(Sqlite3):
    """A caller's connection: rows come as tuples and texts as str, whatever it makes of its own."""

    __slots__ = ()

    def first(self, sql: str, values: Sequence[Any] = ()) -> Any | None:
        """Return the first row of a query, or None."""
        with self._plainly():
            return super().first(sql, values)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query as tuples."""
        with self._plainly():
            return super().rows(sql, values)

    def _cursor(self) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.connection.cursor(sqlite3.Cursor)
        cursor.row_factory = None
        return cursor

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        texts = self.connection.text_factory
        self.connection.text_factory = str
        try:
            yield
        finally:
            self.connection.text_factory = texts


class _Awaited(Sqlite3):
    """What SQLAlchemy makes of a connection of aiosqlite: each call is awaited within."""

    __slots__ = ()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query as tuples."""
        return [tuple(row) for row in super().rows(sql, values)]


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


def _borrow(connection: Any) -> Sqlite3 | None:
    if isinstance(connection, sqlite3.Connection):
        return _Borrowed(connection, _never)
    inner = getattr(connection, "driver_connection", None)
    if type(inner).__module__.partition(".")[0] == "aiosqlite":
        return _Awaited(connection, _never, inner)
    return None


DRIVER = Driver(
    name="sqlite3",
    through="Python's sqlite3",
    version=sqlite3.sqlite_version,
    error=sqlite3.Error,
    connect=_connect,
    code=_code,
    borrow=_borrow,
)

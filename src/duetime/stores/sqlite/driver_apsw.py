"""SQLite through apsw, which brings a current SQLite of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw

from duetime.stores.sqlite.driver import Driver

__all__ = ["DRIVER", "Apsw"]


class Apsw:
    """A connection of apsw; see `driver.Connection`."""

    __slots__ = ("_execute", "_executemany", "connection")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.connection.in_transaction

    @property
    def begins_itself(self) -> bool:
        """Never: apsw leaves every statement as it is."""
        return False

    @property
    def total_changes(self) -> int:
        """How many rows it has changed since it was opened."""
        return self.connection.total_changes()

    def first(self, sql: str, values: Sequence[Any] = ()) -> Any | None:
        """Return the first row of a query, or None."""
        return self._execute(sql, values).fetchone()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query as tuples."""
        return self._execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed."""
        self._execute(sql, values)
        return self.connection.changes()

    def change_many(self, sql: str, many: Iterable[Sequence[Any]]) -> int:
        """Run one statement with each of many values; return how many rows they changed."""
        before = self.connection.total_changes()
        self._executemany(sql, many)
        return self.connection.total_changes() - before

    def run(self, sql: str) -> None:
        """Run statements that answer nothing."""
        self._execute(sql)

    def close(self) -> None:
        """Close it; a transaction that is open is rolled back."""
        self.connection.close(force=True)


class _Borrowed(Apsw):
    """A caller's connection: its tracers, which may change rows, are not asked about ours."""

    __slots__ = ()

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._execute = lambda *given: self._cursor().execute(*given)
        self._executemany = lambda *given: self._cursor().executemany(*given)

    def _cursor(self) -> apsw.Cursor:
        cursor = self.connection.cursor()
        cursor.row_trace = _as_it_is
        cursor.exec_trace = _unseen
        return cursor


def _as_it_is(_: apsw.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row


def _unseen(*_: object) -> bool:
    return True


def _connect(path: str, wait: Callable[[int], bool]) -> Apsw:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_handler(wait)
    return Apsw(connection)


def _code(error: Exception) -> int:
    return _CODES.get(type(error), 0)


def _borrow(connection: object) -> Apsw | None:
    return _Borrowed(connection) if isinstance(connection, apsw.Connection) else None


# By class: an error that apsw did not get from SQLite itself bears no number.
_CODES = {type(apsw.exception_for(code)): code for code in range(1, 27)}

DRIVER = Driver(
    name="apsw",
    through=f"apsw {apsw.apsw_version()}",
    version=apsw.sqlite_lib_version(),
    error=apsw.Error,
    connect=_connect,
    code=_code,
    borrow=_borrow,
)

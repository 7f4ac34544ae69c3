"""A connection of the caller's, of any driver: statements without parameters, plain answers.

Every value stands in the statement as a literal, because drivers differ in how they mark
parameters; and a row may come as whatever the caller has chosen for his own rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from duetime.stores import rules

__all__ = ["Joined", "JoinedError", "join", "kind_of"]

_KINDS = {
    "mysql": ("pymysql", "MySQLdb", "mysql", "mariadb", "asyncmy", "aiomysql"),
    "postgresql": ("psycopg", "psycopg2", "psycopg_c", "asyncpg", "pg8000", "psycopg2cffi"),
    "sqlite": ("sqlite3", "_sqlite3", "apsw", "aiosqlite", "pysqlite3", "sqlcipher3"),
}
_NAMES = {"mysql": "MySQL or MariaDB", "postgresql": "PostgreSQL", "sqlite": "SQLite"}
_DRIVERS = {driver: kind for kind, drivers in _KINDS.items() for driver in drivers}
_TOLD = {"postgresql": "PostgreSQL"}  # what `version()` says; all others that have it are MySQL


class JoinedError(Exception):
    """The caller's driver raised: `code` is the server's (SQLSTATE or number), "" if none came."""

    def __init__(self, code: int | str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Joined:
    """Runs statements on a connection that belongs to somebody else, and changes nothing on it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str) -> int:
        """Run a statement; return how many rows the server said it met. Raises JoinedError."""
        return int(self._run(statement, fetch=False)[0])

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement that answers with rows, whatever its driver makes of them."""
        return self._run(statement, fetch=True)[1]

    def value(self, statement: str) -> str:
        """Run a statement that answers with one text."""
        (first,) = self.rows(statement)[0]
        return first.decode() if isinstance(first, bytes | bytearray) else str(first)

    def _run(self, statement: str, *, fetch: bool) -> tuple[int, list[tuple[Any, ...]]]:
        try:
            cursor = _cursor(self._connection)
            try:
                cursor.execute(statement)
                rows = [_tuple(row) for row in cursor.fetchall()] if fetch else []
                return cursor.rowcount, rows
            finally:
                with suppress(Exception):
                    cursor.close()
        except Exception as error:  # of whatever driver
            raise JoinedError(_code(error), _text(error)) from error


def _cursor(connection: Any) -> Any:
    """Return a cursor whose rows are tuples, where the driver lets us choose."""
    driver = _driver(connection)
    if driver == "psycopg2":
        plain = sys.modules["psycopg2.extensions"]
        return connection.cursor(cursor_factory=plain.cursor)
    cursor = connection.cursor()
    if driver == "psycopg":
        cursor.row_factory = sys.modules["psycopg.rows"].tuple_row
    return cursor


def _tuple(row: Any) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        row = row.values()
    elif isinstance(row, str | bytes) or not isinstance(row, Iterable):
        row = (row,)
    return tuple(bytes(each) if isinstance(each, memoryview) else each for each in row)


def _code(error: BaseException) -> int | str:
    """Return the server's number or SQLSTATE, wherever the driver keeps it."""
    first = error.args[0] if error.args else None
    for found in (getattr(error, "errno", None), first):
        if isinstance(found, int) and not isinstance(error, OSError):
            return found
    for found in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None)):
        if isinstance(found, str):
            return found
    if isinstance(first, Mapping):  # pg8000
        return str(first.get("C", ""))
    return _code(error.__cause__) if error.__cause__ is not None else ""


def _text(error: BaseException) -> str:
    """Return the first line of what was said: further ones repeat values."""
    told = getattr(getattr(error, "diag", None), "message_primary", None)
    last = error.args[-1] if error.args else error
    lines = str(told or last).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]


def _driver(connection: object) -> str:
    """Return the name of the package that a connection's class comes from, or is made on."""
    for each in type(connection).__mro__:
        package, _, rest = each.__module__.partition(".")
        if package == "sqlalchemy":  # its adapters of drivers that are awaited
            package = rest.rpartition(".")[2]
        if package in _DRIVERS:
            return package
    return ""


def kind_of(connection: object) -> str:
    """Return "mysql", "postgresql", "sqlite", or "" for a class that no known driver has."""
    return _DRIVERS.get(_driver(connection), "")


def join(connection: object, kind: str) -> Joined:
    """Return the connection, to be used; refuse it unless it is of this kind of database.

    A class that is not known is asked for its version, which harms no database's transaction.
    """
    joined = Joined(connection)
    found = kind_of(connection)
    if not found:
        if not hasattr(connection, "cursor"):
            raise rules.unfit(
                f"a {type(connection).__name__} is no connection: give a connection of your "
                "driver, SQLAlchemy's Connection or Session, or Django's connection."
            )
        try:
            told = joined.value("SELECT version()")
        except JoinedError as error:
            raise rules.unfit(f"the connection cannot be used ({error.text}).") from error
        found = next((name for name, word in _TOLD.items() if told.startswith(word)), "mysql")
    if found != kind:
        raise rules.unfit(
            f"the connection is one to {_NAMES[found]}, but the events are kept in "
            f"{_NAMES[kind]}: only a transaction of the database that keeps them can be shared."
        )
    return joined

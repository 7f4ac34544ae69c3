"""Where the events of a fleet are: a file, or a database of its own on a server."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import apsw
import psycopg
import pymysql

from duetime.config import Settings
from duetime.stores import open_store
from tests.servers.local import Address

__all__ = [
    "FilePlace",
    "MariadbPlace",
    "Place",
    "PostgresPlace",
    "ServerPlace",
    "found",
    "place_on",
]

_OURS = re.compile(r"\b(events|nodes|names|dead|meta|version)\b")
_serial = count(1)


class Place(Protocol):
    """One database."""

    @property
    def url(self) -> str:
        """What a store is opened with."""

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Return what SQL answers; tables are named without their prefix."""


def found(place: Place) -> list[str]:
    """Return what `duetime check` finds wrong."""
    store = open_store(Settings(store=place.url))
    try:
        return [f"{one.name}: {one.text}" for one in store.check() if one.level == "error"]
    finally:
        store.close()


def _ours(sql: str) -> str:
    return _OURS.sub(r"duetime_\1", sql)


class FilePlace:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.path))
        try:
            connection.set_busy_timeout(10_000)
            return list(connection.execute(_ours(sql), bindings))
        finally:
            connection.close()


class ServerPlace:
    """A database of its own, made on a server that runs."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.kind = address.kind
        self.database = f"faults_{next(_serial)}"
        self._kept: Any = None
        link = self.connect(database=None)
        link.cursor().execute(f"DROP DATABASE IF EXISTS {self.database}")
        link.cursor().execute(f"CREATE DATABASE {self.database}")
        link.close()

    @property
    def url(self) -> str:
        return self.at(self.address.port)

    def at(self, port: int, host: str | None = None) -> str:
        """Return the URL by way of another port, of a proxy perhaps."""
        return self.address._replace(port=port, host=host or self.address.host).url(self.database)

    def connect(self, database: str | None = "") -> Any:
        """Return a connection of the driver's, in autocommit mode; None: to no database of ours."""
        raise NotImplementedError

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Return what SQL answers; marks are %s."""
        link = self.connect()
        try:
            with link.cursor() as cursor:
                cursor.execute(_ours(sql), bindings or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            link.close()

    def ask(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """As `rows`, on a connection that is kept: for what is asked many times a second."""
        if self._kept is None:
            self._kept = self.connect()
        with self._kept.cursor() as cursor:
            cursor.execute(sql, bindings or None)
            return list(cursor.fetchall()) if cursor.description else []

    def drop(self) -> None:
        """Remove the database."""
        raise NotImplementedError

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def sessions(self) -> list[int]:
        """Return the numbers of the connections to this database, but for the asking one."""
        raise NotImplementedError

    def end_session(self, number: int) -> None:
        """Let the server end a connection, as an administrator does."""
        raise NotImplementedError


class MariadbPlace(ServerPlace):
    """A database on MariaDB or MySQL."""

    def connect(self, database: str | None = "") -> Any:
        return pymysql.connect(
            host=self.address.host,
            port=self.address.port,
            user=self.address.user,
            password=self.address.password,
            database=self.database if database == "" else database,
            autocommit=True,
        )

    def drop(self) -> None:
        self._let_go()
        for number in self.sessions():  # an open transaction of theirs would be waited for
            self.end_session(number)
        self._let_go()
        self.rows(f"DROP DATABASE {self.database}")

    def sessions(self) -> list[int]:
        found = self.ask(
            "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> connection_id()",
            self.database,
        )
        return [int(number) for (number,) in found]

    def end_session(self, number: int) -> None:
        try:
            self.ask(f"KILL {number}")
        except pymysql.MySQLError as error:
            if error.args[0] != 1094:  # it has gone meanwhile
                raise


class PostgresPlace(ServerPlace):
    """A database on PostgreSQL."""

    def connect(self, database: str | None = "") -> Any:
        name = self.database if database == "" else database or "postgres"
        return psycopg.connect(self.address.url(name), autocommit=True)

    def drop(self) -> None:
        self._let_go()
        link = self.connect(None)
        link.execute(f"DROP DATABASE {self.database} WITH (FORCE)")
        link.close()

    def sessions(self) -> list[int]:
        found = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            self.database,
        )
        return [int(number) for (number,) in found]

    def end_session(self, number: int) -> None:
        self.ask("SELECT pg_terminate_backend(%s)", number)


def place_on(address: Address) -> ServerPlace:
    """Make a database on a server."""
    return PostgresPlace(address) if address.kind == "postgresql" else MariadbPlace(address)


class FarPlace:
    """A database that is reached by another port, of a proxy perhaps."""

    def __init__(self, place: ServerPlace, port: int, host: str | None = None) -> None:
        self.url = place.at(port, host)
        self.rows = place.rows

"""The stores in databases keep the shipped promises of `within`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from duetime import Scheduler
from duetime.stores.contract import Store
from duetime.stores.sqlite import SqliteStore
from duetime.testing import WithinSuite
from duetime.testing.promises.sharing import Transaction
from tests.within.callers import Caller


class Shared:
    """A program's transaction as the suite wants it."""

    def __init__(self, one: Caller) -> None:
        self.connection = one.within
        self.commit = one.commit
        self.rollback = one.rollback


class ByHand:
    """A transaction on a connection that begins none by itself."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._run("BEGIN IMMEDIATE")

    def _run(self, statement: str) -> None:
        self.connection.execute(statement)

    def commit(self) -> None:
        self._run("COMMIT")

    def rollback(self) -> None:
        self._run("ROLLBACK")


class TestServers(WithinSuite):
    """MySQL, MariaDB and PostgreSQL."""

    @pytest.fixture
    def store(self, scheduler: Scheduler) -> Store:
        return scheduler.store

    @pytest.fixture
    def begin(self, kind: str, program: Callable[[str], Caller]) -> Callable[[], Transaction]:
        return lambda: Shared(program("psycopg" if kind == "postgresql" else "pymysql"))


class TestSqlite(WithinSuite):
    """SQLite, through either library."""

    @pytest.fixture(params=["apsw", "sqlite3"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(str(tmp_path / "shop.db"), library=request.param)
        store.migrate()
        yield store
        store.close()

    @pytest.fixture
    def begin(
        self, store: SqliteStore, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[], Transaction]]:
        opened: list[Any] = []

        def begin() -> ByHand:
            if "apsw" in request.node.name:
                opened.append(apsw.Connection(store.path))
            else:
                opened.append(sqlite3.connect(store.path, isolation_level=None))
            return ByHand(opened[-1])

        yield begin
        for connection in opened:
            connection.close()

"""A fresh SQLite store, and another program on its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from duetime.errors import DuetimeError
from duetime.stores.sqlite import SqliteStore
from duetime.stores.sqlite.driver import Connection, driver_named


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.db")


@pytest.fixture(params=["apsw", "sqlite3"])
def library(request: pytest.FixtureRequest) -> str:
    """The SQLite library of all stores and connections of a test."""
    return str(request.param)


@pytest.fixture
def store(path: str, library: str) -> Iterator[SqliteStore]:
    store = SqliteStore(path, library=library, busy_timeout=0.05)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def other(store: SqliteStore, path: str, library: str) -> Iterator[Connection]:
    """Another program's connection to the same file, which waits for nobody."""
    other = driver_named(library).connect(path, lambda _: False)
    yield other
    other.close()


def code_of(error: pytest.ExceptionInfo[DuetimeError]) -> str:
    return error.value.code

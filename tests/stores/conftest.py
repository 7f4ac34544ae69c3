"""A fresh SQLite store, and another program on its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from duetime.errors import DuetimeError
from duetime.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "events.db")


@pytest.fixture
def store(path: str) -> Iterator[SqliteStore]:
    store = SqliteStore(path, busy_timeout=0.05)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def other(store: SqliteStore, path: str) -> Iterator[apsw.Connection]:
    """Another program's connection to the same file."""
    other = apsw.Connection(path)
    yield other
    other.close()


def code_of(error: pytest.ExceptionInfo[DuetimeError]) -> str:
    return error.value.code

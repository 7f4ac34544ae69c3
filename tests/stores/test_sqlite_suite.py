"""SQLite is a store, through either library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from duetime.stores.sqlite import SqliteStore
from duetime.testing.store_suite import StoreSuite


class TestSqliteStore(StoreSuite):
    """SQLite keeps every promise."""

    @pytest.fixture
    def store(self, tmp_path: Path, library: str) -> Iterator[SqliteStore]:
        store = SqliteStore(str(tmp_path / "events.db"), library=library)
        store.migrate()
        yield store
        store.close()

"""PostgreSQL is a store."""

from __future__ import annotations

from duetime.testing.store_suite import StoreSuite


class TestPostgresStore(StoreSuite):
    """PostgreSQL keeps every promise."""

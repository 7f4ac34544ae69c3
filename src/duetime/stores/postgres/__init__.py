"""The PostgreSQL store: any number of processes and machines on one server."""

from __future__ import annotations

from duetime.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]

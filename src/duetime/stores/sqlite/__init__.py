"""The embedded store: one SQLite file, shared by any number of processes on one machine."""

from __future__ import annotations

from duetime.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]

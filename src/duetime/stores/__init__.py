"""Where events wait: the contract of a store, and the stores that come with Duetime."""

from __future__ import annotations

from duetime.clock import Clock
from duetime.config import Settings, parse_store
from duetime.stores.contract import Store
from duetime.stores.memory import MemoryStore
from duetime.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "SqliteStore", "open_store"]


def open_store(settings: Settings, clock: Clock | None = None) -> Store:
    """Return the store that the settings name; nothing is opened before its first call.

    Raises ConfigError for a URL or namespace that cannot be.
    """
    url = parse_store(settings.store)
    if url.scheme == "memory":
        return MemoryStore(settings.shards, clock)
    return SqliteStore(
        url.path,
        prefix=f"{settings.namespace}_",
        shards=settings.shards,
        synchronous=settings.synchronous,
        busy_timeout=settings.busy_timeout,
        clock=clock,
    )

"""Where events wait: the contract of a store, and the stores that come with Duetime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duetime.config import Settings, parse_store
from duetime.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from duetime.clock import Clock
    from duetime.store_url import StoreUrl
    from duetime.stores.contract import Store

__all__ = ["open_store"]


def open_store(settings: Settings, clock: Clock | None = None, *, create: bool = False) -> Store:
    """Return the store that the settings name.

    With `create`, an embedded file that has no tables gets them, so that a program can begin
    without a migration; tables of another version are always left to `duetime migrate`. Without
    it, nothing is opened before the first call. A driver is imported only when its store is named.
    Raises ConfigError for a URL or namespace that cannot be, StoreError for a file that cannot.
    """
    url = parse_store(settings.store)
    if url.scheme == "memory":
        from duetime.stores.memory import MemoryStore  # noqa: PLC0415 - only what is named

        return MemoryStore(settings.shards, clock)
    if url.scheme == "mysql":
        return _open_mysql(url, settings, clock)
    if url.scheme == "postgresql":
        return _open_postgres(url, settings, clock)
    from duetime.stores.sqlite import SqliteStore  # noqa: PLC0415 - only what is named

    store = SqliteStore(
        url.path,
        library="sqlite3" if url.scheme == "sqlite+sqlite3" else "apsw",
        prefix=f"{settings.namespace}_",
        shards=settings.shards,
        synchronous=settings.synchronous,
        busy_timeout=settings.busy_timeout,
        clock=clock,
    )
    if create:
        try:
            store.get(["-"])
        except SchemaError as error:
            if error.code != "schema_missing":
                raise
            store.migrate()
    return store


def _open_mysql(url: StoreUrl, settings: Settings, clock: Clock | None) -> Store:
    try:
        from duetime.stores.mysql import MysqlStore  # noqa: PLC0415 - only what is named
    except ModuleNotFoundError as error:
        if error.name != "pymysql":
            raise
        raise ConfigError(
            "MySQL and MariaDB need a driver: pip install 'duetime[mysql]'.",
            code="driver_missing",
            field="store",
        ) from None
    return MysqlStore(url, prefix=f"{settings.namespace}_", shards=settings.shards, clock=clock)


def _open_postgres(url: StoreUrl, settings: Settings, clock: Clock | None) -> Store:
    try:
        from duetime.stores.postgres import PostgresStore  # noqa: PLC0415 - only what is named
    except ImportError as error:  # psycopg itself, or the libpq that it wraps
        if "psycopg" not in str(error) and "libpq" not in str(error):
            raise
        raise ConfigError(
            "PostgreSQL needs a driver: pip install 'duetime[postgres]'.",
            code="driver_missing",
            field="store",
        ) from None
    return PostgresStore(
        url,
        prefix=f"{settings.namespace}_",
        shards=settings.shards,
        clock=clock,
        notify=settings.notify,
    )

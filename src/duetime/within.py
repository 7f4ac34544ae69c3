"""From what a caller calls his transaction to the driver's connection underneath.

SQLAlchemy's objects and Django's are known by their classes where their packages are loaded:
nothing is imported for them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from duetime.stores.rules import unfit

__all__ = ["is_awaited", "through", "unwrap"]

R = TypeVar("R")
_AWAITED = ("asyncpg", "asyncmy", "aiomysql", "aiosqlite")  # their classes may be compiled


def unwrap(within: Any) -> object:
    """Return the driver's connection under a caller's, in whose transaction something is to happen.

    SQLAlchemy begins the transaction that it would begin at a first statement. Raises InvalidInput
    `within_invalid` for what is no connection, is closed, is in a transaction that has failed, or
    must be awaited.
    """
    if within is None:
        raise unfit("None is no connection.")
    if is_awaited(within):
        raise unfit("it must be awaited: use AsyncScheduler, or give its synchronous connection.")
    if _is_a(within, "sqlalchemy.orm", "Session", "scoped_session"):
        within = _told(within.connection)
    if _is_a(within, "sqlalchemy.engine", "Connection"):
        return _under_sqlalchemy(within)
    if _is_a(within, "sqlalchemy.engine", "Transaction"):
        return unwrap(within.connection)
    if _is_a(within, "sqlalchemy.engine", "Engine"):
        raise unfit("an engine has no transaction: give a connection, from engine.begin().")
    if hasattr(within, "dbapi_connection"):  # SQLAlchemy's raw_connection()
        return _alive(within.dbapi_connection)
    if _is_a(within, "django.db.backends.base.base", "BaseDatabaseWrapper") or _is_a(
        within, "django.utils.connection", "ConnectionProxy"
    ):
        return _under_django(within)
    if _is_coroutine(within):
        raise unfit(
            f"a {type(within).__name__} must be awaited: give SQLAlchemy's AsyncConnection or "
            "AsyncSession to an AsyncScheduler."
        )
    return within


def is_awaited(within: object) -> bool:
    """Tell whether it is SQLAlchemy's AsyncConnection or AsyncSession."""
    return _is_a(
        within,
        "sqlalchemy.ext.asyncio",
        "AsyncConnection",
        "AsyncSession",
        "async_scoped_session",
    )


async def through(within: Any, call: Callable[[object], R]) -> R:
    """Return `call(its synchronous side)`, run where that may be used."""
    done: R = await within.run_sync(call)
    return done


def _is_a(thing: object, module: str, *names: str) -> bool:
    loaded = sys.modules.get(module)
    kinds = tuple(filter(None, (getattr(loaded, name, None) for name in names)))
    return isinstance(thing, kinds)


def _told(ask: Callable[[], R]) -> R:
    """Return what a library answers; what it refuses is refused in its own words."""
    try:
        return ask()
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise unfit(f"the connection cannot be used ({text}).") from error


def _alive(connection: object) -> object:
    if connection is None:
        raise unfit("the connection is closed.")
    return connection


def _under_sqlalchemy(connection: Any) -> object:
    if connection.closed:
        raise unfit("the connection is closed: call while its transaction is open.")
    begun = connection.get_nested_transaction() or connection.get_transaction()
    if begun is None:
        # What SQLAlchemy does at the first statement; else its commit() would do nothing.
        _told(connection.begin)
    elif not begun.is_active:
        raise unfit("the transaction has failed or ended: roll it back and begin anew.")
    return _alive(_told(lambda: connection.connection.dbapi_connection))


def _under_django(wrapper: Any) -> object:
    _told(wrapper.ensure_connection)
    if wrapper.needs_rollback:
        raise unfit("the atomic block has failed and will be rolled back: leave it first.")
    if not wrapper.in_atomic_block and wrapper.get_autocommit():
        raise unfit("no transaction is open: call inside `with transaction.atomic():`.")
    return _alive(wrapper.connection)


def _is_coroutine(connection: object) -> bool:
    package = type(connection).__module__.partition(".")[0]
    commit = getattr(connection, "commit", None)
    return package in _AWAITED or inspect.iscoroutinefunction(commit)

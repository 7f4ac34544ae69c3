"""Programs that share their transaction: each driver and library in the way its users write it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg2
import pymysql
import sqlalchemy
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from duetime import AsyncScheduler, Scheduler
from tests.servers.local import Address

__all__ = ["KINDS", "WAYS", "Caller", "Django", "Plain", "alchemy_url", "caller", "login"]


class Caller(ABC):
    """One transaction at a time of somebody's, and calls of Duetime within it."""

    within: Any

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def call(self, name: str, *args: Any, **words: Any) -> Any:
        return getattr(self.scheduler, name)(*args, **words, within=self.within)

    def schedule(self, *args: Any, **words: Any) -> Any:
        return self.call("schedule", *args, **words)

    @abstractmethod
    def execute(self, statement: str) -> None: ...

    @abstractmethod
    def commit(self) -> None: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def savepoint(self) -> Callable[[], None]:
        """Set a savepoint; return how to go back to it."""
        self.execute("SAVEPOINT mine")
        return lambda: self.execute("ROLLBACK TO SAVEPOINT mine")


class Plain(Caller):
    """A connection of a driver, as PEP 249 has it."""

    def __init__(self, scheduler: Scheduler, connection: Any) -> None:
        super().__init__(scheduler)
        self.within = connection

    def execute(self, statement: str) -> None:
        self.within.cursor().execute(statement)

    def commit(self) -> None:
        self.within.commit()

    def rollback(self) -> None:
        self.within.rollback()

    def close(self) -> None:
        self.within.close()


class Alchemy(Caller):
    """SQLAlchemy's Connection, or its Session."""

    def __init__(self, scheduler: Scheduler, url: URL, *, orm: bool) -> None:
        super().__init__(scheduler)
        self.engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        self.within = Session(self.engine) if orm else self.engine.connect()

    def execute(self, statement: str) -> None:
        self.within.execute(sqlalchemy.text(statement))

    def commit(self) -> None:
        self.within.commit()

    def rollback(self) -> None:
        self.within.rollback()

    def savepoint(self) -> Callable[[], None]:
        back: Callable[[], None] = self.within.begin_nested().rollback
        return back

    def close(self) -> None:
        self.within.close()
        self.engine.dispose()


class AsyncAlchemy(Caller):
    """SQLAlchemy's AsyncConnection or AsyncSession, on a loop of its own."""

    within: AsyncConnection | AsyncSession

    def __init__(self, scheduler: Scheduler, url: URL, *, orm: bool) -> None:
        super().__init__(scheduler)
        self._loop = asyncio.new_event_loop()
        self.engine = create_async_engine(url, poolclass=sqlalchemy.NullPool)
        self.door = AsyncScheduler(scheduler.store, settings=scheduler.settings)

        async def connect() -> AsyncConnection:
            return await self.engine.connect()

        self.within = AsyncSession(self.engine) if orm else self._run(connect())

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    def call(self, name: str, *args: Any, **words: Any) -> Any:
        return self._run(getattr(self.door, name)(*args, **words, within=self.within))

    def execute(self, statement: str) -> None:
        self._run(self.within.execute(sqlalchemy.text(statement)))

    def commit(self) -> None:
        self._run(self.within.commit())

    def rollback(self) -> None:
        self._run(self.within.rollback())

    def savepoint(self) -> Callable[[], None]:
        async def begin() -> Any:
            return await self.within.begin_nested()

        nested = self._run(begin())
        return lambda: self._run(nested.rollback())

    def close(self) -> None:
        self._run(self.within.close())
        self._run(self.engine.dispose())
        self.door._executor.shutdown()  # the store is the scheduler's, and stays open
        self._loop.close()


class Django(Caller):
    """Django's connection, in atomic blocks."""

    def __init__(self, scheduler: Scheduler, alias: str) -> None:
        super().__init__(scheduler)
        from django.db import connections

        self.alias = alias
        self.within = connections[alias]
        self.enter()

    def enter(self) -> None:
        from django.db import transaction

        self._block = transaction.atomic(using=self.alias)
        self._block.__enter__()

    def execute(self, statement: str) -> None:
        with self.within.cursor() as cursor:
            cursor.execute(statement)

    def leave(self) -> None:
        self._block.__exit__(None, None, None)

    def commit(self) -> None:
        self.leave()
        self.enter()

    def rollback(self) -> None:
        error = RuntimeError("roll back")
        self._block.__exit__(RuntimeError, error, None)
        self.enter()

    def savepoint(self) -> Callable[[], None]:
        from django.db import transaction

        name = transaction.savepoint(using=self.alias)
        return lambda: transaction.savepoint_rollback(name, using=self.alias)

    def close(self) -> None:
        self._block.__exit__(RuntimeError, RuntimeError("over"), None)
        self.within.close()


def login(address: Address, database: str) -> dict[str, Any]:
    """Return what a driver needs to get into a database."""
    name = "dbname" if address.kind == "postgresql" else "database"
    return {"host": address.host, "port": address.port, "user": address.user, name: database}


def alchemy_url(address: Address, database: str, driver: str) -> URL:
    return URL.create(
        driver, address.user, address.password or None, address.host, address.port, database
    )


def _django(scheduler: Scheduler, address: Address, database: str) -> Caller:
    import django
    from django.conf import settings

    pymysql.install_as_MySQLdb()  # what Django's users do who have PyMySQL
    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    from django.db import connections

    alias = address.kind
    engine = "postgresql" if alias == "postgresql" else "mysql"
    connections.databases[alias] = connections.configure_settings(
        {
            "default": {
                "ENGINE": f"django.db.backends.{engine}",
                "NAME": database,
                "USER": address.user,
                "PASSWORD": address.password,
                "HOST": address.host,
                "PORT": str(address.port),
            }
        }
    )["default"]
    return Django(scheduler, alias)


def _pymysql(scheduler: Scheduler, address: Address, database: str) -> Caller:
    return Plain(scheduler, pymysql.connect(**login(address, database)))


def _psycopg(scheduler: Scheduler, address: Address, database: str) -> Caller:
    return Plain(scheduler, psycopg.connect(**login(address, database)))


def _psycopg2(scheduler: Scheduler, address: Address, database: str) -> Caller:
    return Plain(scheduler, psycopg2.connect(**login(address, database)))


def _alchemy(driver: str, *, orm: bool = False) -> Callable[[Scheduler, Address, str], Caller]:
    return lambda scheduler, address, database: Alchemy(
        scheduler, alchemy_url(address, database, driver), orm=orm
    )


def _awaited(driver: str, *, orm: bool = False) -> Callable[[Scheduler, Address, str], Caller]:
    return lambda scheduler, address, database: AsyncAlchemy(
        scheduler, alchemy_url(address, database, driver), orm=orm
    )


Make = Callable[[Scheduler, Address, str], Caller]
_ON_MYSQL: dict[str, Make] = {
    "pymysql": _pymysql,
    "alchemy": _alchemy("mysql+pymysql"),
    "session": _alchemy("mysql+pymysql", orm=True),
    "asyncmy": _awaited("mysql+asyncmy"),
    "asyncmy-session": _awaited("mysql+asyncmy", orm=True),
    "django": _django,
}
_ON_POSTGRES: dict[str, Make] = {
    "psycopg": _psycopg,
    "psycopg2": _psycopg2,
    "alchemy": _alchemy("postgresql+psycopg"),
    "alchemy-psycopg2": _alchemy("postgresql+psycopg2"),
    "session": _alchemy("postgresql+psycopg", orm=True),
    "asyncpg": _awaited("postgresql+asyncpg"),
    "asyncpg-session": _awaited("postgresql+asyncpg", orm=True),
    "django": _django,
}
WAYS = {"mariadb": _ON_MYSQL, "mysql": _ON_MYSQL, "postgresql": _ON_POSTGRES}
KINDS = tuple(WAYS)


def caller(way: str, scheduler: Scheduler, address: Address, database: str) -> Caller:
    """Return a program that uses a database in this way."""
    return WAYS[address.kind][way](scheduler, address, database)

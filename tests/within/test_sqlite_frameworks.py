"""Transactions of SQLAlchemy, aiosqlite and Django on the SQLite file of a scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from duetime import AsyncScheduler, InvalidInput, Scheduler, StoreUnavailable


class Undone(Exception):
    """Raised to roll back."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "shop.db")


@pytest.fixture
def scheduler(path: str) -> Iterator[Scheduler]:
    with Scheduler(f"sqlite+sqlite3:///{path}") as scheduler:
        scheduler.get("-")
        yield scheduler


def as_it_comes(engine: Engine) -> None:
    """Leave an engine as SQLAlchemy makes it: the driver begins at the first change."""


def immediate(engine: Engine) -> None:
    """Let every transaction begin with the write lock, as docs/transactions.md advises."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


SETTINGS = pytest.mark.parametrize("setting", [as_it_comes, immediate])


@SETTINGS
def test_sqlalchemy(path: str, scheduler: Scheduler, setting: Callable[[Engine], None]) -> None:
    """An order and its expiry are there together after a commit, and neither after a rollback."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    setting(engine)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE orders(id INTEGER)"))
    with engine.begin() as tx:
        tx.execute(text("INSERT INTO orders VALUES (1)"))
        first = scheduler.schedule("expire", 1, after=900, within=tx)
        assert scheduler.get(first.id) is None
    with suppress(Undone), engine.begin() as tx:
        tx.execute(text("INSERT INTO orders VALUES (2)"))
        second = scheduler.schedule("expire", 2, after=900, within=tx)
        assert scheduler.cancel(first.id, within=tx) == "cancelled"
        raise Undone
    with Session(engine) as session:
        assert session.execute(text("SELECT count(*) FROM orders")).scalar() == 1
    assert scheduler.get(first.id) is not None
    assert scheduler.get(second.id) is None


@SETTINGS
def test_a_session_that_changes_nothing_else(
    path: str, scheduler: Scheduler, setting: Callable[[Engine], None]
) -> None:
    """A transaction in which only events are changed is the caller's all the same."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    setting(engine)
    with Session(engine) as session:
        event = scheduler.schedule("expire", 1, after=900, id="a", within=session)
        session.rollback()
        assert scheduler.get("a") is None
        scheduler.schedule("expire", 1, after=900, id="a", within=session)
        assert scheduler.get("a") is None
        session.commit()
        assert scheduler.get("a") is not None
        assert scheduler.reschedule("a", after=5, within=session) == "rescheduled"
        session.commit()
    moved = scheduler.get("a")
    assert moved is not None
    assert moved.due_at < event.due_at


def test_a_savepoint_of_sqlalchemy(path: str, scheduler: Scheduler) -> None:
    """What is scheduled in a nested transaction goes with it, and the rest stays."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    immediate(engine)
    with engine.begin() as tx:
        scheduler.schedule("expire", id="kept", after=900, within=tx)
        with suppress(Undone), tx.begin_nested():
            scheduler.schedule("expire", id="gone", after=900, within=tx)
            raise Undone
        with tx.begin_nested():
            scheduler.schedule("expire", id="nested", after=900, within=tx)
    found = [scheduler.get(one) is not None for one in ("kept", "gone", "nested")]
    assert found == [True, False, True]


def test_a_transaction_that_was_overtaken(path: str, scheduler: Scheduler) -> None:
    """One that has read, and was then overtaken by another writer, is told how to begin instead."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.begin() as tx:
        tx.exec_driver_sql("BEGIN")
        tx.execute(text("SELECT count(*) FROM duetime_events")).scalar()
        scheduler.schedule("expire", id="overtaker", after=900)
        with pytest.raises(StoreUnavailable, match="BEGIN IMMEDIATE") as error:
            scheduler.schedule("expire", id="late", after=900, within=tx)
        assert error.value.code == "store_busy"
    immediate(engine)
    with engine.begin() as tx:
        tx.execute(text("SELECT count(*) FROM duetime_events")).scalar()
        scheduler.schedule("expire", id="late", after=900, within=tx)
    assert scheduler.get("late") is not None


async def in_connection(engine: AsyncEngine, work: Callable[[Any], Awaitable[None]]) -> None:
    connection: AsyncConnection
    async with engine.begin() as connection:
        await work(connection)


async def in_session(engine: AsyncEngine, work: Callable[[Any], Awaitable[None]]) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await work(session)


@SETTINGS
@pytest.mark.parametrize("inside", [in_connection, in_session])
def test_sqlalchemy_with_aiosqlite(
    path: str,
    setting: Callable[[Engine], None],
    inside: Callable[[AsyncEngine, Callable[[Any], Awaitable[None]]], Awaitable[None]],
) -> None:
    """An awaited transaction of SQLAlchemy is shared by an AsyncScheduler."""

    async def work() -> list[bool]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=NullPool)
        setting(engine.sync_engine)
        async with AsyncScheduler(f"sqlite+sqlite3:///{path}") as scheduler:
            await scheduler.get("-")

            async def kept(within: Any) -> None:
                await scheduler.schedule("expire", id="kept", after=900, within=within)
                again = await scheduler.schedule("expire", id="kept", after=900, within=within)
                assert not again.created
                assert await scheduler.get("kept") is None

            async def gone(within: Any) -> None:
                await scheduler.schedule("expire", id="gone", after=900, within=within)
                assert await scheduler.cancel("kept", within=within) == "cancelled"
                raise Undone

            await inside(engine, kept)
            with suppress(Undone):
                await inside(engine, gone)
            await engine.dispose()
            return [await scheduler.get(one) is not None for one in ("kept", "gone")]

    assert asyncio.run(work()) == [True, False]


@pytest.fixture
def django(path: str) -> Iterator[BaseDatabaseWrapper]:
    """Django's connection to the file."""
    from django import setup
    from django.conf import settings

    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        setup()
    from django.db import connections

    database = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}}
    connections.databases["sqlite"] = connections.configure_settings(database)["default"]
    yield connections["sqlite"]
    connections["sqlite"].close()
    del connections["sqlite"]


def test_django(scheduler: Scheduler, django: BaseDatabaseWrapper) -> None:
    """An atomic block of Django keeps or loses the order and its expiry together."""
    with django.cursor() as cursor:
        cursor.execute("CREATE TABLE orders(id INTEGER)")
    with transaction.atomic(using="sqlite"):
        with django.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (1)")
        scheduler.schedule("expire", id="kept", after=900, within=django)
        with suppress(Undone), transaction.atomic(using="sqlite"):
            scheduler.schedule("expire", id="nested", after=900, within=django)
            raise Undone
        assert scheduler.get("kept") is None
    with suppress(Undone), transaction.atomic(using="sqlite"):
        scheduler.schedule("expire", id="gone", after=900, within=django)
        raise Undone
    found = [scheduler.get(one) is not None for one in ("kept", "nested", "gone")]
    assert found == [True, False, False]
    with pytest.raises(InvalidInput, match="atomic"):
        scheduler.schedule("expire", after=900, within=django)

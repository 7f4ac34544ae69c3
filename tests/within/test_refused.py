"""A connection that cannot be shared is refused with what to do, and harmed in no way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import psycopg2
import pymysql
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from duetime import DuetimeError, InvalidInput, Scheduler, SchemaError
from tests.within.callers import Caller, Django, alchemy_url, login
from tests.within.conftest import Database

LATER = datetime(2040, 1, 1, tzinfo=UTC)
ONLY = {
    "test_a_failed_transaction_is_refused": ("postgresql",),
    "test_a_failed_statement_changes_nothing": ("mariadb", "mysql"),
}
Start = Callable[[str], Caller]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as caught:
        call()
    assert (caught.value.code, caught.value.field) == ("within_invalid", "within")
    return str(caught.value)


def plain(place: Database, /, **words: Any) -> Any:
    words = {**login(place.address, place.name), **words}
    return (psycopg if place.address.kind == "postgresql" else pymysql).connect(**words)


@pytest.fixture
def autocommit(kind: str, database: Database, scheduler: Scheduler) -> Iterator[list[Any]]:
    """Connections of all sorts whose every statement commits."""
    drivers = ["pymysql"] if kind != "postgresql" else ["psycopg", "psycopg2"]
    bases = {"pymysql": "mysql+pymysql"} | {name: f"postgresql+{name}" for name in drivers[:2]}
    bases["pymysql"] = "mysql+pymysql"
    found = [plain(database, autocommit=True)]
    if kind == "postgresql":
        found.append(psycopg2.connect(**login(database.address, database.name)))
        found[-1].autocommit = True
    engines = []
    for driver in drivers:
        url = alchemy_url(database.address, database.name, bases[driver])
        engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        engines.append(engine)
        found.append(engine.connect())
    yield found
    for connection in found:
        connection.close()
    for engine in engines:
        engine.dispose()


def test_autocommit_is_refused(autocommit: list[Any], scheduler: Scheduler) -> None:
    """Where nothing could be rolled back nothing is scheduled, cancelled or moved."""
    event = scheduler.schedule("a", at=LATER)
    for connection in autocommit:
        for call in (
            partial(scheduler.schedule, "a"),
            partial(scheduler.schedule, "a", id="x"),
            partial(scheduler.cancel, event.id),
            partial(scheduler.fire_now, event.id),
        ):
            assert "autocommit" in refusal(partial(call, within=connection))
    assert [each.id for each in scheduler.find()] == [event.id]


def test_a_transaction_begun_by_hand_is_shared(autocommit: list[Any], scheduler: Scheduler) -> None:
    """In autocommit mode, what stands between BEGIN and COMMIT is a transaction all the same."""
    connection = autocommit[0]
    cursor = connection.cursor()
    cursor.execute("BEGIN")
    event = scheduler.schedule("a", at=LATER, id="order-1", within=connection)
    assert scheduler.get(event.id) is None
    cursor.execute("COMMIT")
    assert scheduler.get(event.id) is not None


def test_django_without_a_block_is_refused(program: Start, scheduler: Scheduler) -> None:
    """Outside an atomic block Django commits each statement, so it is refused, with advice."""
    from django.db import transaction

    one = program("django")
    assert isinstance(one, Django)
    one.commit()
    one.leave()
    assert "atomic()" in refusal(lambda: one.schedule("a"))
    with transaction.atomic(using=one.alias):
        one.schedule("a", at=LATER)
        transaction.set_rollback(True, using=one.alias)  # as an inner block does that failed
        assert "failed" in refusal(lambda: one.schedule("a"))
    assert scheduler.find() == []
    one.enter()


def test_a_closed_connection_is_refused(
    database: Database, program: Start, scheduler: Scheduler
) -> None:
    """A connection that was closed, or whose session ended on the server, is refused."""
    connection = plain(database)
    connection.close()
    refusal(lambda: scheduler.schedule("a", within=connection))
    engine = sqlalchemy.create_engine(
        alchemy_url(
            database.address,
            database.name,
            "postgresql+psycopg" if database.address.kind == "postgresql" else "mysql+pymysql",
        )
    )
    lent = engine.connect()
    lent.close()
    assert "closed" in refusal(lambda: scheduler.schedule("a", within=lent))
    engine.dispose()


def test_a_broken_connection_is_told(database: Database, kind: str, scheduler: Scheduler) -> None:
    """When the server has ended the session, the error says that the transaction is gone."""
    connection = plain(database)
    cursor = connection.cursor()
    if kind == "postgresql":
        cursor.execute("SELECT pg_backend_pid()")
        database(f"SELECT pg_terminate_backend({cursor.fetchone()[0]})")
    else:
        cursor.execute("SELECT CONNECTION_ID()")
        database(f"KILL {cursor.fetchone()[0]}")
    with pytest.raises(DuetimeError) as caught:
        scheduler.schedule("a", within=connection)
    assert caught.value.code in ("within_invalid", "store_unavailable")
    assert scheduler.find() == []
    connection.close()


def test_a_failed_transaction_is_refused(way: str, program: Start, scheduler: Scheduler) -> None:
    """Where a statement has failed PostgreSQL takes no more: the advice is to roll back."""
    one = program(way)
    with pytest.raises(Exception, match="nonsense"):
        one.execute("SELECT nonsense")
    assert "roll" in refusal(partial(one.schedule, "a"))
    one.rollback()
    one.schedule("a", at=LATER)
    one.commit()
    assert len(scheduler.find()) == 1


def test_a_failed_statement_changes_nothing(way: str, program: Start, scheduler: Scheduler) -> None:
    """On MySQL a transaction goes on after a failed statement, and so do we."""
    one = program(way)
    with pytest.raises(Exception, match="nonsense"):
        one.execute("SELECT nonsense")
    one.schedule("a", at=LATER)
    one.commit()
    assert len(scheduler.find()) == 1


def test_a_read_only_transaction_is_refused(program: Start, kind: str) -> None:
    """A transaction that may not write is refused, and goes on."""
    one = program("psycopg" if kind == "postgresql" else "pymysql")
    begin = "SET TRANSACTION READ ONLY" if kind == "postgresql" else "START TRANSACTION READ ONLY"
    one.execute(begin)
    assert "read-only" in refusal(lambda: one.schedule("a"))
    assert "read-only" in refusal(lambda: one.schedule("a", id="x"))
    one.execute("SELECT 1")


def test_another_kind_of_database_is_refused(scheduler: Scheduler, kind: str) -> None:
    """A connection to another kind of database than the store's is refused, by name."""
    with closing(sqlite3.connect(":memory:")) as connection:
        told = refusal(lambda: scheduler.schedule("a", within=connection))
    assert "SQLite" in told
    assert ("PostgreSQL" if kind == "postgresql" else "MySQL") in told


def test_another_database_is_refused(scheduler: Scheduler, database: Database, kind: str) -> None:
    """On PostgreSQL another database is refused; on MySQL tables of another one are reached."""
    other = "postgres" if kind == "postgresql" else "mysql"
    words = {"dbname": other} if kind == "postgresql" else {"database": other}
    with closing(plain(database, **words)) as connection:
        if kind == "postgresql":
            assert other in refusal(lambda: scheduler.schedule("a", within=connection))
        event = None
        if kind != "postgresql":
            event = scheduler.schedule("a", at=LATER, id="x", within=connection)
        connection.commit()
    assert event is None or scheduler.get(event.id) is not None


def test_a_search_path_of_ones_own_does_not_matter(
    scheduler: Scheduler, program: Start, kind: str
) -> None:
    """The tables are found wherever the caller's statements look by default."""
    one = program("psycopg" if kind == "postgresql" else "pymysql")
    one.execute("SET search_path = pg_catalog" if kind == "postgresql" else "USE mysql")
    event = one.schedule("a", at=LATER, id="x")
    assert one.call("reschedule", event.id) == "rescheduled"
    assert one.call("cancel", event.id) == "cancelled"
    one.commit()


def test_missing_tables_are_a_schema_error(database: Database, program: Start) -> None:
    """Where the tables of the store are gone the caller is told, and can go on."""
    with Scheduler(database.url, namespace="other") as other:
        other.store.migrate()
        other.schedule("a", at=LATER)
        one = program("psycopg" if database.address.kind == "postgresql" else "pymysql")
        one.scheduler = other
        one.schedule("a", at=LATER)
        one.rollback()
        for table in ("version", "events", "names", "dead", "nodes", "meta"):
            database(f"DROP TABLE other_{table}")
        one.execute("INSERT INTO orders VALUES (7)")
        with pytest.raises(SchemaError):
            one.schedule("a", at=LATER)
        one.commit()
        assert database("SELECT number FROM orders") == [(7,)]


def test_what_is_no_connection_is_refused(scheduler: Scheduler, database: Database) -> None:
    """An engine, an awaitable connection given to the blocking door, and anything else."""
    is_postgres = database.address.kind == "postgresql"
    driver = "postgresql+asyncpg" if is_postgres else "mysql+asyncmy"
    engine = create_async_engine(alchemy_url(database.address, database.name, driver))
    assert "AsyncScheduler" in refusal(lambda: scheduler.schedule("a", within=engine.connect()))
    assert "engine" in refusal(lambda: scheduler.schedule("a", within=engine.sync_engine))
    assert "no connection" in refusal(lambda: scheduler.schedule("a", within="tx"))
    assert "no connection" in refusal(lambda: scheduler.schedule("a", within=object()))


def test_a_memory_store_refuses() -> None:
    """A store in memory has no transaction, and says what has."""
    with Scheduler("memory://") as scheduler, closing(sqlite3.connect(":memory:")) as connection:
        assert "sqlite" in refusal(lambda: scheduler.schedule("a", within=connection))

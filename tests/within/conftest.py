"""A database for each worker and server, a scheduler on it, and programs that share theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest

from duetime import Scheduler
from duetime.config import Settings
from tests.servers.local import Address
from tests.servers.plugin import server_address, wanted
from tests.within.callers import WAYS, Caller, caller

_NODE = {"lease": 2.0, "margin": 0.5, "beat": 0.2}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every server that is wanted, and in every way where it names one."""
    if "kind" not in metafunc.fixturenames:
        return
    only: dict[str, tuple[str, ...]] = getattr(metafunc.module, "ONLY", {})
    able = only.get(metafunc.function.__name__, tuple(WAYS))
    kinds = [kind for kind in able if kind in wanted()] or able[:1]
    if "way" in metafunc.fixturenames:
        pairs = [(kind, way) for kind in kinds for way in WAYS[kind]]
        metafunc.parametrize(("kind", "way"), pairs)
    else:
        metafunc.parametrize("kind", kinds)


class Database:
    """A database of one server, and a way in that belongs to nobody's program."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self.url = address.url(name)
        _run(address, "", f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        self.connection = _connect(address, name)
        with Scheduler(self.url) as scheduler:
            scheduler.store.migrate()

    def __call__(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        self.connection.close()
        _run(self.address, "", f"DROP DATABASE IF EXISTS {self.name}")


def _connect(address: Address, database: str) -> Any:
    login: dict[str, Any] = {"host": address.host, "port": address.port, "user": address.user}
    if address.kind == "postgresql":
        return psycopg.connect(**login, dbname=database or "postgres", autocommit=True)
    return pymysql.connect(
        **login, password=address.password, database=database or None, autocommit=True
    )


def _run(address: Address, database: str, *statements: str) -> None:
    connection = _connect(address, database)
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


@pytest.fixture(scope="session")
def databases(worker_id: str) -> Iterator[Callable[[str], Database]]:
    made: dict[str, Database] = {}

    def get(kind: str) -> Database:
        if kind not in made:
            made[kind] = Database(server_address(kind), f"within_{worker_id}")
            made[kind]("CREATE TABLE orders(number INT PRIMARY KEY)")
        return made[kind]

    yield get
    for database in made.values():
        database.close()


@pytest.fixture
def database(kind: str, databases: Callable[[str], Database]) -> Database:
    """The database of the server that this round of a test is about, without events."""
    found = databases(kind)
    for table in ("duetime_events", "duetime_names", "duetime_dead", "duetime_nodes", "orders"):
        found(f"DELETE FROM {table}")
    return found


@pytest.fixture
def scheduler(database: Database) -> Iterator[Scheduler]:
    with Scheduler(database.url, settings=Settings(store=database.url)) as scheduler:
        yield scheduler


@pytest.fixture
def program(scheduler: Scheduler, database: Database) -> Iterator[Callable[[str], Caller]]:
    """Return how to start a program that uses the database in a way."""
    started: list[Caller] = []

    def start(way: str) -> Caller:
        started.append(caller(way, scheduler, database.address, database.name))
        return started[-1]

    yield start
    for one in started:
        one.close()

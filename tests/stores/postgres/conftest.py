"""A PostgreSQL database for each worker, with tables that are emptied between tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from duetime.errors import DuetimeError
from duetime.stores.postgres import PostgresStore
from tests.servers.local import Address

PREFIX = "duetime_"
TABLES = ("events", "names", "dead", "nodes", "meta")
Link = psycopg.Connection[tuple[Any, ...]]


class Admin:
    """A connection with all rights to a database, and how to make more."""

    def __init__(self, address: Address, database: str) -> None:
        self.address = address
        self.database = database
        self.url = address.url(database)
        self._link = self.connect()

    def connect(self, **options: Any) -> Link:
        return psycopg.connect(self.url, **{"autocommit": True, **options})

    def __call__(self, statement: str) -> list[tuple[Any, ...]]:
        cursor = self._link.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._link.close()


def made(address: Address, database: str, options: str = "") -> Admin:
    """Make an empty database."""
    with psycopg.connect(address.url("postgres"), autocommit=True) as link:
        link.execute(f"CREATE DATABASE {database} TEMPLATE template0 {options}".encode())
    return Admin(address, database)


def dropped(admin: Admin) -> None:
    admin.close()
    with psycopg.connect(admin.address.url("postgres"), autocommit=True) as link:
        link.execute(f"DROP DATABASE {admin.database} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def admin(postgresql: Address, worker_id: str) -> Iterator[Admin]:
    """Make this worker's database, with the tables that most tests share."""
    admin = made(postgresql, f"duetime_{worker_id}")
    for prefix, shards in ((PREFIX, 32), ("few_", 3)):
        store = PostgresStore(admin.url, prefix=prefix, shards=shards)
        store.migrate()
        store.close()
    yield admin
    admin.close()


@pytest.fixture
def bare(postgresql: Address, worker_id: str) -> Iterator[Admin]:
    """Make a database without tables, for one test."""
    admin = made(postgresql, f"bare_{worker_id}")
    yield admin
    dropped(admin)


@pytest.fixture
def make(admin: Admin) -> Iterator[Callable[..., PostgresStore]]:
    """Return a function that opens another store on empty tables."""
    empty(admin)
    opened: list[PostgresStore] = []

    def make(url: str = admin.url, **options: Any) -> PostgresStore:
        opened.append(PostgresStore(url, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def humble(admin: Admin, worker_id: str) -> str:
    """Return the URL for a role that may read and write our tables and no more."""
    role = f"humble_{worker_id}"
    tables = [prefix + table for prefix in (PREFIX, "few_") for table in TABLES]
    admin(f"CREATE ROLE {role} LOGIN")
    admin(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(tables)} TO {role}")
    admin(f"GRANT SELECT ON {PREFIX}version, few_version TO {role}")
    return admin.address._replace(user=role).url(admin.database)


@pytest.fixture
def store(make: Callable[..., PostgresStore]) -> PostgresStore:
    """Return a store on empty tables."""
    return make()


def empty(admin: Admin, prefix: str = PREFIX) -> None:
    parts = [f"DELETE FROM {prefix}{table};" for table in ("events", "names", "dead", "nodes")]
    admin("".join([*parts, f"UPDATE {prefix}meta SET value = 0 WHERE name = 'issued'"]))


def code_of(error: pytest.ExceptionInfo[DuetimeError]) -> str:
    return error.value.code

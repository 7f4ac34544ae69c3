"""A MariaDB database for each worker, with tables that are emptied between tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest

from duetime.store_url import parse_store
from duetime.stores.mysql import MysqlStore
from tests.servers.local import Address

PREFIX = "duetime_"


class Admin:
    """A connection with all rights, and how to make more."""

    def __init__(self, address: Address, database: str) -> None:
        self.address = address
        self.database = database
        self.url = address.url(database)
        self._connection = self.connect()

    def connect(self, **options: Any) -> Any:
        given = {"host": self.address.host, "port": self.address.port, "user": self.address.user}
        return pymysql.connect(
            **{**given, "database": self.database, "autocommit": True, **options}
        )

    def __call__(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def admin(mariadb: Address, worker_id: str) -> Iterator[Admin]:
    """Make this worker's database."""
    database = f"duetime_{worker_id}"
    given = {"host": mariadb.host, "port": mariadb.port, "user": mariadb.user}
    with pymysql.connect(**given, autocommit=True) as connection:
        connection.cursor().execute(f"CREATE DATABASE {database}")
    admin = Admin(mariadb, database)
    yield admin
    admin.close()


@pytest.fixture(scope="session")
def tables(admin: Admin) -> None:
    """Make the tables that most tests share."""
    store = MysqlStore(admin.url, prefix=PREFIX)
    store.migrate()
    store.close()


@pytest.fixture
def make(admin: Admin, tables: None) -> Iterator[Callable[..., MysqlStore]]:
    """Return a function that opens another store on empty tables."""
    empty(admin)
    made: list[MysqlStore] = []

    def make(url: str = admin.url, **options: Any) -> MysqlStore:
        made.append(MysqlStore(parse_store(url), prefix=PREFIX, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[..., MysqlStore]) -> MysqlStore:
    """Return a store on empty tables."""
    return make()


@pytest.fixture(scope="session")
def few_shards(admin: Admin) -> Admin:
    """Make tables of three shards, where calls meet more often."""
    store = MysqlStore(admin.url, prefix="few_", shards=3)
    store.migrate()
    store.close()
    return admin


@pytest.fixture(scope="session")
def humble(admin: Admin) -> str:
    """Make a user with the least rights; return the store's URL for it."""
    user = f"humble_{admin.database}"
    admin(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'p'")
    admin(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {admin.database}.* TO '{user}'@'%'")
    return admin.address._replace(user=f"{user}:p").url(admin.database)


def empty(admin: Admin, prefix: str = PREFIX) -> None:
    for table in ("events", "names", "dead", "nodes"):
        admin(f"DELETE FROM {prefix}{table}")
    admin(f"UPDATE {prefix}meta SET value = 0 WHERE name = 'issued'")

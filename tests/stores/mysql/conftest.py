"""A database for each worker, with tables that are emptied between tests.

Each test here runs on MariaDB, on MySQL, or on both, as DUETIME_TEST_STORES says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor

from duetime.store_url import parse_store
from duetime.stores.mysql import MysqlStore
from tests.servers.local import Address
from tests.servers.plugin import server_address, wanted

PREFIX = "duetime_"
KINDS = ("mariadb", "mysql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once for each server that is wanted; with none, pytest leaves it out."""
    if "server_kind" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if kind in wanted()] or ["mariadb"]
        metafunc.parametrize("server_kind", kinds, scope="session")


class Admin:
    """A connection with all rights, and how to make more."""

    def __init__(self, address: Address, database: str) -> None:
        self.address = address
        self.database = database
        self.url = address.url(database)
        self._connection = self.connect()

    def connect(self, **options: Any) -> Any:
        to = {"database": self.database, "autocommit": True}
        return pymysql.connect(**{**login(self.address), **to, **options})

    def __call__(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def plan(self, statement: str) -> list[dict[str, Any]]:
        """Return how the server would find rows: one entry for each table."""
        with self._connection.cursor(DictCursor) as cursor:
            cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {statement}")
            return list(cursor.fetchall())

    def lock_waits(self) -> int:
        """Return how many transactions wait for a row lock."""
        place = {
            "mariadb": "information_schema.INNODB_LOCK_WAITS",
            "mysql": "performance_schema.data_lock_waits",
        }[self.address.kind]
        return len(self(f"SELECT 1 FROM {place}"))

    def close(self) -> None:
        self._connection.close()


def login(address: Address) -> dict[str, Any]:
    """Return what a driver needs to get in."""
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password,
    }


@pytest.fixture(scope="session")
def address(server_kind: str) -> Address:
    """Return where the server is that this round of tests is about."""
    return server_address(server_kind)


@pytest.fixture(scope="session")
def admin(address: Address, worker_id: str) -> Iterator[Admin]:
    """Make this worker's database, anew if a run that was killed has left it."""
    database = f"duetime_{worker_id}"
    with pymysql.connect(**login(address), autocommit=True) as connection:
        connection.cursor().execute(f"DROP DATABASE IF EXISTS {database}")
        connection.cursor().execute(f"CREATE DATABASE {database}")
    admin = Admin(address, database)
    yield admin
    with suppress(pymysql.MySQLError):  # a given server shall look as before
        admin(f"DROP DATABASE {database}")
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
def humble(admin: Admin) -> Iterator[str]:
    """Make a user with the least rights; give the store's URL for it."""
    user = f"humble_{admin.database}"
    admin(f"DROP USER IF EXISTS '{user}'@'%'")
    admin(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'p'")
    admin(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {admin.database}.* TO '{user}'@'%'")
    yield admin.address._replace(user=user, password="p").url(admin.database)
    admin(f"DROP USER '{user}'@'%'")


def empty(admin: Admin, prefix: str = PREFIX) -> None:
    for table in ("events", "names", "dead", "nodes"):
        admin(f"DELETE FROM {prefix}{table}")
    admin(f"UPDATE {prefix}meta SET value = 0 WHERE name = 'issued'")

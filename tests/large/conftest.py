"""Five million events on a server of each kind, filled in by the server itself.

Each server is one of its own: it has room for them, and need not flush what a test throws away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import pymysql
import pytest

from duetime.stores.contract import Store
from duetime.stores.mysql import MysqlStore
from duetime.stores.postgres import PostgresStore
from duetime.testing.promises.given import T
from tests.large.reading import pg_watching
from tests.servers.local import Address, running
from tests.servers.plugin import wanted
from tests.stores.mysql.watching import watching

EVENTS, SHARDS, STEP = 5_000_000, 32, 1000  # STEP: µs between two due times of a shard
EACH = EVENTS // SHARDS
KINDS = ("mariadb", "mysql", "postgresql")
OPTIONS = {
    "mariadb": ("--innodb-buffer-pool-size=1G", "--innodb-flush-log-at-trx-commit=2"),
    "mysql": (
        *("--innodb-buffer-pool-size=1G", "--innodb-flush-log-at-trx-commit=2"),
        *("--skip-log-bin", "--innodb-redo-log-capacity=1G"),
    ),
    "postgresql": ("-c", "fsync=off", "-c", "max_wal_size=4GB"),
}
COLUMNS = "shard, due_at, tail, kind, payload, attempt, failures, crashes, claim, created_at"
VALUES = f"%s, {T} + i * {STEP}, i * 7 + 1, 'mail', '{{\"order\": 4711}}', 0, 0, 0, 0, {T}"


class Seen(Protocol):
    """What was read."""

    def read(self) -> int:
        """Return how many rows the server looked at."""


class Full(NamedTuple):
    """A store with five million events, and how to see what is read."""

    store: Store
    watch: Callable[[pytest.MonkeyPatch], AbstractContextManager[Seen]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on each server that is wanted; with none, pytest leaves it out."""
    if "server_kind" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if kind in wanted()] or ["mariadb"]
        metafunc.parametrize("server_kind", kinds, scope="module")


@pytest.fixture(scope="module")
def full(server_kind: str, own_servers: Path) -> Iterator[Full]:
    """Fill a database."""
    with running(server_kind, own_servers / server_kind, *OPTIONS[server_kind]) as server:
        make = _on_postgresql if server_kind == "postgresql" else _on_mysql
        full = make(server.address)
        yield full
        full.store.close()


def _on_mysql(address: Address) -> Full:
    to = {"host": address.host, "port": address.port, "user": address.user}
    with pymysql.connect(**to, autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE DATABASE large")
        store = MysqlStore(address.url("large"), shards=SHARDS)
        store.migrate()
        limit = "cte_max_recursion_depth" if address.kind == "mysql" else "max_recursive_iterations"
        cursor.execute(f"SET {limit} = {EACH}")
        numbers = f"SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {EACH - 1}"
        for shard in range(SHARDS):
            cursor.execute(
                f"INSERT INTO large.duetime_events ({COLUMNS}) "
                f"WITH RECURSIVE n AS ({numbers}) SELECT {VALUES % shard} FROM n"
            )
        cursor.execute("ANALYZE TABLE large.duetime_events")
    return Full(store, watching)


def _on_postgresql(address: Address) -> Full:
    with psycopg.connect(address.url("postgres"), autocommit=True) as link:
        link.execute("CREATE DATABASE large")
    store = PostgresStore(address.url("large"), shards=SHARDS)
    store.migrate()
    with psycopg.connect(address.url("large"), autocommit=True) as link:
        for shard in range(SHARDS):
            text: Any = (
                f"INSERT INTO duetime_events ({COLUMNS}) "
                f"SELECT {VALUES % shard} FROM generate_series(0, {EACH - 1}) AS i"
            )
            link.execute(text)
        link.execute("VACUUM ANALYZE")
    return Full(store, pg_watching)

"""A server that is killed, stopped or handed to another one: what it had acknowledged is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from duetime.errors import AnswerLost, StoreError, StoreUnavailable
from duetime.event import id_of
from duetime.stores.contract import Answer
from duetime.stores.mysql import MysqlStore
from duetime.testing.promises.given import T, kept, row
from tests.servers.local import Address, LocalServer, running
from tests.stores.mysql.conftest import login


@pytest.fixture(scope="module")
def server(server_kind: str, own_servers: Path) -> Iterator[LocalServer]:
    """Start a server that may be killed."""
    with running(server_kind, own_servers / f"restart-{server_kind}") as server:
        yield server


@pytest.fixture
def mysql_server(own_servers: Path, mysql: Address) -> Iterator[LocalServer]:
    """Start a server of MySQL alone."""
    with running(mysql.kind, own_servers / "replica") as server:
        yield server


@pytest.fixture
def store(server: LocalServer) -> Iterator[MysqlStore]:
    """Return a store on that server, in a database of its own."""
    tell(server, "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop")
    store = MysqlStore(server.address.url("shop"))
    store.migrate()
    yield store
    store.close()


def tell(server: LocalServer, *statements: str) -> list[tuple[Any, ...]]:
    with pymysql.connect(**login(server.address), autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.mark.parametrize("how", [LocalServer.kill, LocalServer.stop])
def test_what_was_acknowledged_outlives_the_server(
    server: LocalServer, store: MysqlStore, how: Callable[[LocalServer], None]
) -> None:
    """While events are stored the server ends: what it has acknowledged is there when it is back.

    The store goes on by itself, and a call whose answer was lost has stored its event once at most.
    """
    acknowledged: list[str] = []
    unsure: list[str] = []
    enough, over = threading.Event(), threading.Event()

    def call() -> None:
        for i in range(100_000):
            fresh = row(T + i, name=f"n{i}" if i % 3 == 0 else None)
            try:
                store.insert([fresh])
            except AnswerLost:
                unsure.append(id_of(fresh))
                return
            except StoreUnavailable:
                return
            acknowledged.append(id_of(fresh))
            if i >= 50:
                enough.set()
            if over.is_set():
                return

    caller = threading.Thread(target=call)
    caller.start()
    assert enough.wait(30)
    how(server)
    over.set()
    caller.join(30)
    with pytest.raises(StoreUnavailable):
        store.get(["x"])
    server.start()
    assert [event_id for event_id in acknowledged if kept(store, event_id).id != event_id] == []
    total = store.counts(T).scheduled["mail"]
    assert len(acknowledged) <= total <= len(acknowledged) + len(unsure)
    assert store.insert([row(T)]) == [None]


def test_a_server_that_was_made_read_only_is_left(server: LocalServer, store: MysqlStore) -> None:
    """A server that takes no more writes is told as such, and used again when it does."""
    fresh = row()
    store.insert([fresh])
    user = MysqlStore(ordinary(server))
    try:
        tell(server, "SET GLOBAL read_only = 1")
        assert user.get([id_of(fresh)])[0] is not None
        with pytest.raises(StoreUnavailable) as caught:
            user.cancel([id_of(fresh)])
        assert "1290" in str(caught.value) or "1836" in str(caught.value)
        finding = next(each for each in user.check() if each.name == "read_only")
        assert finding.level == "error"
        tell(server, "SET GLOBAL read_only = 0")
        assert user.cancel([id_of(fresh)]) == [Answer.CANCELLED]
    finally:
        tell(server, "SET GLOBAL read_only = 0")
        user.close()


def test_no_administrator_writes_to_a_replica(mysql_server: LocalServer) -> None:
    """MySQL's super_read_only is found by `check`, and refuses root's writes as well."""
    tell(mysql_server, "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop")
    store = MysqlStore(mysql_server.address.url("shop"))
    try:
        store.migrate()
        tell(mysql_server, "SET GLOBAL super_read_only = 1")
        with pytest.raises(StoreUnavailable):
            store.insert([row()])
        levels = {finding.name: finding.level for finding in store.check()}
        assert levels["read_only"] == "error"
        tell(mysql_server, "SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0")
        assert store.insert([row()]) == [None]
    finally:
        tell(mysql_server, "SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0")
        store.close()


@pytest.mark.parametrize("size", [1_500_000, 5_000_000])
def test_an_event_that_is_too_large_is_told(
    server: LocalServer, store: MysqlStore, size: int
) -> None:
    """What the server would not take is refused by name, and harms neither store nor neighbours."""
    tell(server, f"SET GLOBAL max_allowed_packet = {1 << 20}")
    try:
        small = MysqlStore(server.address.url("shop"))
        with pytest.raises(StoreError) as caught:
            small.insert([row(payload=b"x" * size)])
        assert caught.value.code == "packet_too_large"
        rows = [row(T + i, payload=b"x" * 200_000) for i in range(20)]
        assert small.insert(rows) == [None] * 20
        assert [each and each.row for each in small.get(list(map(id_of, rows)))] == rows
        assert next(f for f in small.check() if f.name == "max_allowed_packet").level == "warning"
        small.close()
    finally:
        tell(server, f"SET GLOBAL max_allowed_packet = {16 << 20}")


def test_commits_that_are_not_flushed_are_found(server: LocalServer, store: MysqlStore) -> None:
    """`check` warns of commits, and of a binary log, that are flushed later."""
    tell(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 2", "SET GLOBAL sync_binlog = 0")
    try:
        levels = {finding.name: finding.level for finding in store.check()}
        assert levels["innodb_flush"] == "warning"
        has_log = tell(server, "SELECT @@log_bin") == [(1,)]
        assert levels.get("sync_binlog") == ("warning" if has_log else None)
    finally:
        tell(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 1", "SET GLOBAL sync_binlog = 1")


def ordinary(server: LocalServer) -> str:
    """Make a user whom read_only binds; return the URL."""
    tell(
        server,
        "DROP USER IF EXISTS ada@'%'",
        "CREATE USER ada@'%' IDENTIFIED BY 'p'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO ada@'%'",
    )
    return server.address._replace(user="ada", password="p").url("shop")


def test_an_idle_connection_that_ran_out_is_not_noticed(
    server: LocalServer, store: MysqlStore
) -> None:
    """After the server has closed connections for idleness, and said so on them, calls succeed."""
    tell(server, "SET GLOBAL wait_timeout = 1")
    try:
        idle = MysqlStore(server.address.url("shop"))
        fresh = row()
        idle.insert([fresh])
        wait_until_idle_ones_are_gone(server)
        assert idle.cancel([id_of(fresh)]) == [Answer.CANCELLED]
        assert idle.insert([row(), row()]) == [None, None]
        idle.close()
    finally:
        tell(server, "SET GLOBAL wait_timeout = 28800")


def wait_until_idle_ones_are_gone(server: LocalServer) -> None:
    """Wait until the server has ended every connection to the database."""
    asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'shop'"
    assert tell(server, asked) != [(0,)]
    deadline = time.monotonic() + 20
    while tell(server, asked) != [(0,)]:
        assert time.monotonic() < deadline, "idle connections were not ended"
        time.sleep(0.05)

"""A Galera member is a MySQL store that keeps every promise, and a whole engine runs on two."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pymysql
import pytest

from duetime import Event, Retry, Scheduler
from duetime.stores.contract import Answer
from duetime.stores.mysql import MysqlStore
from duetime.testing.store_suite import StoreSuite
from tests.galera.conftest import Shared
from tests.processes.fleet import wait_until
from tests.servers.galera import Galera

pytestmark = [pytest.mark.processes]


@pytest.fixture(scope="module")
def tables(galera: Galera) -> Iterator[Shared]:
    """Make tables that all tests of this module share."""
    galera.heal()
    shared = Shared(galera)
    store = MysqlStore(shared.url)
    store.migrate()
    store.close()
    yield shared
    shared.drop()


@pytest.fixture(scope="module")
def admin(tables: Shared) -> Iterator[Any]:
    """Keep a connection, for each test empties the tables."""
    address = tables.galera.addresses[0]
    admin = pymysql.connect(
        host=address.host, port=address.port, user=address.user, autocommit=True
    )
    with admin.cursor() as cursor:
        cursor.execute("SET SESSION wsrep_sync_wait = 7")  # a test may have ended on another member
    yield admin
    admin.close()


@pytest.fixture
def empty(tables: Shared, admin: Any) -> Shared:
    """Return the tables without anything in them."""
    with admin.cursor() as cursor:
        for table in ("events", "names", "dead", "nodes"):
            cursor.execute(f"DELETE FROM {tables.name}.duetime_{table}")
        cursor.execute(f"UPDATE {tables.name}.duetime_meta SET value = 0 WHERE name = 'issued'")
    return tables


@pytest.fixture
def member(empty: Shared) -> Iterator[Callable[[int], MysqlStore]]:
    with ExitStack() as stack:

        def member(number: int) -> MysqlStore:
            store = MysqlStore(empty.from_(number))
            stack.callback(store.close)
            return store

        yield member


@pytest.mark.faults
class TestGaleraStore(StoreSuite):
    """A member that the tables were not made on keeps every promise."""

    @pytest.fixture
    def store(self, member: Callable[[int], MysqlStore]) -> MysqlStore:
        store = member(1)
        store.get(["-"])
        assert store._database._servers.current == 0
        return store


def test_nodes_on_two_members_share_the_work(empty: Shared) -> None:
    """Events scheduled on one member fire once each, some by a node on another, some again."""
    fired: Counter[str] = Counter()
    by_node: Counter[int] = Counter()
    lock = threading.Lock()

    def handler(number: int, event: Event) -> Retry | None:
        with lock:
            fired[event.id] += 1
            by_node[number] += 1
        again = event.payload["n"] % 50 == 0 and event.attempt == 1
        return Retry(after=0.05) if again else None

    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Scheduler(empty.from_(n), stats_every=0.0, grace=5.0))
            for n in range(2)
        ]
        for number, node in enumerate(nodes):
            node.on("count")(lambda event, number=number: handler(number, event))
            node.start()
        wishes = [
            {
                "kind": "count",
                "payload": {"n": n},
                "after": 0.1 + n % 10 / 10,
                "id": f"n{n}" if n % 7 == 0 else None,
            }
            for n in range(300)
        ]
        events = nodes[0].schedule_many(wishes)
        late = nodes[0].schedule("count", {"n": 1}, after=60)
        assert nodes[1].cancel(late.id) is Answer.CANCELLED
        twice = {event.id for event in events if event.payload["n"] % 50 == 0}
        wait_until(lambda: fired.total() >= 300 + len(twice), 20, "all were fired")
        wait_until(lambda: not nodes[1].counts().claimed, 10, "all were settled")
        assert {name for name, count in fired.items() if count != 1} == twice
        assert fired.keys() == {event.id for event in events}
        assert min(by_node[0], by_node[1]) > 0

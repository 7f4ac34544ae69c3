"""The whole engine on a server: what is scheduled fires once, whichever node takes it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from duetime import Event, Retry, Scheduler
from duetime.stores import open_store
from duetime.stores.contract import Answer
from duetime.stores.mysql import MysqlStore
from tests.stores.mysql.conftest import Admin, empty

COUNT = 600


@pytest.fixture
def url(admin: Admin, tables: None) -> str:
    empty(admin)
    return admin.url


@pytest.fixture
def nodes(url: str) -> Iterator[list[Scheduler]]:
    """Two nodes on one database, not started yet."""
    with ExitStack() as stack:
        yield [stack.enter_context(Scheduler(url, stats_every=0.0, grace=5.0)) for _ in range(2)]


def wait_until(scheduler: Scheduler, fired: Counter[str], count: int) -> None:
    """Wait until so many events have been fired and none is kept."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        counts = scheduler.counts()
        if len(fired) >= count and not (counts.scheduled or counts.claimed):
            return
        time.sleep(0.02)
    pytest.fail(f"{len(fired)} of {count} fired, {scheduler.counts()} kept")


def test_two_nodes_share_the_work(nodes: list[Scheduler]) -> None:
    """Every event fires once, on one of two nodes, not early, some after a retry."""
    fired: Counter[str] = Counter()
    by_node: Counter[int] = Counter()
    early: list[str] = []
    lock = threading.Lock()

    def handler(node: int, event: Event) -> Retry | None:
        with lock:
            fired[event.id] += 1
            by_node[node] += 1
            if event.due_at.timestamp() > time.time():
                early.append(event.id)
        again = event.payload["n"] % 50 == 0 and event.attempt == 1
        return Retry(after=0.05) if again else None

    for number, node in enumerate(nodes):
        node.on("count")(lambda event, number=number: handler(number, event))
        node.start()
    wishes = [
        {
            "kind": "count",
            "payload": {"n": n},
            "after": n % 10 / 10,
            "id": f"n{n}" if n % 7 == 0 else None,
        }
        for n in range(COUNT)
    ]
    events = nodes[0].schedule_many(wishes)
    wait_until(nodes[1], fired, COUNT)
    twice = {event.id for event in events if event.payload["n"] % 50 == 0}
    assert {event_id: count for event_id, count in fired.items() if count != 1} == dict.fromkeys(
        twice, 2
    )
    assert early == []
    assert min(by_node[0], by_node[1]) > 0


def test_what_was_cancelled_never_fires(nodes: list[Scheduler]) -> None:
    """Events whose cancel was answered so do not fire, close to their time or not."""
    fired: Counter[str] = Counter()
    scheduler = nodes[0]
    scheduler.on("count")(lambda event: fired.update([event.id]))
    scheduler.start()
    events = scheduler.schedule_many({"kind": "count", "after": 0.2 + n / 400} for n in range(200))
    answers = {event.id: scheduler.cancel(event.id) for event in events}
    cancelled = {name for name, answer in answers.items() if answer is Answer.CANCELLED}
    wait_until(scheduler, fired, 200 - len(cancelled))
    assert cancelled
    assert set(fired) == set(answers) - cancelled


def test_a_setting_names_the_store(url: str) -> None:
    """A mysql:// or mariadb:// URL opens this store, in the namespace of the settings."""
    for scheme in ("mysql", "mariadb"):
        with Scheduler(url.replace("mysql", scheme, 1), namespace="shop", shards=8) as scheduler:
            store = open_store(scheduler.settings)
            assert isinstance(store, MysqlStore)
            assert (store.prefix, store.shards) == ("shop_", 8)

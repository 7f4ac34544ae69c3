"""Nodes on all members drain together: without conflicts where each has shards of its own."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import NamedTuple, TypeVar

import pytest

from duetime import Scheduler
from duetime.errors import StoreUnavailable
from duetime.event import DUE_AT, SHARD, id_of
from duetime.stores.contract import Range, Settlement
from duetime.stores.mysql import MysqlStore
from duetime.testing.promises.given import T, row
from tests.galera.conftest import Shared
from tests.processes.fleet import Child, Fleet, wait_until
from tests.processes.oracle import repeated
from tests.servers.galera import MEMBERS, Galera

pytestmark = [pytest.mark.processes, pytest.mark.faults]

EVENTS = 5_000
BATCH = 20
R = TypeVar("R")
SHARDS = 6
CONFLICTS = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")


def conflicts(cluster: Galera) -> int:
    return sum(map(cluster.counter, CONFLICTS))


def test_nodes_with_their_own_shards_do_not_conflict(
    cluster: Galera, shared: Shared, fleet: Fleet, spread: Callable[..., list[Child]]
) -> None:
    """A node per member drains 5,000 events scheduled from all members, without one conflict."""
    children = spread()

    def divided() -> bool:
        counters = shared.ask(0, "SELECT counter FROM duetime_nodes")
        return len(counters) == MEMBERS and min(counters) > (5,)

    wait_until(divided, 20, "every node knows the others")
    before = conflicts(cluster)
    with ThreadPoolExecutor(MEMBERS) as pool:
        parts = list(pool.map(lambda member: _schedule(shared, member), range(MEMBERS)))
    asked = set().union(*parts)
    wait_until(lambda: len(fleet.oracle.ids("ended")) >= len(asked), 30, "all were fired")
    after = conflicts(cluster)
    fleet.stop_all()
    runs = fleet.oracle.runs()
    assert len(asked) >= EVENTS
    assert set(runs) == asked
    assert not repeated(runs)
    assert {line.pid for lines in runs.values() for line in lines} == {c.pid for c in children}
    assert fleet.early() == []
    assert after - before == 0
    assert fleet.empty()


def _schedule(shared: Shared, member: int) -> set[str]:
    """Schedule a third of the events by way of one member, as a client that is no node."""
    asked: set[str] = set()
    draw = random.Random(member)
    with Scheduler(shared.from_(member)) as client:
        while len(asked) < EVENTS / MEMBERS:
            wishes = [
                {
                    "kind": "note",
                    "after": draw.uniform(0.3, 3),
                    "id": f"{member}-{len(asked)}" if n == 0 else None,
                }
                for n in range(draw.randrange(1, 20))
            ]
            asked.update(event.id for event in client.schedule_many(wishes))
    return asked


def test_nodes_in_the_same_shards_conflict_and_lose_nothing(
    cluster: Galera, make: Callable[..., MysqlStore]
) -> None:
    """Claims from all members in the same shards meet conflicts, and each event is claimed once."""
    stores = [make(member) for member in range(MEMBERS)]
    own = [tuple(range(member, SHARDS, MEMBERS)) for member in range(MEMBERS)]
    apart = _drain(cluster, stores, own)
    together = _drain(cluster, stores, [tuple(range(SHARDS))] * MEMBERS)
    print(f"own shards: {apart}\nthe same shards: {together}")
    assert (apart.conflicts, apart.refused) == (0, 0)
    assert together.conflicts > 0
    assert together.rate > apart.rate / 10


class Drained(NamedTuple):
    """What claiming and settling 3,000 events cost."""

    conflicts: int
    refused: int  # calls that gave up after five tries, and were made again
    rate: float  # events per second


def _drain(cluster: Galera, stores: list[MysqlStore], shards: Sequence[tuple[int, ...]]) -> Drained:
    """Claim and settle all events, each member's thread in its shards, until none is left."""
    rows = [row(T + n, shard=n % SHARDS) for n in range(3_000)]
    stores[0].insert(rows)
    numbers = [stores[0].beat(f"node-{n}", 0, b"{}").number for n in range(MEMBERS)]
    claimed: list[Counter[str]] = [Counter() for _ in stores]
    refused: Counter[int] = Counter()
    begin = threading.Barrier(MEMBERS + 1)

    def insist(member: int, call: Callable[[], R]) -> R:
        while True:
            try:
                return call()
            except StoreUnavailable:
                refused[member] += 1

    def work(member: int) -> None:
        store = stores[member]
        store.get(["-"])  # connected, and not before its member has all events
        begin.wait(20)
        for tick in count(1):
            number = numbers[member] << 32 | tick
            claim = partial(store.claim, number, shards[member], T, T + 3_000, BATCH)
            got = insist(member, claim)
            if not got:
                return
            claimed[member].update(map(id_of, got))
            places = tuple(sorted({one[SHARD] for one in got}))
            whole = Range(number, places, got[0][DUE_AT], got[-1][DUE_AT])
            went = insist(member, partial(store.settle, Settlement(ranges=[whole])))
            assert went.ranges == len(got)

    with ThreadPoolExecutor(MEMBERS) as pool:
        threads = [pool.submit(work, member) for member in range(MEMBERS)]
        before = conflicts(cluster)
        begin.wait(20)
        began = time.monotonic()
        for thread in threads:
            thread.result(50)
        took = time.monotonic() - began
    total = sum(claimed, Counter[str]())
    assert set(total) == set(map(id_of, rows))
    assert set(total.values()) == {1}
    assert all(claimed)
    return Drained(conflicts(cluster) - before, refused.total(), len(rows) / took)

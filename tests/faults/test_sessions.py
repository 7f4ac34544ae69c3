"""What others do to our connections and rows: kills, locks, deadlocks, poolers, odd plans."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pymysql
import pytest

from duetime import StoreUnavailable
from duetime.event import place_of
from duetime.stores import open_store
from duetime.stores.contract import Store
from tests.faults.judge import finish, judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Fleet, wait_until
from tests.processes.oracle import micros
from tests.processes.places import FarPlace, ServerPlace, place_on
from tests.servers.local import LocalServer
from tests.servers.pooler import Pooler
from tests.servers.switching import Switching

pytestmark = [pytest.mark.processes, pytest.mark.faults, pytest.mark.timeout(300)]

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2, "beater": False}
# Where no node is to be held for dead: on a crowded machine one may get no processor for seconds.
PATIENT = {**USUAL, "lease": 20.0}


@contextmanager
def meanwhile(work: Callable[[], None], pause: float) -> Iterator[None]:
    """Do something again and again beside; what it raises fails the test."""
    over = threading.Event()
    faults: list[BaseException] = []

    def loop() -> None:
        try:
            while not over.wait(pause):
                work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            faults.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not faults, faults


def spread(count: int, rate: int, kind: str = "mark") -> list[dict[str, Any]]:
    """Return wishes at an even rate, every tenth with an id of its own."""
    return [
        {"kind": kind, "after": 1 + i / rate, "id": f"given-{i}" if i % 10 == 0 else None}
        for i in range(count)
    ]


@pytest.mark.fault(8, "connections killed by SQL")
def test_killed_connections_lose_nothing(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """While random connections are ended every 100 ms, every event runs, and none is lost."""
    fleet = launch(place, **USUAL, retries=1000)
    fleet.start_ready(3, feed=30, kind="mark", nap=0.01, spread=0.3)
    count = size(1_000, 5_000)
    goal = count + fleet.oracle.count("ended")

    def kill_one() -> None:
        if sessions := place.sessions():
            place.end_session(random.choice(sessions))
            fault.seen += 1

    wishes = spread(count, 200)
    fleet.schedule(wishes)
    with meanwhile(kill_one, 0.1):
        wait_until(lambda: fleet.oracle.count("ended") >= goal, count / 200 + 60, "most are run")
    finish(fleet)
    total = judge(fleet, fault).total
    fault.note = f"{total['resent']} settlements sent again, {total['errors']} errors reported"
    assert fault.seen >= 10


@pytest.mark.fault(20, "deadlocks with users' transactions")
def test_deadlocks_are_tried_again(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Transactions that lock the same rows in another order cost retries, no event and no half."""
    if place.kind == "postgresql":  # sooner than a wait of ours is given up
        place.rows(f"ALTER DATABASE {place.database} SET deadlock_timeout = '30ms'")
    fleet = launch(place, **USUAL, retries=1000)
    fleet.start_ready(2)
    before = deadlocks(place)
    for _ in range(20):
        due = fleet.schedule(spread_without_names(300))
        names = list(due)
        quarrel(place, names, until=max(due.values()) + 1_000_000)
        settled(fleet)
        fault.seen = deadlocks(place) - before
        if fault.seen >= size(2, 10):
            break
    judge(fleet, fault, exact=False)
    assert not [lines for lines in fleet.oracle.runs().values() if len(lines) > 1]


def spread_without_names(count: int) -> list[dict[str, Any]]:
    return [{"kind": "batch", "after": 0.5 + i / 300} for i in range(count)]


def quarrel(place: ServerPlace, ids: list[str], until: int) -> None:
    """Lock rows from the last to the first, in short transactions, until a time (µs)."""
    places = [found for one in ids if (found := place_of(one))]
    places.sort(key=lambda one: (one.shard, one.due_at), reverse=True)
    links = [place.connect() for _ in range(2)]

    def fight(link: Any) -> None:
        begin = "BEGIN" if place.kind == "postgresql" else "START TRANSACTION"
        lock = "UPDATE duetime_events SET created_at = created_at + 1 WHERE shard = %s AND "
        lock += "due_at = %s AND tail = %s"
        while micros() < until:
            chosen = sorted(random.sample(range(len(places)), 40))
            with suppress(pymysql.MySQLError, psycopg.Error):
                cursor = link.cursor()
                cursor.execute(begin)
                for index in chosen:
                    cursor.execute(lock, tuple(places[index]))
                    time.sleep(0.001)
                cursor.execute("ROLLBACK")
            with suppress(pymysql.MySQLError, psycopg.Error):
                link.cursor().execute("ROLLBACK")

    threads = [threading.Thread(target=fight, args=(link,)) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for link in links:
        link.close()


def deadlocks(place: ServerPlace) -> int:
    """Return how many deadlocks the server has counted, or lock waits that it gave up."""
    if place.kind == "postgresql":
        asked = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
        return int(place.rows(asked, place.database)[0][0])
    asked = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
    return int(place.rows(asked)[0][0])


@pytest.mark.fault(21, "user's transaction holds a row")
def test_a_held_row_stalls_no_other(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Others go on while a row is held; a cancel of it hears so soon; it runs when it is let go."""
    fleet = launch(place, **PATIENT)
    fleet.start_ready(2)
    held = fleet.scheduler.schedule("mark", after=1)
    fleet.log.write("asked", held.id)
    link = place.connect()
    cursor = link.cursor()
    cursor.execute("BEGIN" if place.kind == "postgresql" else "START TRANSACTION")
    cursor.execute(
        "UPDATE duetime_events SET created_at = created_at + 1 "
        "WHERE shard = %s AND due_at = %s AND tail = %s",
        (held.row[2], *held.row[:2]),
    )
    fault.seen = 1
    seconds = size(5, 30)
    due = fleet.schedule([{"kind": "mark", "after": 1 + i / 100} for i in range(seconds * 100)])
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        fleet.scheduler.cancel(held.id)
    waited = time.monotonic() - began
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), seconds + 30, "the others are run")
    assert held.id not in fleet.oracle.ids("began")
    runs = fleet.oracle.runs()
    late = max(runs[event_id][0].at - moment for event_id, moment in due.items()) / 1e6
    cursor.execute("ROLLBACK")
    freed = micros()
    link.close()
    wait_until(lambda: held.id in fleet.oracle.ids("ended"), 20, "it is run when it is free")
    fault.take_over = (fleet.oracle.runs()[held.id][0].at - freed) / 1e6
    settled(fleet)
    judge(fleet, fault, exact=True)
    fault.refused = 1
    fault.note = (
        f"held for {seconds} s; a cancel heard `{caught.value.code}` after {waited:.1f} s, the "
        f"others were late by {late:.2f} s at most; take-over is from the release to the start"
    )
    assert caught.value.code == "store_busy"
    assert waited <= 3.5
    assert late <= 5


PLANS = {
    "postgresql": (
        "enable_hashjoin=off enable_mergejoin=off enable_material=off",
        "enable_indexscan=off enable_indexonlyscan=off",
        "enable_nestloop=off enable_bitmapscan=off",
    ),
    "mysql": (
        "materialization=off,semijoin=off",
        "index_merge=off,derived_merge=off",
        "index_condition_pushdown=off,mrr=on,mrr_cost_based=off",
    ),
}


@pytest.mark.fault(23, "odd plans, stale statistics")
def test_no_plan_claims_too_many(
    launch: Launch, serve: Callable[..., LocalServer], fault: Record, size: Size
) -> None:
    """Whatever the planner is told, a claim takes no more than its limit, and all are run once."""
    place = place_on(serve().address)
    fleet = launch(place, **USUAL, claim_batch=20)
    limit, count = 10, size(500, 3_000)
    family = "postgresql" if place.kind == "postgresql" else "mysql"
    fleet.scheduler.schedule_many({"kind": "note", "after": 3600} for _ in range(5))  # statistics
    place.rows("ANALYZE TABLE events" if family == "mysql" else "ANALYZE events")
    fleet.schedule([{"kind": "note"} for _ in range(count)])
    for number, plan in enumerate(PLANS[family]):
        force(place, plan)
        store = open_store(fleet.scheduler.settings)
        fault.seen += claims_of(store, limit, number)
        store.close()
    place.rows("UPDATE events SET claim = 0, attempt = 0")
    total = drain(fleet, count)
    judged = fleet.oracle.lines("began")
    fault.lost, fault.doubled = count - len({line.id for line in judged}), 0
    fault.note = f"{total['claims']} claims of a node took {total['claimed']} events, 20 at most"
    assert total["claimed"] <= 20 * total["claims"]
    assert total["done"] == count == len(judged)


def force(place: ServerPlace, plan: str) -> None:
    """Let the planner of every new connection be told so."""
    if place.kind == "postgresql":
        for setting in plan.split():
            place.rows(f"ALTER DATABASE {place.database} SET {setting.replace('=', ' = ')}")
        place.rows("ALTER TABLE events SET (autovacuum_enabled = off)")
    else:
        place.rows(f"SET GLOBAL optimizer_switch = '{plan}'")


def claims_of(store: Store, limit: int, number: int) -> int:
    """Claim in all ways that a node does; return how many claims were looked at."""
    now = store.time()
    looked = 0
    ways = [list(range(store.shards)), [0], [3, 5, 7]]
    for tick, shards in enumerate(ways * 5, 1):
        rows = store.claim(((900 + number) << 32) | tick, shards, 0, now, limit)
        assert len(rows) <= limit
        looked += bool(rows)
    return looked


def drain(fleet: Fleet, count: int) -> dict[str, int]:
    """Let one node run what is due."""
    fleet.start_ready(1)
    wait_until(lambda: fleet.oracle.count("ended") >= count, 90, "all are run")
    wait_until(lambda: not fleet.counts().claimed, 20, "all are settled")
    return fleet.stop_all()


@pytest.mark.fault(40, "a pooler changes connections")
def test_a_pooler_changes_nothing(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Nodes whose every transaction has another connection run each event once."""
    made: Any = (
        Pooler(place.address, place.database, size=6, refuses=True)
        if place.kind == "postgresql"
        else Switching(place.address, place.database, size=6)
    )
    with made as pooler:
        fleet = launch(place, **PATIENT)
        fleet.start_ready(2, settings={"store": FarPlace(place, pooler.port).url})
        count = size(1_000, 5_000)
        fleet.schedule(spread(count, 250))
        wait_until(lambda: fleet.oracle.count("ended") >= count, count / 250 + 60, "all are run")
        settled(fleet)
        judge(fleet, fault, exact=True)
        fault.seen = pooler.transactions
        fault.note = f"{pooler.transactions} transactions over 6 connections"
        assert fault.seen > 100

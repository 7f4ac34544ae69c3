"""Transactions of others: what they hold stalls nobody, and nothing is done by halves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest

from duetime.chance import SystemChance
from duetime.errors import StoreUnavailable
from duetime.event import DUE_AT, Row, id_of
from duetime.stores.contract import Answer, Filter, Range, Settlement
from duetime.stores.mysql import MysqlStore
from duetime.testing.promises.given import SECOND, T, claim_all, kept, move, number, row
from tests.stores.mysql.conftest import PREFIX, Admin

pytestmark = pytest.mark.timing  # who waits for a lock, and how long: nobody else may be in the way

SOON = 0.9  # s: less than one wait for a lock


@contextmanager
def holding(admin: Admin, *statements: str) -> Iterator[Any]:
    """Keep a transaction of somebody else's open after these statements."""
    connection = admin.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            for statement in statements:
                cursor.execute(statement)
            yield cursor
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def touch(held: Row) -> str:
    """Return a statement that locks a row and changes nothing that a claim looks at."""
    return (
        f"UPDATE {PREFIX}events SET failures = failures + 1 "
        f"WHERE shard = {held[2]} AND due_at = {held[0]} AND tail = {held[1]}"
    )


def unfinished(due_at: int, shard: int = 0) -> str:
    """Return a statement that stores an event."""
    return (
        f"INSERT INTO {PREFIX}events VALUES ({shard}, {due_at}, 12345, NULL, 'x', 'null', "
        "0, 0, 0, 0, 1, NULL)"
    )


def test_a_held_row_delays_no_rescue(store: MysqlStore, admin: Admin) -> None:
    """A node's claims are freed but for those that somebody holds; those the next time."""
    rows = sorted(row(T + i, shard=i % 2) for i in range(6))
    store.insert(rows)
    mine = number()
    assert len(store.claim(mine, range(2), T, T + SECOND, 100)) == 6
    with holding(admin, touch(rows[1]), touch(rows[4])), within(8):
        assert store.rescue(range(2), mine >> 32, T + SECOND, T + SECOND) == 4
    assert store.rescue(range(2), mine >> 32, T + SECOND, T + SECOND) == 2
    assert store.owners(range(2), T + SECOND) == set()
    assert {event.crashes for event in store.find(Filter(), 10)} == {1}


@pytest.mark.parametrize("limit", [100, 9, 5])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_held_row_stalls_no_claim(
    store: MysqlStore, admin: Admin, shards: int, limit: int
) -> None:
    """A claim passes by rows that somebody holds, at once, and fills its limit without them."""
    rows = sorted(row(T + i, shard=i % shards) for i in range(12))
    store.insert(rows)
    with holding(admin, touch(rows[0]), touch(rows[4]), touch(rows[7])), within(SOON):
        taken = store.claim(number(), range(shards), T, T + SECOND, limit)
    free = {id_of(rows[i]) for i in range(12) if i not in (0, 4, 7)}
    assert len(taken) == min(limit, 9)
    assert set(map(id_of, taken)) <= free
    assert [kept(store, id_of(each)).row for each in taken] == taken
    assert len(claim_all(store)) == 12 - len(taken)


def test_many_held_rows_stall_no_claim(store: MysqlStore, admin: Admin) -> None:
    """However many rows are held, the others are claimed at once."""
    rows = [row(T + i) for i in range(400)]
    store.insert(rows)
    hold = f"UPDATE {PREFIX}events SET failures = 1 WHERE due_at % 2 = 0"
    with holding(admin, hold), within(2 * SOON):
        taken = store.claim(number(), [0], T, T + SECOND, 1000)
    assert [held[DUE_AT] for held in taken] == [T + i for i in range(400) if (T + i) % 2]


def test_an_unfinished_insert_stalls_no_claim(store: MysqlStore, admin: Admin) -> None:
    """An event whose transaction is still open is neither claimed nor waited for."""
    store.insert([row(T + i) for i in range(6)])
    with holding(admin, unfinished(T + 3)), within(SOON):
        assert len(store.claim(number(), [0], T, T + SECOND, 100)) == 6
        assert store.peek([0], T, T + SECOND, 10) == []


def test_what_was_held_is_claimed_afterwards(store: MysqlStore, admin: Admin) -> None:
    """A row that was passed by is claimed when its transaction has ended."""
    fresh = row()
    store.insert([fresh])
    with holding(admin, touch(fresh)):
        assert store.claim(number(), [0], T, T, 10) == []
    assert len(store.claim(number(), [0], T, T, 10)) == 1


def test_a_held_row_delays_a_settlement_once(store: MysqlStore, admin: Admin) -> None:
    """A row of somebody else's inside a range is waited for once, and then passed by."""
    for _ in range(2):
        store.insert([row(T + i) for i in range(5)])
    held = claim_all(store)
    half = T + 2
    first = Range(held[0][9], (0,), T, half)
    second = Range(held[0][9], (0,), half + 1, T + SECOND)
    other = row(half, tail=7)
    store.insert([other])
    with holding(admin, touch(other), unfinished(half + 1)):
        with within(3 * SOON):
            assert store.settle(Settlement(ranges=[first])).ranges == 6
        with within(SOON):
            assert store.settle(Settlement(ranges=[second])).ranges == 4
    assert kept(store, id_of(other)).row[9] == 0


@pytest.mark.parametrize("named", [None, "order-1"])
def test_a_cancel_of_a_held_row_says_so(store: MysqlStore, admin: Admin, named: str | None) -> None:
    """A cancel that would have to wait is refused within two seconds or so, and did nothing."""
    fresh = row(name=named)
    store.insert([fresh])
    with holding(admin, touch(fresh)), within(2.9), pytest.raises(StoreUnavailable) as caught:
        store.cancel([id_of(fresh)])
    assert caught.value.code == "store_busy"
    assert kept(store, id_of(fresh)).row == fresh
    assert store.cancel([id_of(fresh)]) == [Answer.CANCELLED]


def test_a_cancel_is_whole_or_nothing(store: MysqlStore, admin: Admin) -> None:
    """When one of many cannot be taken back in time, none of them is."""
    rows = [row(T + i, name=f"n{i}" if i % 2 else None) for i in range(6)]
    store.insert(rows)
    with holding(admin, touch(rows[4])), pytest.raises(StoreUnavailable):
        store.cancel([id_of(each) for each in rows])
    assert [event and event.row for event in store.get([id_of(each) for each in rows])] == rows


def test_a_settlement_is_whole_or_nothing(store: MysqlStore, admin: Admin) -> None:
    """When one row of a settlement cannot be written in time, no part of it is."""
    store.insert([row(T + i) for i in range(6)])
    held = claim_all(store)
    parts = Settlement(moves=[move(held[0], T + SECOND)], done=held[1:3])
    with holding(admin, touch(held[2])), pytest.raises(StoreUnavailable):
        store.settle(parts)
    assert [kept(store, id_of(each)).row for each in held] == held
    assert store.settle(parts) == (0, 2, 1, 0)


def test_a_storm_of_one_id_makes_one_event(make: Callable[..., MysqlStore]) -> None:
    """Of many callers who give the same id at once, one makes the event, all get it."""
    stores = [make() for _ in range(4)]

    def call(caller: int) -> list[bool]:
        made = []
        for i in range(25):
            fresh = row(T + caller, name=f"order-{i}")
            (found,) = stores[caller % 4].insert([fresh])
            made.append(found is None)
        return made

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))
    assert [sum(each) for each in zip(*answers, strict=True)] == [1] * 25
    assert stores[0].counts(T).scheduled == {"mail": 25}


def test_a_name_that_is_being_given_is_waited_for(store: MysqlStore, admin: Admin) -> None:
    """While another transaction gives the same id, an insert answers that it is busy."""
    hold = f"INSERT INTO {PREFIX}names VALUES ('order-1', 0, 1, 1)"
    with holding(admin, hold), within(2.9), pytest.raises(StoreUnavailable) as caught:
        store.insert([row(name="order-1")])
    assert caught.value.code == "store_busy"
    assert store.insert([row(name="order-1")]) == [None]


class Counting(SystemChance):
    """Counts how often a pause was drawn: how often something was tried again."""

    pauses = 0

    def random(self) -> float:
        self.pauses += 1
        return super().random() / 100


def test_a_deadlock_is_tried_again(make: Callable[..., MysqlStore], admin: Admin) -> None:
    """When the server breaks a deadlock, the store's transaction is done again from its start."""
    chance = Counting()
    store = make(chance=chance)
    broken = 0
    for _ in range(20):
        rows = [row(T + i, name=f"n{i}") for i in range(2)]
        store.insert(rows)
        with holding(admin, touch(rows[1])) as cursor:
            # The larger transaction wins: the other one is rolled back.
            cursor.execute(f"UPDATE {PREFIX}meta SET value = value + 1")
            with ThreadPoolExecutor(1) as pool:
                cancelling = pool.submit(store.cancel, ["n0", "n1"])
                wait_until_locked(admin)
                try:
                    cursor.execute(touch(rows[0]))
                except pymysql.OperationalError:
                    broken += 1
                cursor.execute("ROLLBACK")
        assert cancelling.result() == [Answer.CANCELLED] * 2
        if chance.pauses:
            break
    assert chance.pauses, f"no deadlock hit the store, {broken} the other"


def wait_until_locked(admin: Admin) -> None:
    """Wait until somebody waits for a row lock."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if admin.lock_waits():
            return
        time.sleep(0.15)  # asked more often, InnoDB answers from what it saw last
    pytest.fail("nobody waited for a lock")

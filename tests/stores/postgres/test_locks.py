"""Transactions of others: what they hold stalls nobody, and nothing is done by halves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg
import pytest

from duetime.chance import SystemChance
from duetime.errors import StoreUnavailable
from duetime.event import DUE_AT, Row, id_of
from duetime.stores.contract import Answer, Filter, Range, Settlement
from duetime.stores.postgres import PostgresStore
from duetime.testing.promises.given import SECOND, T, claim_all, kept, move, number, row
from tests.stores.postgres.conftest import PREFIX, Admin, Link

pytestmark = pytest.mark.timing  # who waits for a lock, and how long: nobody else may be in the way

SOON = 0.25  # s: less than one wait for a lock
BUSY = 2.9  # s: all the waits for a lock that a call makes


@contextmanager
def holding(admin: Admin, *statements: str) -> Iterator[Link]:
    """Keep a transaction of somebody else's open after these statements."""
    link = admin.connect(autocommit=False)
    try:
        for statement in statements:
            link.execute(statement.encode())
        yield link
    finally:
        link.rollback()
        link.close()


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


def unfinished(due_at: int) -> str:
    """Return a statement that stores an event."""
    return (
        f"INSERT INTO {PREFIX}events VALUES (0, {due_at}, 12345, NULL, 'x', 'null', "
        "0, 0, 0, 0, 1, NULL)"
    )


@pytest.mark.parametrize("limit", [100, 9, 5])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_held_row_stalls_no_claim(
    store: PostgresStore, admin: Admin, shards: int, limit: int
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


@pytest.mark.parametrize("how", ["FOR UPDATE", "FOR SHARE"])
def test_many_held_rows_stall_no_claim(store: PostgresStore, admin: Admin, how: str) -> None:
    """However many rows are held, and however, the others are claimed at once."""
    store.insert([row(T + i) for i in range(400)])
    hold = f"SELECT 1 FROM {PREFIX}events WHERE due_at % 2 = 0 {how}"
    with holding(admin, hold), within(2 * SOON):
        taken = store.claim(number(), [0], T, T + SECOND, 1000)
    assert [held[DUE_AT] for held in taken] == [T + i for i in range(400) if (T + i) % 2]


def test_an_unfinished_insert_stalls_no_claim(store: PostgresStore, admin: Admin) -> None:
    """An event whose transaction is still open is neither claimed nor waited for."""
    store.insert([row(T + i) for i in range(6)])
    with holding(admin, unfinished(T + 3)), within(SOON):
        assert len(store.claim(number(), [0], T, T + SECOND, 100)) == 6
        assert store.peek([0], T, T + SECOND, 10) == []


def test_a_held_row_delays_no_rescue(store: PostgresStore, admin: Admin) -> None:
    """A node's claims are freed but for those that somebody holds, which are freed next time."""
    rows = sorted(row(T + i, shard=i % 2) for i in range(6))
    store.insert(rows)
    mine = number()
    assert len(store.claim(mine, range(2), T, T + SECOND, 100)) == 6
    with holding(admin, touch(rows[1]), touch(rows[4])), within(8):
        assert store.rescue(range(2), mine >> 32, T + SECOND, T + SECOND) == 4
    assert store.rescue(range(2), mine >> 32, T + SECOND, T + SECOND) == 2
    assert store.owners(range(2), T + SECOND) == set()
    assert {event.crashes for event in store.find(Filter(), 10)} == {1}


def test_what_was_held_is_claimed_afterwards(store: PostgresStore, admin: Admin) -> None:
    """A row that was passed by is claimed when its transaction has ended."""
    fresh = row()
    store.insert([fresh])
    with holding(admin, touch(fresh)):
        assert store.claim(number(), [0], T, T, 10) == []
    assert len(store.claim(number(), [0], T, T, 10)) == 1


def test_a_held_row_delays_no_settlement(store: PostgresStore, admin: Admin) -> None:
    """A row of somebody else's inside a range, and an unfinished one, are not waited for."""
    store.insert([row(T + i) for i in range(5)])
    held = claim_all(store)
    other = row(T + 2, tail=7)
    store.insert([other])
    whole = Range(held[0][9], (0,), T, T + SECOND)
    with holding(admin, touch(other), unfinished(T + 3)), within(SOON):
        assert store.settle(Settlement(ranges=[whole])).ranges == 5
    assert kept(store, id_of(other)).row == other


@pytest.mark.parametrize("way", ["unnamed", "named", "moved"])
@pytest.mark.parametrize("call", ["cancel", "reschedule"])
def test_a_change_of_a_held_row_says_so(
    store: PostgresStore, admin: Admin, way: str, call: str
) -> None:
    """A change that would have to wait is refused within two seconds or so, and did nothing."""
    fresh = row(name="order-1" if way == "named" else None)
    store.insert([fresh])
    event_id = id_of(fresh)
    if way == "moved":
        store.reschedule([(event_id, T + 5)])
    before = kept(store, event_id).row
    with holding(admin, touch(before)), within(BUSY), pytest.raises(StoreUnavailable) as caught:
        store.cancel([event_id]) if call == "cancel" else store.reschedule([(event_id, T + 9)])
    assert caught.value.code == "store_busy"
    assert kept(store, event_id).row == before
    assert store.cancel([event_id]) == [Answer.CANCELLED]


def test_a_cancel_waits_for_who_is_quick(store: PostgresStore, admin: Admin) -> None:
    """A cancel of a row that is held for a moment, and then moved, finds it where it went."""
    fresh = row(name="order-1")
    store.insert([fresh])
    hop = f"UPDATE {PREFIX}events SET due_at = {T + 5} WHERE name = 'order-1'"
    follow = f"UPDATE {PREFIX}names SET due_at = {T + 5} WHERE name = 'order-1'"
    with holding(admin, hop, follow) as link, ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(store.cancel, ["order-1"])
        wait_until_locked(admin)
        link.commit()
        assert cancelling.result() == [Answer.CANCELLED]
    assert store.counts(T).scheduled == {}


@pytest.mark.parametrize("change", ["cancel", "reschedule"])
def test_a_change_is_whole_or_nothing(store: PostgresStore, admin: Admin, change: str) -> None:
    """When one of many cannot be changed in time, none of them is."""
    rows = [row(T + i, name=None if i % 2 else f"n{i}") for i in range(6)]
    store.insert(rows)
    ids = [id_of(each) for each in rows]
    moves = [(each, T + SECOND) for each in ids]
    with holding(admin, touch(rows[4])), pytest.raises(StoreUnavailable):
        store.cancel(ids) if change == "cancel" else store.reschedule(moves)
    assert [event and event.row for event in store.get(ids)] == rows


def test_a_settlement_is_whole_or_nothing(store: PostgresStore, admin: Admin) -> None:
    """When one row of a settlement cannot be written in time, no part of it is."""
    store.insert([row(T + i) for i in range(6)])
    held = claim_all(store)
    parts = Settlement(moves=[move(held[0], T + SECOND)], done=held[1:3])
    with holding(admin, touch(held[2])), pytest.raises(StoreUnavailable):
        store.settle(parts)
    assert [kept(store, id_of(each)).row for each in held] == held
    assert store.settle(parts) == (0, 2, 1, 0)


def test_a_storm_of_one_id_makes_one_event(make: Callable[..., PostgresStore]) -> None:
    """Of many callers who give the same id at once, one makes the event, all get it."""
    stores = [make() for _ in range(4)]

    def call(caller: int) -> list[bool]:
        answers = (
            stores[caller % 4].insert([row(T + caller, name=f"order-{i}")]) for i in range(25)
        )
        return [found is None for (found,) in answers]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))
    assert [sum(each) for each in zip(*answers, strict=True)] == [1] * 25
    assert stores[0].counts(T).scheduled == {"mail": 25}


def test_an_id_that_ends_meanwhile_is_given_anew(make: Callable[..., PostgresStore]) -> None:
    """An insert whose name is taken when it comes and free when it looks stores its event."""
    one, two = make(), make()
    made = 0

    def cancel_often(_: int) -> None:
        for _ in range(300):
            two.cancel(["order-1"])

    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(cancel_often, 0)
        while not cancelling.done():
            (found,) = one.insert([row(name="order-1")])
            made += found is None
    assert made > 1
    assert one.counts(T).scheduled in ({}, {"mail": 1})


def test_a_name_that_is_being_given_is_waited_for(store: PostgresStore, admin: Admin) -> None:
    """While another transaction gives the same id, an insert answers that it is busy."""
    hold = f"INSERT INTO {PREFIX}names VALUES ('order-1', 0, 1, 1)"
    with holding(admin, hold), within(BUSY), pytest.raises(StoreUnavailable) as caught:
        store.insert([row(name="order-1")])
    assert caught.value.code == "store_busy"
    assert store.insert([row(name="order-1")]) == [None]


class Counting(SystemChance):
    """Counts how often a pause was drawn: how often something was tried again."""

    pauses = 0

    def random(self) -> float:
        self.pauses += 1
        return super().random() / 100


def test_a_deadlock_is_tried_again(make: Callable[..., PostgresStore], admin: Admin) -> None:
    """When the server breaks a deadlock, the store's transaction is done again from its start."""
    chance = Counting()
    store = make(chance=chance)
    admin(f"ALTER DATABASE {admin.database} SET deadlock_timeout = '50ms'")
    rows = sorted(row(T + i, shard=i) for i in range(2))
    store.insert(rows)
    with holding(admin, touch(rows[1])) as link, ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(store.cancel, [id_of(each) for each in rows])
        wait_until_locked(admin)
        with suppress(psycopg.errors.DeadlockDetected):  # if the other one is chosen
            link.execute(touch(rows[0]).encode())
        link.rollback()
        assert cancelling.result() == [Answer.CANCELLED] * 2
    admin(f"ALTER DATABASE {admin.database} RESET deadlock_timeout")
    assert chance.pauses


def wait_until_locked(admin: Admin) -> None:
    """Wait until somebody waits for a lock."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if admin("SELECT 1 FROM pg_locks WHERE NOT granted"):
            return
        time.sleep(0.005)
    pytest.fail("nobody waited for a lock")

"""A transaction that stays open holds up nobody, and one that is committed late is not missed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from duetime import Answer, Event, Scheduler, StoreUnavailable
from tests.within.callers import Caller
from tests.within.conftest import Database

LATER = datetime(2040, 1, 1, tzinfo=UTC)
Start = Callable[[str], Caller]
_DEADLINE = 20.0  # s
ONLY = {"test_waiting_has_an_end_where_the_server_sets_none": ("postgresql",)}


def plain(kind: str) -> str:
    return "psycopg" if kind == "postgresql" else "pymysql"


def impatient(kind: str, one: Caller) -> Caller:
    """Let a program wait for locks for a second at most."""
    if kind == "postgresql":
        one.execute("SET lock_timeout = '1s'")
    else:
        one.execute("SET SESSION innodb_lock_wait_timeout = 1")
    one.commit()
    return one


def wait_for(what: str, condition: Callable[[], object], pause: float = 0.01) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(pause)


def wait_for_a_lock(database: Database) -> None:
    """Wait until somebody waits; InnoDB renews what it tells of locks only if left in peace."""
    wait_for("a lock is waited for", lambda: waits(database), 0.15)


@contextmanager
def node(scheduler: Scheduler) -> Iterator[Counter[str]]:
    """Run a node that counts what it fires, by id."""
    fired: Counter[str] = Counter()

    @scheduler.on("near")
    def near(event: Event) -> None:
        fired[event.id] += 1

    scheduler.start()
    yield fired
    scheduler.stop()


@contextmanager
def beside(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Make a call in a thread; its answer, or error, is in the list at the end."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(call())
        except StoreUnavailable as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        thread.join(_DEADLINE)
        assert not thread.is_alive()


def test_the_second_of_one_id_waits_for_the_first(
    kind: str, program: Start, scheduler: Scheduler, database: Database
) -> None:
    """Who wants an id that another has not committed hears in the end whose it is."""
    first, second = (program(plain(kind)) for _ in range(2))
    mine = second.schedule("near", at=LATER)
    first.schedule("near", 1, at=LATER, id="order-1")
    with beside(lambda: second.schedule("near", 2, at=LATER, id="order-1")) as answers:
        wait_for_a_lock(database)
        assert not answers
        first.commit()
    assert (answers[0].created, answers[0].payload) == (False, 1)
    first.schedule("near", 1, at=LATER, id="order-2")
    with beside(lambda: second.schedule("near", 2, at=LATER, id="order-2")) as answers:
        wait_for_a_lock(database)
        first.rollback()
    assert (answers[0].created, answers[0].payload) == (True, 2)
    second.commit()
    assert {event.id for event in scheduler.find()} == {mine.id, "order-1", "order-2"}


def waits(database: Database) -> bool:
    if database.address.kind == "postgresql":
        return bool(database("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    place = "information_schema.INNODB_LOCK_WAITS"
    if database.address.kind == "mysql":
        place = "performance_schema.data_lock_waits"
    return bool(database(f"SELECT 1 FROM {place}"))


def test_waiting_ends_with_an_error_that_harms_nothing(
    kind: str, program: Start, scheduler: Scheduler
) -> None:
    """After waiting in vain the transaction is as before the call, and can be committed."""
    kept = scheduler.schedule("near", at=LATER)
    named = scheduler.schedule("near", at=LATER, id="order-0")
    first, second = program(plain(kind)), impatient(kind, program(plain(kind)))
    first.schedule("near", at=LATER, id="order-1")
    assert first.call("cancel_many", [kept.id, named.id]) == [Answer.CANCELLED] * 2
    second.execute("INSERT INTO orders VALUES (1)")
    mine = second.schedule("near", at=LATER)
    wishes = [{"kind": "near", "at": LATER, "id": f"order-{number}"} for number in (3, 1, "05")]
    for name, about in (
        ("schedule_many", wishes),
        ("cancel", kept.id),
        ("reschedule", named.id),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            second.call(name, about)
        assert caught.value.code == "store_busy"
    second.commit()
    first.rollback()
    assert {event.id for event in scheduler.find()} == {mine.id, kept.id, named.id}
    assert [event.created for event in scheduler.schedule_many(wishes)] == [True] * 3


def test_waiting_has_an_end_where_the_server_sets_none(kind: str, program: Start) -> None:
    """PostgreSQL lets wait for ever by default; here it is five seconds, and only for the call."""
    first, second = (program(plain(kind)) for _ in range(2))
    first.schedule("near", at=LATER, id="order-1")
    before = time.monotonic()
    with pytest.raises(StoreUnavailable, match="too long"):
        second.schedule("near", at=LATER, id="order-1")
    assert 4 < time.monotonic() - before < 10
    second.schedule("near", at=LATER, id="order-2")
    cursor = second.within.cursor()
    cursor.execute("SHOW lock_timeout")
    assert cursor.fetchone() == ("0",)


def test_a_deadlock_is_told_as_the_end(
    kind: str, program: Start, database: Database, scheduler: Scheduler
) -> None:
    """Of two that wait for each other one hears so; nothing of a lost transaction is kept."""
    first, second = (program(plain(kind)) for _ in range(2))
    first.schedule("near", 1, at=LATER, id="order-1")
    second.schedule("near", 2, at=LATER, id="order-2")
    with beside(lambda: or_back(first, "order-2", 1)) as answers:
        wait_for_a_lock(database)
        answers.append(or_back(second, "order-1", 2))
    errors = [each for each in answers if isinstance(each, StoreUnavailable)]
    assert [error.code for error in errors] == [
        "store_busy" if kind == "postgresql" else "within_rolled_back"
    ]
    for one in (first, second):
        one.commit()
    events = {event.id: event.payload for event in scheduler.find()}
    assert events in ({"order-1": number, "order-2": number} for number in (1, 2))


def or_back(one: Caller, name: str, payload: int) -> Event | StoreUnavailable:
    """Schedule an event, or roll back and return why."""
    try:
        event: Event = one.schedule("near", payload, at=LATER, id=name)
    except StoreUnavailable as error:
        one.rollback()
        return error
    return event


def test_an_open_transaction_stalls_nobody(kind: str, program: Start, scheduler: Scheduler) -> None:
    """While a user's transaction holds events of every kind, others are stored, fired, settled."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    theirs = [
        scheduler.schedule("near", at=soon, id=name).id
        for name in (None, None, "order-1", "order-2")
    ]
    one = program(plain(kind))
    fresh = [one.schedule("near", at=soon, id=name).id for name in (None, "order-3")]
    assert one.call("cancel_many", theirs[::2]) == [Answer.CANCELLED] * 2
    for event_id in theirs[1::2]:
        assert one.call("reschedule", event_id, at=soon) is Answer.RESCHEDULED
        new = soon + timedelta(milliseconds=1)
        assert one.call("reschedule", event_id, at=new) is Answer.RESCHEDULED
    with node(scheduler) as fired:
        ids = [
            scheduler.schedule("near", at=soon + timedelta(milliseconds=number), id=name).id
            for number in range(-20, 20)
            for name in (None, f"other-{number}")
        ]
        many = scheduler.schedule_many([{"kind": "near", "at": soon} for _ in range(100)])
        ids += [event.id for event in many]
        gone = scheduler.schedule("near", at=LATER)
        assert scheduler.cancel(gone.id) is Answer.CANCELLED
        moved = scheduler.schedule("near", at=LATER, id="moved")
        assert scheduler.reschedule(moved.id, at=soon) is Answer.RESCHEDULED
        ids.append(moved.id)
        wait_for("all others are fired", lambda: len(fired) == len(ids))
        wait_for("all others are settled", lambda: not any(scheduler.get(i) for i in ids))
        assert not {*theirs, *fresh} & fired.keys()
        one.commit()
        wait_for("the rest is fired", lambda: len(fired) == len(ids) + 4)
    assert {*fresh, *theirs[1::2]} < fired.keys()
    assert set(fired.values()) == {1}


def test_a_late_commit_is_not_missed(kind: str, program: Start, scheduler: Scheduler) -> None:
    """An event whose transaction commits seconds after it was due fires soon after the commit."""
    one = program(plain(kind))
    with node(scheduler) as fired:
        event = one.schedule("near", after=0.2)
        named = one.schedule("near", after=0.2, id="order-1")
        behind = scheduler.schedule("near", after=2.5)
        wait_for("a later one is fired", lambda: behind.id in fired)
        assert fired == {behind.id: 1}
        before = time.monotonic()
        one.commit()
        wait_for("they are fired", lambda: len(fired) == 3)
        assert time.monotonic() - before < 2
    assert fired == {behind.id: 1, event.id: 1, named.id: 1}


def test_a_rolled_back_event_never_fires(kind: str, program: Start, scheduler: Scheduler) -> None:
    """A node never sees what was rolled back, though it was due."""
    one = program(plain(kind))
    with node(scheduler) as fired:
        one.schedule("near", after=0.1)
        behind = scheduler.schedule("near", after=0.5)
        wait_for("a later one is fired", lambda: behind.id in fired)
        one.rollback()
        last = scheduler.schedule("near", after=0.5)
        wait_for("a last one is fired", lambda: last.id in fired)
    assert set(fired) == {behind.id, last.id}

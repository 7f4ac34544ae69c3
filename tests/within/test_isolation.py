"""Whatever a transaction may see of others, what it is told of an event is true, or an error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from duetime import Answer, Event, Scheduler, StoreUnavailable
from duetime.clock import to_micros
from duetime.event import Row, make_id
from duetime.stores.contract import Death, Settlement
from tests.within.callers import Caller

LATER = datetime(2040, 1, 1, tzinfo=UTC)
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
TOO_NEW = ("within_snapshot", "within_rolled_back")


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def one(kind: str, level: str, program: Callable[[str], Caller]) -> Caller:
    """A program whose transaction is open, and has looked at the database already."""
    if kind == "postgresql":
        one = program("psycopg")
        one.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    else:
        one = program("pymysql")
        one.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
        one.execute("SET SESSION innodb_lock_wait_timeout = 2")
    one.execute("SELECT number FROM orders WHERE number = 1")
    return one


def claim(scheduler: Scheduler) -> list[Row]:
    number = scheduler.store.beat("node", 0, b"{}").number << 32 | 1
    shards = range(scheduler.store.shards)
    return scheduler.store.claim(number, shards, 0, 2**60, 100)


def test_an_id_taken_since_is_answered(one: Caller, scheduler: Scheduler) -> None:
    """An id that another has taken since the transaction began is answered with his event."""
    scheduler.schedule("theirs", 1, at=LATER, id="order-1")
    events = one.call(
        "schedule_many",
        [
            {"kind": "mine", "at": LATER, "id": "order-0"},
            {"kind": "mine", "at": LATER, "id": "order-1"},
            {"kind": "mine", "at": LATER},
        ],
    )
    assert [(event.kind, event.created) for event in events] == [
        ("mine", True),
        ("theirs", False),
        ("mine", True),
    ]
    one.commit()
    assert scheduler.counts().scheduled == {"theirs": 1, "mine": 2}


def test_a_claim_made_since_is_told(one: Caller, scheduler: Scheduler) -> None:
    """An event that was claimed since the transaction began is in flight, never cancelled."""
    ids = [scheduler.schedule("a", at=LATER, id=name).id for name in (None, "order-1")]
    one.execute("SELECT number FROM orders WHERE number = 2")
    rows = claim(scheduler)
    for event_id in ids:
        assert one.call("cancel", event_id) is Answer.IN_FLIGHT
        assert one.call("reschedule", event_id) is Answer.IN_FLIGHT
    assert scheduler.store.settle(Settlement(done=rows)).done == 2
    for event_id in ids:
        assert one.call("cancel", event_id) is Answer.UNKNOWN
    one.commit()


def test_a_claim_after_the_first_look_is_told(
    kind: str, level: str, program: Callable[[str], Caller], scheduler: Scheduler
) -> None:
    """An event that the transaction could see free, and that was claimed since, is in flight."""
    ids = [scheduler.schedule("a", at=LATER, id=name).id for name in (None, "order-1")]
    one = program("psycopg" if kind == "postgresql" else "pymysql")
    scope = "" if kind == "postgresql" else "SESSION"
    one.execute(f"SET {scope} TRANSACTION ISOLATION LEVEL {level}")
    one.execute("SELECT claim FROM duetime_events WHERE shard = -7")
    rows = claim(scheduler)
    assert one.call("cancel_many", ids) == [Answer.IN_FLIGHT] * 2
    dead = [Death(row, 1, "no", 1, None) for row in rows]
    assert scheduler.store.settle(Settlement(deaths=dead)).deaths == 2
    assert one.call("cancel_many", ids) == [Answer.DEAD] * 2
    one.commit()


def test_an_event_of_others_made_since(one: Caller, scheduler: Scheduler, level: str) -> None:
    """An event that is new to the transaction is cancelled, or the answer is a clear error."""
    ids = [scheduler.schedule("a", at=LATER, id=name).id for name in (None, "order-1")]
    answers, error = attempt(lambda: one.call("cancel_many", ids))
    if error is None:
        assert answers == [Answer.CANCELLED] * 2
        one.commit()
        assert scheduler.find() == []
        return
    assert level != "READ COMMITTED"
    assert error.code in TOO_NEW
    assert "begin" in str(error)
    one.rollback()
    assert {event.id for event in scheduler.find()} == {*ids}


def attempt(call: Callable[[], Any]) -> tuple[Any, StoreUnavailable | None]:
    try:
        return call(), None
    except StoreUnavailable as error:
        return None, error


def test_a_second_cancel_in_one_transaction(one: Caller, scheduler: Scheduler) -> None:
    """What the transaction itself has cancelled is never told as cancelled again."""
    event = one.schedule("a", at=LATER)
    assert one.call("cancel", event.id) is Answer.CANCELLED
    assert one.call("cancel", event.id) is Answer.UNKNOWN
    one.commit()
    assert scheduler.find() == []


def test_nobody_waits_for_what_is_not_there(one: Caller, scheduler: Scheduler) -> None:
    """A look for events that are gone, in an open transaction, keeps nobody from storing others.

    MySQL's default isolation would lock the gap where the event was.
    """
    gone = [scheduler.schedule("a", at=LATER, id=name).id for name in (None, "m")]
    assert scheduler.cancel_many(gone) == [Answer.CANCELLED] * 2
    never = [make_id(shard, to_micros(LATER), 5) for shard in (0, 15, 31)]
    for event_id in (*gone, *never, "never"):
        assert one.call("cancel", event_id) is Answer.UNKNOWN
        assert one.call("reschedule", event_id) is Answer.UNKNOWN
    kept = scheduler.schedule("b", at=LATER, id="n")
    one.schedule("c", at=LATER, id="o")
    around(scheduler, LATER, "m")
    one.commit()
    assert scheduler.get(kept.id) is not None


def around(scheduler: Scheduler, moment: datetime, name: str) -> None:
    """Store events in every gap beside this moment and this name.

    Whoever has to wait for the open transaction hears StoreUnavailable: it does not end.
    """
    wishes = [
        {"kind": "near", "at": moment + timedelta(microseconds=off)} for off in range(-100, 100)
    ]
    events = scheduler.schedule_many(wishes)
    names = [f"{name}{end}" for end in ("a", "b", "c", "d", "-0", "-1x", "-3")]
    names += [f"a{name}", f"z{name}", "l", "zz"]
    for each in names:
        scheduler.schedule("near", at=moment, id=each)
    assert scheduler.cancel_many([event.id for event in events]) == [Answer.CANCELLED] * 200
    assert scheduler.cancel_many(names) == [Answer.CANCELLED] * len(names)


def test_nobody_waits_beside_what_was_changed(one: Caller, scheduler: Scheduler) -> None:
    """Events that an open transaction has stored, moved or cancelled hold up only themselves."""
    ids = [event.id for event in seeds(scheduler)]
    fresh = one.schedule("a", at=LATER)
    named = one.schedule("a", at=LATER, id="m")
    new = LATER + timedelta(days=1)
    attempt(lambda: one.call("cancel_many", ids[:2]))
    attempt(lambda: [one.call("reschedule", event_id, at=new) for event_id in ids[2:]])
    around(scheduler, LATER, "m")
    around(scheduler, new, "p")
    one.rollback()
    assert scheduler.get(fresh.id) is scheduler.get(named.id) is None


def seeds(scheduler: Scheduler) -> list[Event]:
    return [scheduler.schedule("a", at=LATER, id=name) for name in (None, "m-1", None, "m-2")]

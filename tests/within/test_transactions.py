"""What is scheduled, cancelled and moved in a transaction happens with it, in every way in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from duetime import Answer, Scheduler
from duetime.stores.contract import Settlement
from tests.within.callers import Caller

Start = Callable[[str], Caller]
LATER = datetime(2040, 1, 1, tzinfo=UTC)
PAYLOAD = {"order": 42, "text": "50 % of \"x\": 'ü' \\ :a %s"}


@pytest.fixture
def one(program: Start, way: str) -> Caller:
    return program(way)


def test_a_commit_keeps_what_was_scheduled(one: Caller, scheduler: Scheduler) -> None:
    """An event is stored when the transaction commits, and not before, with what it carries."""
    one.execute("INSERT INTO orders VALUES (1)")
    event = one.schedule("a", PAYLOAD, at=LATER)
    assert event.created
    assert scheduler.get(event.id) is None
    one.commit()
    found = scheduler.get(event.id)
    assert found is not None
    assert (found.kind, found.payload, found.due_at) == ("a", PAYLOAD, LATER)


def test_a_rollback_leaves_nothing(one: Caller, scheduler: Scheduler) -> None:
    """An event of a transaction that is rolled back has never been."""
    event = one.schedule("a", at=LATER)
    named = one.schedule("a", at=LATER, id="order-1")
    one.rollback()
    assert scheduler.get(event.id) is None
    assert scheduler.get(named.id) is None
    assert scheduler.schedule("a", at=LATER, id="order-1").created


def test_a_call_begins_the_transaction(one: Caller, scheduler: Scheduler) -> None:
    """Where a library begins a transaction at its first statement, a call is that statement."""
    event = one.schedule("a", at=LATER)
    one.commit()
    assert scheduler.get(event.id) is not None


def test_a_savepoint_takes_back_what_came_after(one: Caller, scheduler: Scheduler) -> None:
    """Rolled back to a savepoint, only what was scheduled before it is kept."""
    before = one.schedule("a", at=LATER)
    back = one.savepoint()
    after = one.schedule("a", at=LATER, id="after")
    back()
    one.commit()
    assert scheduler.get(before.id) is not None
    assert scheduler.get(after.id) is None


def test_a_cancel_holds_when_committed(one: Caller, scheduler: Scheduler) -> None:
    """A cancelled event is there until the commit, and after a rollback."""
    plain = scheduler.schedule("a", at=LATER)
    named = scheduler.schedule("a", at=LATER, id="order-1")
    for event in (plain, named):
        assert one.call("cancel", event.id) is Answer.CANCELLED
        assert scheduler.get(event.id) is not None
    one.rollback()
    assert [scheduler.get(event.id) for event in (plain, named)] != [None, None]
    assert one.call("cancel_many", [plain.id, named.id, "none"]) == [
        Answer.CANCELLED,
        Answer.CANCELLED,
        Answer.UNKNOWN,
    ]
    one.commit()
    assert [scheduler.get(event.id) for event in (plain, named)] == [None, None]


def test_a_move_holds_when_committed(one: Caller, scheduler: Scheduler) -> None:
    """A moved event is where it was until the commit, and after a rollback."""
    plain = scheduler.schedule("a", at=LATER)
    named = scheduler.schedule("a", at=LATER, id="order-1")
    new = LATER + timedelta(days=1)
    for end in (one.rollback, one.commit):
        for event in (plain, named):
            assert one.call("reschedule", event.id, at=new) is Answer.RESCHEDULED
            found = scheduler.get(event.id)
            assert found is not None
            assert found.due_at == LATER
        end()
    for event in (plain, named):
        found = scheduler.get(event.id)
        assert found is not None
        assert found.due_at == new


def test_a_move_to_the_same_time_is_a_move(one: Caller, scheduler: Scheduler) -> None:
    """An event that is moved to when it is due already is told as moved, and stays."""
    event = scheduler.schedule("a", at=LATER)
    assert one.call("reschedule", event.id, at=LATER) is Answer.RESCHEDULED
    assert one.call("reschedule", "none", at=LATER) is Answer.UNKNOWN
    one.commit()
    assert scheduler.get(event.id) is not None


def test_a_transaction_sees_its_own_events(one: Caller, scheduler: Scheduler) -> None:
    """What a transaction has scheduled it can move and cancel, before anybody sees it."""
    plain = one.schedule("a", at=LATER)
    named = one.schedule("a", at=LATER, id="order-1")
    for event in (plain, named):
        answer = one.call("reschedule", event.id, at=LATER + timedelta(days=1))
        assert answer is Answer.RESCHEDULED
        assert one.call("cancel", event.id) is Answer.CANCELLED
        assert one.call("cancel", event.id) is Answer.UNKNOWN
    again = one.schedule("b", at=LATER, id="order-1")
    assert again.created
    one.commit()
    kept = scheduler.find()
    assert [(event.id, event.kind) for event in kept] == [("order-1", "b")]


def test_an_id_given_twice_is_one_event(one: Caller, scheduler: Scheduler) -> None:
    """An id that is kept, by others or in the same transaction, is answered with its event."""
    theirs = scheduler.schedule("a", 1, at=LATER, id="theirs")
    again = one.schedule("b", 2, at=LATER, id="theirs")
    assert (again.created, again.payload, again.id) == (False, 1, theirs.id)
    mine = one.schedule("c", 3, at=LATER, id="mine")
    twice = one.schedule("d", 4, at=LATER, id="mine")
    assert (mine.created, twice.created, twice.payload) == (True, False, 3)
    one.commit()
    assert sorted(event.id for event in scheduler.find()) == ["mine", "theirs"]


def test_many_are_stored_together(one: Caller, scheduler: Scheduler) -> None:
    """A list of events, with ids and without, is stored in one transaction, repeats once."""
    scheduler.schedule("old", at=LATER, id="n-3")
    wishes = [{"kind": "a", "at": LATER, "payload": number} for number in range(1200)]
    named = [{"kind": "b", "at": LATER, "id": f"n-{number % 5}"} for number in range(10)]
    events = one.call("schedule_many", [*wishes, *named])
    assert [event.created for event in events[1200:]] == [
        *(True, True, True, False, True),
        *[False] * 5,
    ]
    assert scheduler.counts().scheduled == {"old": 1}
    one.commit()
    assert scheduler.counts().scheduled == {"a": 1200, "b": 4, "old": 1}


def test_claimed_events_are_left_alone(one: Caller, scheduler: Scheduler) -> None:
    """An event that a node has claimed is told as in flight, and its row is not locked."""
    event = scheduler.schedule("a", at=LATER)
    named = scheduler.schedule("a", at=LATER, id="order-1")
    roll = scheduler.store.beat("node", 0, b"{}")
    number = roll.number << 32 | 1
    shards = range(scheduler.store.shards)
    rows = scheduler.store.claim(number, shards, 0, 2**60, 10)
    for each in (event, named):
        assert one.call("cancel", each.id) is Answer.IN_FLIGHT
        assert one.call("reschedule", each.id) is Answer.IN_FLIGHT
    assert scheduler.store.settle(Settlement(done=rows)).done == 2  # while the other is open
    assert one.call("cancel", event.id) is not Answer.CANCELLED
    one.commit()


def test_fire_now_waits_for_the_commit(one: Caller, scheduler: Scheduler) -> None:
    """An event that is told to fire now is moved when the transaction commits."""
    event = scheduler.schedule("a", at=LATER)
    assert one.call("fire_now", event.id) is Answer.RESCHEDULED
    one.commit()
    found = scheduler.get(event.id)
    assert found is not None
    assert found.due_at < LATER

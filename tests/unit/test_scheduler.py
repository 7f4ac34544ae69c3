"""The door: schedule, cancel, move, look and run, on every embedded store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from duetime.clock import MICROS, from_micros
from duetime.config import Settings
from duetime.errors import AnswerLost, InvalidInput, LifecycleError
from duetime.event import Event, State
from duetime.outcome import Dead
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.node.stand import (
    DEADLINE,
    NOW,
    QUICK,
    Plan,
    Ticker,
    wait_until,
)


def still(**settings: Any) -> tuple[Scheduler, MemoryStore, Ticker]:
    """Return a scheduler whose clock stands still."""
    ticker = Ticker()
    store = MemoryStore(4, ticker)
    return Scheduler(store, settings=Settings(**{**QUICK, **settings}), clock=ticker), store, ticker


def claimed(scheduler: Scheduler) -> Event:
    """Return an event that someone holds."""
    event = scheduler.schedule("k")
    scheduler.store.claim(1 << 32 | 1, range(scheduler.store.shards), 0, event.row[0], 10)
    return event


def refusal(call: Callable[[], object]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        call()
    return caught.value


def died(scheduler: Scheduler) -> Event:
    """Return an event that a handler gave up."""
    event = scheduler.schedule("hopeless", {"n": 1})
    scheduler.on("hopeless")(lambda _event: Dead("no hope"))
    scheduler.start()
    wait_until(scheduler.dead)
    scheduler.stop()
    return event


# --- schedule -------------------------------------------------------------------------------------


def test_an_event_is_kept_as_it_was_scheduled(scheduler: Scheduler) -> None:
    """What was scheduled can be looked up: same time, kind and payload, not yet attempted."""
    at = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    event = scheduler.schedule("order.expire", {"order": [1, None, "ü"]}, at=at)
    kept = scheduler.get(event.id)
    assert kept is not None
    assert (kept.kind, kept.payload) == ("order.expire", {"order": [1, None, "ü"]})
    assert (kept.due_at, kept.attempt, kept.state) == (at, 0, State.SCHEDULED)
    assert event.created
    assert abs(kept.created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_event_without_a_time_is_due_now() -> None:
    """Without `at` and `after` an event is due at once, by the store's clock."""
    scheduler, _, _ = still()
    assert scheduler.schedule("k").due_at == from_micros(NOW)
    assert scheduler.schedule("k", after=5).due_at == from_micros(NOW + 5 * MICROS)


def test_the_same_id_is_one_event(scheduler: Scheduler) -> None:
    """Scheduling an id again changes nothing and returns what is kept, also when it differs."""
    first = scheduler.schedule("k", 1, after=60, id="order-7")
    again = scheduler.schedule("other", 2, after=5, id="order-7")
    assert (first.created, again.created) == (True, False)
    assert (again.kind, again.payload, again.due_at) == ("k", 1, first.due_at)
    assert len(scheduler.find()) == 1
    assert scheduler.cancel("order-7") is Answer.CANCELLED
    assert scheduler.schedule("k", 3, id="order-7").created


def test_a_dead_event_keeps_its_id(scheduler: Scheduler) -> None:
    """The id of a dead event is still taken, and the dead event is what comes back."""
    scheduler.schedule("hopeless", id="a")
    scheduler.on("hopeless")(lambda _event: Dead("no hope"))
    scheduler.start()
    wait_until(scheduler.dead)
    again = scheduler.schedule("k", id="a")
    assert not again.created
    assert again.state is State.DEAD


def test_many_are_scheduled_in_one_call(scheduler: Scheduler) -> None:
    """`schedule_many` takes the arguments of `schedule` by name, and answers in order."""
    wishes = [{"kind": "k", "payload": n, "after": 60 + n} for n in range(2_500)]
    events = scheduler.schedule_many([*wishes, {"kind": "k", "id": "last"}])
    assert [event.payload for event in events] == [*range(2_500), None]
    assert events[-1].id == "last"
    assert scheduler.counts().scheduled == {"k": 2_501}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"kind": "k", "payload": {1}}, "payload_type"),
        ({"kind": "k", "dueat": 5}, "field_unknown"),
        ({"payload": 1}, "field_unknown"),
        ({"kind": "k", "at": datetime(2030, 1, 1)}, "due_naive"),  # noqa: DTZ001 - what is refused
        ({"kind": "k", "id": "a b"}, "id_invalid"),
        ({1: 2}, "field_unknown"),
        ("text", "field_unknown"),
        ([], "field_unknown"),
        (None, "field_unknown"),
    ],
)
def test_one_bad_wish_of_many_writes_nothing(scheduler: Scheduler, bad: Any, code: str) -> None:
    """The first bad one is named by its index, and none of the others is stored."""
    wishes = [{"kind": "k"}] * 2_000 + [bad] + [{"kind": "", "payload": 1}]
    error = refusal(lambda: scheduler.schedule_many(wishes))
    assert error.code == code
    assert "2000" in str(error)
    assert (error.field or "").startswith("[2000]")
    assert scheduler.find() == []


def test_scheduling_in_threads_loses_nothing(scheduler: Scheduler) -> None:
    """Many threads may schedule at once: every event is kept, in fewer transactions."""
    ids: list[str] = []

    def many() -> None:
        ids.extend(scheduler.schedule("k", after=60).id for _ in range(20))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(set(ids)) == 160
    assert scheduler.counts().scheduled == {"k": 160}
    assert scheduler.tally.saves <= 160


def test_it_is_durable_when_the_call_returns(tmp_path: Path) -> None:
    """What one scheduler stored, another reads from the same file at once."""
    url = f"sqlite:///{tmp_path}/events.db"
    with Scheduler(url, **QUICK) as one, Scheduler(url, **QUICK) as other:
        event = one.schedule("k", after=60)
        assert other.get(event.id) == event


# --- cancel, reschedule, redrive ------------------------------------------------------------------


def test_cancel_answers_in_each_state(scheduler: Scheduler) -> None:
    """Waiting: cancelled. Claimed: in flight. Gone or never there: unknown. Given up: dead."""
    event = scheduler.schedule("k", after=60)
    assert scheduler.cancel(event.id) is Answer.CANCELLED
    assert scheduler.cancel(event.id) is Answer.UNKNOWN
    assert scheduler.get(event.id) is None
    assert scheduler.cancel("never") is Answer.UNKNOWN
    dead = died(scheduler)
    assert scheduler.cancel(dead.id) is Answer.DEAD
    held = claimed(scheduler)
    assert scheduler.cancel(held.id) is Answer.IN_FLIGHT
    assert scheduler.get(held.id) is not None


def test_reschedule_answers_in_each_state(scheduler: Scheduler) -> None:
    """As cancel does, but the event moves; its id stays."""
    event = scheduler.schedule("k", after=60)
    at = datetime(2035, 1, 1, tzinfo=UTC)
    assert scheduler.reschedule(event.id, at=at) is Answer.RESCHEDULED
    kept = scheduler.get(event.id)
    assert kept is not None
    assert (kept.id, kept.due_at) == (event.id, at)
    assert scheduler.reschedule(event.id, after=timedelta(hours=1)) is Answer.RESCHEDULED
    assert scheduler.reschedule("never") is Answer.UNKNOWN
    dead = died(scheduler)
    assert scheduler.reschedule(dead.id) is Answer.DEAD
    held = claimed(scheduler)
    assert scheduler.reschedule(held.id) is Answer.IN_FLIGHT


def test_many_are_cancelled_in_one_call(scheduler: Scheduler) -> None:
    """Each id has its answer, in order, more than fit one transaction."""
    events = scheduler.schedule_many([{"kind": "k", "after": 60}] * 1_200)
    ids = [event.id for event in events]
    answers = scheduler.cancel_many([*ids, "never", ids[0]])
    assert answers == [Answer.CANCELLED] * 1_200 + [Answer.UNKNOWN] * 2
    assert scheduler.tally.cancelled == 1_200


def test_fire_now_is_a_move_to_now(scheduler: Scheduler) -> None:
    """An event that was far away fires at once."""
    ran: list[str] = []
    scheduler.on("k")(lambda event: ran.append(event.id))
    event = scheduler.schedule("k", after=3600)
    scheduler.start()
    assert scheduler.fire_now(event.id) is Answer.RESCHEDULED
    wait_until(lambda: ran == [event.id])


def test_redrive_keeps_id_and_history(scheduler: Scheduler) -> None:
    """A dead event is scheduled again: same id and payload, failures from 0, history going on."""
    event = died(scheduler)
    before = scheduler.get(event.id)
    assert before is not None
    assert (before.state, before.reason) == (State.DEAD, "no hope")
    assert scheduler.redrive(event.id) is Answer.REDRIVEN
    again = scheduler.get(event.id)
    assert again is not None
    assert (again.id, again.payload, again.state) == (event.id, {"n": 1}, State.SCHEDULED)
    assert (again.failures, again.crashes, again.attempt) == (0, 0, 1)
    assert [entry["outcome"] for entry in again.history] == ["dead", "redriven"]
    assert scheduler.dead() == []


def test_redrive_answers_in_each_state(scheduler: Scheduler) -> None:
    """What is not dead is not redriven, and each id is told why."""
    event = scheduler.schedule("k", after=60)
    held = claimed(scheduler)
    assert scheduler.redrive_many([event.id, held.id, "never"]) == [
        Answer.SCHEDULED,
        Answer.IN_FLIGHT,
        Answer.UNKNOWN,
    ]


@pytest.mark.parametrize("wrong", ["", "a b", None, 7, "x" * 65])
def test_ids_are_checked(wrong: Any) -> None:
    """What cannot be an id is refused by every call that takes one."""
    scheduler, _, _ = still()
    calls = (
        scheduler.cancel,
        scheduler.reschedule,
        scheduler.fire_now,
        scheduler.redrive,
        scheduler.get,
        lambda one: scheduler.cancel_many([one]),
        lambda one: scheduler.redrive_many([one]),
    )
    for call in calls:
        assert refusal(lambda: call(wrong)).code == "id_invalid"  # noqa: B023 - called here


def test_a_lost_answer_is_raised() -> None:
    """A cancel or redrive whose answer stays in doubt raises, and never guesses."""
    plan = Plan()
    scheduler = Scheduler(FaultyStore(MemoryStore(4), plan), settings=Settings(**QUICK))
    event = scheduler.schedule("k", after=60)
    for call in (
        lambda: scheduler.cancel(event.id),
        lambda: scheduler.cancel_many([event.id]),
        lambda: scheduler.redrive("never"),
        lambda: scheduler.reschedule("never"),
    ):
        for name in ("cancel", "redrive", "reschedule"):
            plan.always[name] = Fault.LOST_AFTER
        with pytest.raises(AnswerLost):
            call()


# --- look -----------------------------------------------------------------------------------------


def test_find_pages_by_due_time(scheduler: Scheduler) -> None:
    """Pages follow each other without gaps; conditions hold all at once."""
    for n in range(10):
        scheduler.schedule("a" if n % 2 else "b", n, after=60 + n)
    first = scheduler.find(limit=4)
    rest = scheduler.find(after=first[-1])
    assert [event.payload for event in first + rest] == list(range(10))
    assert [event.payload for event in scheduler.find(kind="a", limit=2)] == [1, 3]
    middle = first[3].due_at
    assert [e.payload for e in scheduler.find(due_from=middle, kind="b")] == [4, 6, 8]
    assert [e.payload for e in scheduler.find(due_until=middle)] == [0, 1, 2]
    assert scheduler.find(state=State.CLAIMED) == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"limit": 0}, "page_invalid"),
        ({"limit": 10**9}, "page_invalid"),
        ({"kind": "a b"}, "kind_invalid"),
        ({"due_from": datetime(2030, 1, 1)}, "due_naive"),  # noqa: DTZ001 - what is refused
        ({"due_until": 5}, "due_type"),
    ],
)
def test_what_is_looked_for_is_checked(wrong: dict[str, Any], code: str) -> None:
    """A page that cannot be is refused."""
    scheduler, _, _ = still()
    assert refusal(lambda: scheduler.find(**wrong)).code == code


def test_counts_tell_where_events_are(scheduler: Scheduler) -> None:
    """Every event is counted in one state, by kind."""
    died(scheduler)
    claimed(scheduler)
    scheduler.schedule("later", after=60)
    counts = scheduler.counts()
    assert counts.dead == {"hopeless": 1}
    assert counts.claimed == {"k": 1}
    assert counts.scheduled == {"later": 1}
    assert counts.overdue == 0


def test_statistics_need_a_node(scheduler: Scheduler) -> None:
    """Figures are those of a node; without one the call says what to do."""
    with pytest.raises(LifecycleError, match=r"start\(\)"):
        scheduler.statistics()
    assert scheduler.members() == []
    scheduler.on("k")(lambda _event: None)
    scheduler.start()
    scheduler.schedule("k")
    wait_until(lambda: scheduler.tally.done == 1)
    figures = scheduler.statistics()
    assert (figures.tally.scheduled, figures.tally.fired) == (1, 1)
    assert 0 < figures.lateness_max < DEADLINE * MICROS
    wait_until(lambda: len(scheduler.members()) == 1)

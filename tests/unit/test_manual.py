"""A manual scheduler runs events at their due times, in no time, and lets tests ask."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from duetime import Answer, Dead, Event, Retry, testing
from duetime.errors import ConfigError, LifecycleError
from duetime.event import State
from duetime.testing import FakeClock, ManualScheduler

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture
def scheduler() -> ManualScheduler:
    return ManualScheduler()


def test_an_event_runs_at_its_due_time(scheduler: ManualScheduler) -> None:
    """A handler sees its event at the due time to the microsecond, and not before."""
    times = []
    scheduler.on("order.expire")(lambda event: times.append((event.payload, scheduler.now)))
    begin = scheduler.now
    scheduler.schedule("order.expire", {"order": 42}, after=timedelta(minutes=15))
    assert scheduler.advance(15 * MINUTE - timedelta(microseconds=1)) == []
    assert [event.kind for event in scheduler.advance(timedelta(microseconds=1))] == [
        "order.expire"
    ]
    assert times == [({"order": 42}, begin + 15 * MINUTE)]
    assert scheduler.get(scheduler.fired()[0].id) is None


def test_a_week_has_every_event_at_its_time(scheduler: ManualScheduler) -> None:
    """A long time passes at once, and each event in it runs at its own time, in order."""
    begin, times = scheduler.now, []
    scheduler.on("tick")(lambda event: times.append((event.payload, scheduler.now - begin)))
    for hour in reversed(range(168)):
        scheduler.schedule("tick", hour, after=hour * HOUR)
    assert len(scheduler.advance(timedelta(days=7))) == 168
    assert times == [(hour, hour * HOUR) for hour in range(168)]
    assert scheduler.now == begin + timedelta(days=7)


def test_what_a_handler_schedules_runs_too(scheduler: ManualScheduler) -> None:
    """An event that a handler schedules runs within the same advance."""

    @scheduler.on("countdown")
    def countdown(event: Event) -> None:
        if event.payload:
            scheduler.schedule("countdown", event.payload - 1, after=MINUTE)

    scheduler.schedule("countdown", 3)
    assert [event.payload for event in scheduler.run_due()] == [3]
    assert [event.payload for event in scheduler.advance(2 * MINUTE)] == [2, 1]
    scheduler.assert_scheduled("countdown", 0, after=MINUTE)


def test_failures_are_retried_and_given_up() -> None:
    """What raises is tried again by the retry policy, and dead when it is exhausted."""
    scheduler = ManualScheduler(retries=2, backoff_first=60.0)

    @scheduler.on("flaky")
    def flaky(_event: Event) -> None:
        raise ValueError("never")

    event = scheduler.schedule("flaky")
    scheduler.advance(HOUR)
    assert [fired.attempt for fired in scheduler.fired("flaky")] == [1, 2, 3]
    assert [dead.id for dead in scheduler.dead()] == [event.id]
    assert scheduler.redrive(event.id) is Answer.REDRIVEN
    assert len(scheduler.run_due()) == 1


def test_outcomes_are_honoured(scheduler: ManualScheduler) -> None:
    """Retry moves an event to its own time with its own payload; Dead gives it up."""

    @scheduler.on("job")
    def job(event: Event) -> Retry | Dead | None:
        if event.payload == "again":
            return Retry(after=10 * MINUTE, payload="bad")
        return Dead("as asked") if event.payload == "bad" else None

    scheduler.schedule("job", "again")
    scheduler.run_due()
    scheduler.assert_scheduled("job", "bad", after=10 * MINUTE)
    scheduler.advance(10 * MINUTE)
    assert scheduler.dead()[0].reason == "as asked"


def test_a_cancel_works_until_the_due_instant(scheduler: ManualScheduler) -> None:
    """Nothing is claimed ahead: an event can be taken back until it is due."""
    scheduler.on("report")(lambda _event: None)
    event = scheduler.schedule("report", after=HOUR)
    other = scheduler.schedule("report", after=HOUR)
    scheduler.advance(HOUR - timedelta(microseconds=1))
    assert scheduler.cancel(event.id) is Answer.CANCELLED
    assert scheduler.reschedule(other.id, after=HOUR) is Answer.RESCHEDULED
    assert scheduler.advance(MINUTE) == []
    assert [one.id for one in scheduler.advance(HOUR)] == [other.id]


def test_async_handlers_run(scheduler: ManualScheduler) -> None:
    """An async handler runs on a loop beside the test, and has ended when advance returns."""
    seen = []

    @scheduler.on("mail")
    async def mail(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append((event.payload, threading.current_thread() is threading.main_thread()))

    for number in range(5):
        scheduler.schedule("mail", number, after=number * SECOND)
    assert [event.payload for event in scheduler.advance(MINUTE)] == [0, 1, 2, 3, 4]
    assert seen == [(number, False) for number in range(5)]
    scheduler.close()


def test_batch_handlers_run(scheduler: ManualScheduler) -> None:
    """A batch handler gets the events of one instant together."""
    sizes: list[int] = []
    scheduler.on("row", batch=100)(lambda events: sizes.append(len(events)))
    at = scheduler.now + HOUR
    scheduler.schedule_many({"kind": "row", "at": at} for _ in range(30))
    scheduler.advance(2 * HOUR)
    assert sum(sizes) == 30
    assert max(sizes) == 30


def test_claims_are_pulled(scheduler: ManualScheduler) -> None:
    """A consumer gets what is due, and its confirmation is written at once."""
    claims = scheduler.claims("build")
    early = scheduler.schedule("build", "early")
    late = scheduler.schedule("build", "late", after=HOUR)
    assert [claim.event.payload for claim in claims.take(5)] == ["early"]
    held = scheduler.get(early.id)
    assert held is not None
    assert held.state is State.CLAIMED
    assert scheduler.advance(HOUR) == []
    with next(iter(claims)) as event:
        assert event.id == late.id
    assert scheduler.get(late.id) is None
    assert list(claims) == []


def test_a_rolled_back_claim_comes_again(scheduler: ManualScheduler) -> None:
    """A claim that is rolled back is there again after its delay."""
    claims = scheduler.claims("build")
    scheduler.schedule("build")
    (claim,) = claims.take()
    claim.rollback(after=MINUTE)
    assert claims.take() == []
    scheduler.advance(MINUTE)
    assert len(claims.take()) == 1


def test_an_unknown_kind_waits_for_its_handler(scheduler: ManualScheduler) -> None:
    """An event of a kind without a handler is kept, and runs once there is one."""
    event = scheduler.schedule("late")
    assert scheduler.advance(HOUR) == []
    kept = scheduler.get(event.id)
    assert kept is not None
    assert kept.state is State.PARKED
    scheduler.on("late")(lambda _event: None)
    assert [one.id for one in scheduler.run_due()] == [event.id]


def test_assert_scheduled_says_what_waits(scheduler: ManualScheduler) -> None:
    """An assertion that fails names what was wanted and what waits."""
    event = scheduler.schedule("order.expire", {"order": 1}, after=HOUR)
    assert scheduler.assert_scheduled("order.expire").id == event.id
    assert scheduler.assert_scheduled("order.expire", {"order": 1}, at=event.due_at).id == event.id
    scheduler.assert_not_scheduled("order.pay")
    with pytest.raises(AssertionError, match=r"order\.pay is not scheduled; waiting: order\.exp"):
        scheduler.assert_scheduled("order.pay")
    with pytest.raises(AssertionError, match="is not scheduled"):
        scheduler.assert_scheduled("order.expire", {"order": 2})
    with pytest.raises(AssertionError, match="is not scheduled"):
        scheduler.assert_scheduled("order.expire", after=MINUTE)
    with pytest.raises(AssertionError, match=r"order\.expire is scheduled"):
        scheduler.assert_not_scheduled("order.expire")


def test_fired_can_be_asked_by_kind(scheduler: ManualScheduler) -> None:
    """What ran is listed in order, all or of one kind."""
    for kind in ("a", "b"):
        scheduler.on(kind)(lambda _event: None)
        scheduler.schedule(kind)
    scheduler.run_due()
    assert sorted(event.kind for event in scheduler.fired()) == ["a", "b"]
    assert [event.kind for event in scheduler.fired("b")] == ["b"]


def test_the_jitter_of_retries_repeats() -> None:
    """Two schedulers retry at the same times."""

    def times() -> list[datetime]:
        scheduler = ManualScheduler()
        seen = []

        @scheduler.on("flaky")
        def flaky(_event: Event) -> None:
            seen.append(scheduler.now)
            raise ValueError

        scheduler.schedule("flaky")
        scheduler.advance(HOUR)
        return seen

    assert times() == times()
    assert len(times()) > 5


def test_time_does_not_run_backwards(scheduler: ManualScheduler) -> None:
    """Time can be moved forwards only."""
    with pytest.raises(ValueError, match="backwards"):
        scheduler.advance(-SECOND)


def test_nothing_runs_by_itself(scheduler: ManualScheduler) -> None:
    """To run by itself is refused, and so is moving the clock in a handler."""
    with pytest.raises(LifecycleError, match="advance"):
        scheduler.run()
    with pytest.raises(LifecycleError, match="loop of its own"):
        scheduler.start(beater=True)
    errors = []

    @scheduler.on("odd")
    def odd(_event: Event) -> None:
        try:
            scheduler.advance(MINUTE)
        except LifecycleError as error:
            errors.append(error)

    scheduler.schedule("odd")
    scheduler.run_due()
    assert len(errors) == 1


def test_settings_are_checked() -> None:
    """A wrong setting is refused."""
    with pytest.raises(ConfigError):
        ManualScheduler(retries=-1)


def test_the_kit_needs_no_pytest() -> None:
    """Only the suite of a store needs pytest, and only when it is asked for."""
    code = "import sys, duetime.testing as t; print('pytest' in sys.modules, t.StoreSuite.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "StoreSuite"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = testing.nothing


def test_a_fake_clock_moves_when_told() -> None:
    """Both clocks go on together; the wall clock alone can step."""
    clock = FakeClock(datetime(2027, 3, 1, tzinfo=UTC))
    boot, wall = clock.boot(), clock.wall()
    clock.advance(SECOND)
    clock.advance(5)
    assert (clock.boot() - boot, clock.wall() - wall) == (1_000_005, 1_000_005)
    clock.set_wall(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.boot() - boot == 1_000_005
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)

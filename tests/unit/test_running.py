"""A scheduler that is a node: it runs handlers, tells observers, and ends in order."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.errors import InvalidInput, LifecycleError, StoreUnavailable
from duetime.event import PARKING, Event, State
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.node.stand import (
    DEADLINE,
    QUICK,
    Plan,
    Watch,
    row,
    wait_until,
)


def test_sync_async_and_batch_handlers_run(scheduler: Scheduler) -> None:
    """A node runs every sort of handler, and a decorated function is still itself."""
    ran: list[tuple[str, Any]] = []

    @scheduler.on("sync")
    def sync(event: Event) -> None:
        ran.append(("sync", event.payload))

    @scheduler.on("async")
    async def awaited(event: Event) -> None:
        ran.append(("async", event.payload))

    @scheduler.on("batch", batch=True)
    def batch(events: list[Event]) -> None:
        ran.extend(("batch", event.payload) for event in events)

    scheduler.start()
    for kind in ("sync", "async", "batch"):
        scheduler.schedule_many([{"kind": kind, "payload": n} for n in range(20)])
    wait_until(lambda: len(ran) == 60)
    assert sorted(ran) == sorted(
        (kind, n) for kind in ("sync", "async", "batch") for n in range(20)
    )
    wait_until(lambda: not scheduler.find())
    sync(Event(row(payload=b'"by hand"')))
    assert ran[-1] == ("sync", "by hand")


def test_a_kind_has_one_handler() -> None:
    """A second handler of a kind is refused where it is registered."""
    scheduler = Scheduler("memory://")
    scheduler.on("k")(lambda _event: None)
    with pytest.raises(InvalidInput) as caught:
        scheduler.on("k")(print)
    assert caught.value.code == "handler_duplicate"


def test_a_handler_may_come_after_the_start(scheduler: Scheduler) -> None:
    """What was due before its handler was registered runs once it is: parked, never lost."""
    ran: list[str] = []
    scheduler.start()
    event = scheduler.schedule("late")
    wait_until(lambda: scheduler.counts().parked == {"late": 1})
    kept = scheduler.get(event.id)
    assert kept is not None
    assert (kept.state, kept.row[2]) == (State.PARKED, PARKING)
    scheduler.on("late")(lambda event: ran.append(event.id))
    wait_until(lambda: ran == [event.id])
    wait_until(lambda: not scheduler.find())


def test_retries_follow_the_kinds_backoff(scheduler: Scheduler) -> None:
    """A kind's own backoff decides how often it is tried, and the history tells of each try."""
    attempts: list[int] = []

    @scheduler.on("k", retry=Backoff(retries=2, first=0.001, jitter=False))
    def fail(event: Event) -> None:
        attempts.append(event.attempt)
        raise ValueError("again")

    scheduler.start()
    scheduler.schedule("k")
    wait_until(scheduler.dead)
    assert attempts == [1, 2, 3]
    [dead] = scheduler.dead()
    assert len(dead.history) == 3
    assert dead.last_error == "ValueError: again"


def test_a_cancelled_event_never_runs(scheduler: Scheduler) -> None:
    """Around the due time both answers occur, and none that was cancelled runs."""
    ran: set[str] = set()
    scheduler.on("k")(lambda event: ran.add(event.id))
    scheduler.start()
    wishes = [{"kind": "k", "after": 0.02 + n / 2_000} for n in range(200)]
    ids = [event.id for event in scheduler.schedule_many(wishes)]
    answers = {name: scheduler.cancel(name) for name in reversed(ids)}
    taken = {name for name, answer in answers.items() if answer is Answer.CANCELLED}
    wait_until(lambda: len(ran) == len(ids) - len(taken))
    wait_until(lambda: not scheduler.find())
    assert ran.isdisjoint(taken)
    assert ran | taken == set(ids)


def test_observers_hear_of_a_life() -> None:
    """From schedule to settle each moment is told; a failing observer is no one else's problem."""

    class Broken(Watch):
        def scheduled(self, events: Any) -> None:
            raise ValueError(events)

        def fired(self, count: int) -> None:
            raise ValueError(count)

    watch = Watch()
    with Scheduler(MemoryStore(4), settings=Settings(**QUICK), observers=[Broken(), watch]) as one:
        one.on("k")(lambda _event: None)
        gone = one.schedule("k", after=60)
        one.cancel(gone.id)
        one.start()
        one.schedule("k")
        wait_until(lambda: ("settled", 1, 0, 0) in watch.heard)
    assert watch.heard == [
        ("scheduled", 1),
        ("cancelled", gone.id),
        ("scheduled", 1),
        ("fired", 1),
        ("settled", 1, 0, 0),
    ]


def test_statistics_are_told_every_period() -> None:
    """Observers get the figures every `stats_every` seconds."""
    watch = Watch()
    settings = Settings(**{**QUICK, "stats_every": 0.02})
    with Scheduler(MemoryStore(4), settings=settings, observers=[watch]) as one:
        one.start()
        wait_until(lambda: len(watch.figures) >= 2)


def test_start_is_idempotent(scheduler: Scheduler) -> None:
    """Starting twice is starting once; after a stop it may be started again."""
    node = scheduler.start()
    assert scheduler.start() is node
    scheduler.stop()
    scheduler.stop()
    ran: list[str] = []
    scheduler.on("k")(lambda event: ran.append(event.id))
    assert scheduler.start() is not node
    scheduler.schedule("k")
    wait_until(lambda: len(ran) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_run(scheduler: Scheduler, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end `run()` in order, and the old handlers of signals are back."""
    ran: list[str] = []
    scheduler.on("k")(lambda event: ran.append(event.id))
    scheduler.schedule("k")
    before = signal.getsignal(number)

    def end() -> None:
        wait_until(lambda: len(ran) == 1)
        wait_until(lambda: signal.getsignal(number) is not before)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=end)
    thread.start()
    scheduler.run()
    thread.join(DEADLINE)
    assert scheduler.find() == []
    assert signal.getsignal(number) is before
    assert scheduler.members() == []


def test_a_second_signal_ends_the_grace() -> None:
    """While handlers finish, a second signal gives them back at once."""
    inside, go = threading.Event(), threading.Event()
    store = MemoryStore(4)
    scheduler = Scheduler(store, settings=Settings(**{**QUICK, "grace": 1000}))

    @scheduler.on("k")
    def hang(_event: Event) -> None:
        inside.set()
        assert go.wait(DEADLINE)

    scheduler.schedule("k")
    before = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        assert inside.wait(DEADLINE)
        wait_until(lambda: signal.getsignal(signal.SIGTERM) is not before)
        node = scheduler.start()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: node.claimer.stopped)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    scheduler.run()
    thread.join(DEADLINE)
    assert [one[9] for one in store._rows.values()] == [0]
    go.set()


def test_run_outside_the_main_thread_ends_with_stop() -> None:
    """In another thread `run()` catches no signals; `stop()` ends it."""
    scheduler = Scheduler(MemoryStore(4), settings=Settings(**QUICK))
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    wait_until(lambda: scheduler.is_running("test"))
    scheduler.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_a_dead_stage_ends_run() -> None:
    """When a stage has died, `run()` does not pretend to be a node."""
    scheduler = Scheduler(MemoryStore(4), settings=Settings(**QUICK))
    node = scheduler.start()
    node.shells["claimer"].stop()
    node.shells["claimer"].join(DEADLINE)
    with pytest.raises(LifecycleError, match="stage"):
        scheduler.run()
    assert not scheduler.is_running("test")


def test_what_is_scheduled_right_after_the_start_is_not_early() -> None:
    """Before the first beat is through, the clock is right already."""
    plan, store = Plan(), MemoryStore(4)
    plan.always["beat"] = Fault.REFUSED
    with Scheduler(FaultyStore(store, plan), settings=Settings(**QUICK)) as one:
        one.start()
        event = one.schedule("k", after=60)
        assert event.row[0] > store.time() + 50 * MICROS


def test_a_node_needs_a_store_that_answers() -> None:
    """A node is not started on a store whose clock cannot be read."""
    plan = Plan()
    plan.next("time", Fault.REFUSED)
    with Scheduler(FaultyStore(MemoryStore(4), plan), settings=Settings(**QUICK)) as one:
        with pytest.raises(StoreUnavailable):
            one.start()
        assert not one.is_running("test")
        one.start()

"""The door: schedule, cancel, move, look and run, on every embedded store."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from duetime.clock import MICROS, from_micros
from duetime.config import Settings
from duetime.errors import AnswerLost, ConfigError, InvalidInput, LifecycleError, StoreUnavailable
from duetime.event import PARKING, Event, State
from duetime.outcome import Dead
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.node.stand import DEADLINE, NOW, Plan, Ticker, Watch, replace, row, wait_until

QUICK: dict[str, Any] = {
    "beat": 0.05,
    "lease": 1,
    "margin": 0.3,
    "stats_every": 0,
    "grace": 5,
    "beater": False,
}


@pytest.fixture(params=["memory", "sqlite"])
def scheduler(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scheduler]:
    """Return a scheduler on each embedded store; it is no node yet.

    What survives a power cut is tested elsewhere: here nobody waits for the disk.
    """
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"
    with Scheduler(settings=Settings(store=url, synchronous="NORMAL", **QUICK)) as one:
        yield one


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


# --- run ------------------------------------------------------------------------------------------


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
    scheduler, _, _ = still()
    scheduler.on("k")(lambda _event: None)
    assert refusal(lambda: scheduler.on("k")(print)).code == "handler_duplicate"


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


# --- settings and life ----------------------------------------------------------------------------


def test_settings_come_by_name_or_as_a_whole() -> None:
    """A setting by keyword overrules the Settings object, and is checked like any other."""
    base = Settings(workers=3, shards=8)
    one = Scheduler("memory://", settings=base, workers=5)
    assert (one.settings.workers, one.settings.shards) == (5, 8)
    assert one.settings.store == "memory://"
    assert base.workers == 3
    assert Scheduler("memory://", workers=7).settings.workers == 7


@pytest.mark.parametrize("base", [None, Settings()])
@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workerz": 5}, {"lead": "soon"}])
def test_wrong_settings_are_refused(base: Settings | None, wrong: dict[str, Any]) -> None:
    """A setting out of range or of a name that does not exist is a ConfigError, however given."""
    with pytest.raises(ConfigError):
        Scheduler("memory://", settings=base, **wrong)


def test_settings_of_retries_are_the_default_of_kinds() -> None:
    """A kind without a backoff of its own has that of the settings."""
    one = Scheduler("memory://", retries=2, backoff_first=3, backoff_factor=4, backoff_max=50)
    one.on("k")(print)
    handler = one.handlers.get("k")
    assert handler is not None
    assert handler.backoff == Backoff(retries=2, first=3, factor=4, maximum=50)


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    """Making a scheduler and registering handlers touches no file."""
    path = tmp_path / "events.db"
    one = Scheduler(f"sqlite:///{path}")
    one.on("k")(print)
    assert not path.exists()
    assert not one.opened
    one.schedule("k", after=60)
    assert path.exists()
    assert one.opened
    one.close()


def test_a_store_that_is_empty_is_a_store() -> None:
    """A store object counts as given even when it has a length of nothing."""

    class Sized(MemoryStore):
        def __len__(self) -> int:
            return len(self._rows)

    store = Sized(4)
    one = Scheduler(store, settings=Settings(**QUICK))
    assert one.store is store


def test_after_close_every_call_says_so() -> None:
    """A closed scheduler refuses each call by its name; closing twice is once."""
    one, _, _ = still()
    one.schedule("k", after=60)
    one.close()
    one.close()
    calls: dict[str, Callable[[], object]] = {
        "schedule": lambda: one.schedule("k"),
        "schedule_many": lambda: one.schedule_many([]),
        "cancel": lambda: one.cancel("a"),
        "cancel_many": lambda: one.cancel_many([]),
        "reschedule": lambda: one.reschedule("a"),
        "redrive_many": lambda: one.redrive_many([]),
        "get": lambda: one.get("a"),
        "find": one.find,
        "counts": one.counts,
        "start": one.start,
    }
    for name, call in calls.items():
        with pytest.raises(LifecycleError, match=f"^{name}\\(") as caught:
            call()
        assert caught.value.code == "closed"
    one.stop()


def test_a_forked_child_is_refused() -> None:
    """In a forked child each call says that a new scheduler is needed; the parent's goes on."""
    store = MemoryStore(4)
    one = Scheduler(store, settings=Settings(**QUICK))
    one.on("k")(lambda _event: None)
    one.start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        codes = []
        for call in (lambda: one.schedule("k"), lambda: one.get("a"), one.start, one.stop):
            try:
                call()
                codes.append("none")
            except LifecycleError as error:
                codes.append(error.code)
        one.close()
        os.write(write, " ".join(codes).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "forked forked forked forked"
    os.waitpid(child, 0)
    one.schedule("k")
    wait_until(lambda: one.tally.done == 1)
    one.close()


def test_close_stops_the_node(scheduler: Scheduler) -> None:
    """Closing a scheduler that is a node stops the node first."""
    node = scheduler.start()
    wait_until(lambda: node.fence.number)
    scheduler.close()
    assert not node.running


def test_an_event_made_during_a_stop_is_not_lost() -> None:
    """What is scheduled while the node stops is stored, and run by the next node."""
    store = MemoryStore(4)
    hold, go = threading.Event(), threading.Event()
    one = Scheduler(store, settings=Settings(**QUICK))
    one.on("k")(lambda _event: None)
    one.start()
    insert = store.insert

    def slow(rows: Any) -> Any:
        hold.set()
        assert go.wait(DEADLINE)
        return insert(rows)

    replace(store, insert=slow)
    thread = threading.Thread(target=lambda: one.schedule("k"))
    thread.start()
    assert hold.wait(DEADLINE)
    one.stop()
    go.set()
    thread.join(DEADLINE)
    assert len(store._rows) == 1
    one.start()
    wait_until(lambda: not store._rows)
    one.close()

"""A whole node in real threads: it works, and it stops in order."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.errors import LifecycleError
from duetime.event import Event, Row
from duetime.node.node import Node
from duetime.observer import Level
from duetime.scheduler import Scheduler
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.node.stand import DEADLINE, Plan, Stand, Watch, replace, rows, wait_until


class Live:
    """A scheduler that is a node on a memory store, with a plan for its faults."""

    def __init__(self, **settings: Any) -> None:
        self.memory = MemoryStore(4)
        self.plan = Plan()
        self.watch = Watch()
        quick = {"beat": 0.05, "lease": 1, "margin": 0.3, "stats_every": 0, "grace": 5}
        self.scheduler = Scheduler(
            FaultyStore(self.memory, self.plan),
            settings=Settings(**{**quick, **settings}),
            observers=[self.watch],
        )
        self.node: Node

    def start(self) -> Node:
        self.node = self.scheduler.start()
        wait_until(lambda: self.node.fence.number)
        return self.node

    def rows(self) -> list[Row]:
        return sorted(self.memory._rows.values())


@contextmanager
def live(handlers: dict[str, Callable[..., Any]], **settings: Any) -> Iterator[Live]:
    one = Live(**settings)
    for kind, function in handlers.items():
        one.scheduler.handlers.add(kind, function)
    one.start()
    try:
        yield one
    finally:
        one.scheduler.close()


class Hold:
    """A handler that waits inside until it is let go."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.go = threading.Event()

    def __call__(self, _event: Event) -> None:
        self.inside.set()
        assert self.go.wait(DEADLINE)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(DEADLINE)
    return not thread.is_alive()


def test_events_run_on_time_and_once() -> None:
    """Every event runs exactly once, none before its due time."""
    ran: list[tuple[str, bool]] = []

    def work(event: Event) -> None:
        ran.append((event.id, one.memory.time() >= event.row[0]))

    with live({"k": work}) as one:
        ids = [one.scheduler.schedule("k", after=n / 1000).id for n in range(200)]
        wait_until(lambda: len(ran) >= 200)
        wait_until(lambda: not one.rows())
        assert sorted(name for name, _ in ran) == sorted(ids)
        assert all(punctual for _, punctual in ran)
        assert one.scheduler.lateness.minimum >= 0


def test_beats_stop_last() -> None:
    """During a stop nothing is claimed, the running handler ends, and beats go on until then."""
    hold = Hold()
    with live({"k": hold}) as one:
        one.scheduler.schedule("k")
        assert hold.inside.wait(DEADLINE)
        stopping = in_thread(one.scheduler.stop)
        wait_until(lambda: one.node.claimer.stopped)
        wait_until(lambda: not one.node.shells["firer"].alive)
        one.plan.calls.clear()
        one.memory.insert(rows(3, one.memory.time()))
        wait_until(lambda: one.plan.calls.count("beat") >= 3)
        assert "claim" not in one.plan.calls
        hold.go.set()
        assert ended(stopping)
        assert one.plan.calls[-1] == "strike"
        assert one.plan.calls.index("settle") < len(one.plan.calls) - 1
        assert len(one.rows()) == 3
        assert one.memory._nodes == {}
        assert one.scheduler.tally.done == 1


def test_the_end_of_the_grace_frees_what_still_runs() -> None:
    """A handler that outlasts the grace is given back: it counts as an attempt, not a failure."""
    hold = Hold()
    with live({"k": hold}) as one:
        one.scheduler.schedule("k")
        assert hold.inside.wait(DEADLINE)
        one.scheduler.stop(0)
        [kept] = one.rows()
        assert (kept[6], kept[7], kept[9]) == (1, 0, 0)
        hold.go.set()


def test_a_hurry_ends_the_grace() -> None:
    """A second signal ends the wait for handlers at once."""
    hold = Hold()
    with live({"k": hold}, grace=1000) as one:
        one.scheduler.schedule("k")
        assert hold.inside.wait(DEADLINE)
        stopping = in_thread(one.scheduler.stop)
        wait_until(lambda: one.node.claimer.stopped)
        one.node.hurry()
        assert ended(stopping)
        assert [kept[9] for kept in one.rows()] == [0]
        hold.go.set()


def test_what_has_not_begun_is_given_back() -> None:
    """Events held for later, and those that wait for a worker, are as if never claimed."""
    hold = Hold()
    with live({"k": hold}, workers=1, lead=2) as one:
        for n in range(10):
            one.scheduler.schedule("k", after=1.5 if n % 2 else 0)
        assert hold.inside.wait(DEADLINE)
        wait_until(lambda: len(one.node.timeline) == 5)
        stopping = in_thread(one.scheduler.stop)
        wait_until(lambda: len([kept for kept in one.rows() if not kept[9]]) >= 9)
        assert {kept[6] for kept in one.rows() if not kept[9]} == {0}
        hold.go.set()
        assert ended(stopping)
        assert len(one.rows()) == 9


def test_outcomes_are_written_before_the_end() -> None:
    """A stop waits for a store that refuses for a while: what was done is not done again."""
    hold = Hold()
    with live({"k": hold}) as one:
        one.scheduler.schedule("k")
        assert hold.inside.wait(DEADLINE)
        one.plan.next("settle", Fault.REFUSED, Fault.LOST_BEFORE, Fault.REFUSED)
        hold.go.set()
        one.scheduler.stop()
        assert one.rows() == []
        assert one.plan.calls.count("settle") >= 4


@pytest.mark.parametrize(("hurried", "seconds"), [(False, 25), (True, 1)])
def test_a_store_that_stays_away_does_not_hold_up_the_end(
    hurried: bool,  # noqa: FBT001 - a parameter
    seconds: int,
) -> None:
    """Where nothing can be written a stop ends shortly after the grace, or at once in a hurry."""
    one = Stand(grace=20)
    one.answer("k", lambda _event: None)
    one.join()
    one.insert(rows(3))
    one.claim()
    one.fire()
    one.work()
    one.plan.always["settle"] = Fault.REFUSED

    def wait(micros: int | None) -> bool:
        one.ticker.go_on(micros or 1)
        return False

    one.node.idle = Idle(wait)  # type: ignore[assignment] # time passes while it waits
    if hurried:
        one.node.hurry()
    began = one.ticker.boot()
    one.node.stop()
    assert one.node.settler.waiting() == 3
    assert seconds <= (one.ticker.boot() - began) / MICROS <= seconds + 2
    assert one.memory._nodes == {}


class Idle:
    """A waker on a clock that is set by hand."""

    def __init__(self, wait: Callable[[int | None], bool]) -> None:
        self.wait = wait

    def wake(self) -> None:
        """Nobody sleeps."""


def test_a_node_starts_once() -> None:
    """A node that runs cannot be started again."""
    with live({}) as one, pytest.raises(LifecycleError):
        one.node.start()


def test_a_fault_of_a_stage_is_told_and_outlived() -> None:
    """An unforeseen exception in a stage is told as critical, and the node goes on."""
    ran: list[Event] = []
    with live({"k": ran.append}) as one:
        claim = one.memory.claim
        faults: list[int] = []

        def fail_once(*arguments: Any) -> Any:
            if not faults:
                faults.append(1)
                raise ZeroDivisionError("planted")
            return claim(*arguments)

        replace(one.memory, claim=fail_once)
        one.memory.insert(rows(3, one.memory.time()))
        wait_until(lambda: len(ran) == 3)
        [report] = [r for r in one.watch.errors if "planted" in r.text]
        assert (report.level, report.where) == (Level.CRITICAL, "claimer")
        assert one.node.running


def test_the_switch_interval_is_given_back() -> None:
    """While a node runs threads take turns faster; afterwards as before."""
    before = sys.getswitchinterval()
    with live({}, switch_interval=0.0005):
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert sys.getswitchinterval() == pytest.approx(before)
    with live({}, switch_interval=0):
        assert sys.getswitchinterval() == pytest.approx(before)


def test_a_node_that_was_struck_comes_back_and_goes_on() -> None:
    """A node that others held for dead drops what it holds, and runs it under a new number."""
    ran: list[str] = []
    with live({"k": lambda event: ran.append(event.id)}) as one:
        number = one.node.fence.number
        one.memory.strike(number, None)
        wait_until(lambda: one.node.fence.number > number)
        name = one.scheduler.schedule("k", after=0.02).id
        wait_until(lambda: name in ran)
        wait_until(lambda: not one.rows())


def test_the_store_may_go_away_for_a_while() -> None:
    """An outage longer than the fence stops starts, loses nothing, and ends by itself."""
    ran: list[str] = []
    with live({"k": lambda event: ran.append(event.id)}) as one:
        for call in ("beat", "claim", "peek", "settle", "time"):
            one.plan.always[call] = Fault.REFUSED
        wait_until(lambda: not one.node.fence.is_open(one.node.clock.boot()))
        one.memory.insert(rows(5, one.memory.time()))
        one.plan.always.clear()
        wait_until(lambda: len(ran) == 5)
        wait_until(lambda: not one.rows())
        assert sorted(set(ran)) == sorted(ran)


def test_two_nodes_share_the_work() -> None:
    """Two nodes on one store run every event once, and both take part."""
    ran: list[tuple[int, str]] = []
    store = MemoryStore(16)
    schedulers = []
    for number in (0, 1):
        settings = Settings(beat=0.05, lease=1, margin=0.3, stats_every=0)
        scheduler = Scheduler(store, settings=settings)
        scheduler.handlers.add("k", lambda event, n=number: ran.append((n, event.id)))
        schedulers.append(scheduler)
    nodes = [scheduler.start() for scheduler in schedulers]
    try:
        wait_until(lambda: all(0 < len(node.keeper.shards) < 16 for node in nodes))
        store.insert(rows(500, store.time(), shards=16))
        wait_until(lambda: len(ran) >= 500)
        wait_until(lambda: not store._rows)
        assert len({name for _, name in ran}) == len(ran) == 500
        assert {number for number, _ in ran} == {0, 1}
    finally:
        for scheduler in schedulers:
            scheduler.close()

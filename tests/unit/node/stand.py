"""A whole node on a memory store and a clock set by hand, stepped by the test: no threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from duetime.clock import MICROS, StoreClock
from duetime.config import Settings
from duetime.event import Row, id_of
from duetime.handlers import Handlers
from duetime.node.node import Node
from duetime.observer import ErrorReport, Observer, Observers, Statistics
from duetime.retry import Backoff
from duetime.stores.contract import Member, Store
from duetime.stores.memory import MemoryStore
from duetime.tally import Lateness, Tally
from duetime.testing.faulty_store import Fault, FaultyStore, Fortune

NOW = 1_800_000_000 * MICROS
BOOT = 5_000 * MICROS
MS = MICROS // 1000
# Settings of a node in real threads that shows soon what it does.
QUICK: dict[str, Any] = {
    "beat": 0.05,
    "lease": 1,
    "margin": 0.3,
    "stats_every": 0,
    "grace": 5,
    "beater": False,
}
DEADLINE = 10.0  # seconds after which a condition is held to never come true


class Ticker:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.boot_at = BOOT
        self.wall_at = NOW

    def boot(self) -> int:
        return self.boot_at

    def wall(self) -> int:
        return self.wall_at

    def go_on(self, micros: int) -> None:
        self.boot_at += micros
        self.wall_at += micros


class Watch(Observer):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.errors: list[ErrorReport] = []
        self.figures: list[Statistics] = []

    def scheduled(self, events: Sequence[Any]) -> None:
        self.heard.append(("scheduled", len(events)))

    def cancelled(self, ids: Sequence[str]) -> None:
        self.heard.append(("cancelled", *ids))

    def fired(self, count: int) -> None:
        self.heard.append(("fired", count))

    def settled(self, done: int, retried: int, dead: int) -> None:
        self.heard.append(("settled", done, retried, dead))

    def died(self, ids: Sequence[str]) -> None:
        self.heard.append(("died", *ids))

    def rescued(self, node: int, count: int) -> None:
        self.heard.append(("rescued", node, count))

    def error(self, report: ErrorReport) -> None:
        self.errors.append(report)

    def statistics(self, figures: Statistics) -> None:
        self.figures.append(figures)


class Plan:
    """What befalls the next calls of a store: `plan.next("insert", Fault.LOST_AFTER)`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._faults: list[tuple[str, Fault]] = []
        self.always: dict[str, Fault] = {}

    def next(self, call: str, *faults: Fault) -> None:
        self._faults += [(call, fault) for fault in faults]

    def __call__(self, call: str) -> Fortune:
        self.calls.append(call)
        for index, (planned, fault) in enumerate(self._faults):
            if planned == call:
                del self._faults[index]
                return Fortune(fault)
        return Fortune(self.always.get(call, Fault.NONE))


def row(
    due_at: int = NOW,
    tail: int = 1,
    shard: int = 0,
    *,
    name: str | None = None,
    kind: str = "k",
    payload: bytes = b"null",
    attempt: int = 0,
    failures: int = 0,
    crashes: int = 0,
    claim: int = 0,
    history: bytes | None = None,
) -> Row:
    head = (due_at, tail, shard, name, kind, payload)
    return (*head, attempt, failures, crashes, claim, NOW, history)


def rows(
    count: int, due_at: int = NOW, *, first: int = 1, kind: str = "k", shards: int = 4
) -> list[Row]:
    """Return events that fall due together, spread over the shards."""
    return [row(due_at, tail, tail % shards, kind=kind) for tail in range(first, first + count)]


def replace(thing: Any, **methods: Callable[..., Any]) -> None:
    """Let a test come between: give an object other methods."""
    for name, method in methods.items():
        setattr(thing, name, method)


class Stand:
    """One node, its store, its clock and who watches it."""

    def __init__(
        self,
        *,
        store: MemoryStore | None = None,
        ticker: Ticker | None = None,
        identity: str = "node",
        **overrides: Any,
    ) -> None:
        self.ticker = ticker or Ticker()
        self.memory = store or MemoryStore(4, self.ticker)
        self.plan = Plan()
        self.store: Store = FaultyStore(self.memory, self.plan)
        self.settings = Settings(**{"stats_every": 0, "retries": 3, **overrides})
        self.handlers = Handlers(Backoff(retries=self.settings.retries, jitter=False), 100)
        self.clock = StoreClock(self.ticker, NOW - BOOT)
        self.watch = Watch()
        self.tally = Tally()
        self.lateness = Lateness()
        self.identities = (f"{identity}-{life}" for life in range(1, 1000))
        self.node = Node(
            self.store,
            self.handlers,
            self.settings,
            self.clock,
            Observers([self.watch]),
            self.tally,
            self.lateness,
            Random(1).random,
            lambda: next(self.identities),
            lambda: b"{}",
        )
        self.fed: list[int] = []
        self.node.runner.feed_threads = self.fed.append

    @property
    def now(self) -> int:
        return self.clock.now()

    @property
    def number(self) -> int:
        return self.node.fence.number

    def answer(self, kind: str, function: Callable[..., Any], **options: Any) -> None:
        self.handlers.add(kind, function, **options)

    def join(self) -> Stand:
        """Beat for the first time: on the roll, all shards, an open fence."""
        self.beat()
        assert self.number
        return self

    def beat(self) -> int | None:
        return self.node.keeper.step(self.now)

    def claim(self) -> int | None:
        return self.node.claimer.step(self.now)

    def fire(self) -> int | None:
        return self.node.firer.step(self.now)

    def settle(self, *, flush: bool = False) -> int | None:
        return self.node.settler.step(self.now, flush=flush)

    def work(self) -> None:
        """Do in this thread what the worker threads would do."""
        while (job := self.node.runner.next_job(self.now)) is not None:
            self.node.runner.run(job)

    def live(self, micros: int, step: int = 5 * MS) -> None:
        """Let time pass, with every stage called as it goes."""
        for _ in range(micros // step):
            self.ticker.go_on(step)
            self.beat()
            self.claim()
            self.fire()
            self.work()
            self.settle()

    def insert(self, events: Iterable[Row]) -> list[str]:
        events = list(events)
        assert self.memory.insert(events) == [None] * len(events)
        return [id_of(one) for one in events]

    def held(self) -> list[Row]:
        """Return what is on the timeline, and leave it there."""
        held = self.node.timeline.clear()
        self.node.timeline.add(held)
        return held

    def kept(self) -> list[Row]:
        """Return all rows of the events table, by due time."""
        return sorted(self.memory._rows.values())

    def members(self) -> list[Member]:
        return self.node.keeper.members


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as a condition holds; fail when it does not within the deadline."""
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError(f"never came true: {what or condition}")


def ready(*kinds: str, **settings: Any) -> Stand:
    """Return a node on the roll that answers these kinds at once."""
    stand = Stand(**settings)
    for kind in kinds or ("k",):
        stand.answer(kind, lambda _event: None)
    return stand.join()


def slow(stand: Stand, kind: str, pace: int) -> None:
    """Make a kind as slow as if its handler had been measured."""
    lane = stand.node.lanes.get(kind)
    assert lane is not None
    lane.pace = pace


def claims_until(stand: Stand, done: Callable[[], bool], most: int = 1_000) -> int:
    for count in range(most):
        if done():
            return count
        again = stand.claim()
        assert again is not None
        stand.ticker.go_on(max(again - stand.now, 0))
    raise AssertionError("never done")

"""A scheduler whose time stands still until a test moves it: a week passes in a millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NoReturn

import msgspec

from duetime.clock import MICROS, SystemClock, from_micros, to_micros
from duetime.config import Settings
from duetime.errors import LifecycleError
from duetime.event import PARKING, Event, State
from duetime.handlers import Mode
from duetime.node.lanes import Job, Lane
from duetime.node.node import Node
from duetime.observer import Observer
from duetime.outcome import UNCHANGED
from duetime.pull import Claim, Claims
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.contract import Kinds
from duetime.stores.memory import MemoryStore
from duetime.testing.clocks import FakeClock

__all__ = ["ManualScheduler"]

_START = datetime(2030, 1, 1, tzinfo=UTC)
_PATIENCE = 30 * MICROS  # µs of real time that async handlers may take
_ON_LOOP = (Mode.ASYNC, Mode.ASYNC_BATCH)


class ManualScheduler(Scheduler):
    """A scheduler on a store in memory and a clock of its own, driven by `advance` and `run_due`.

    Handlers run in the caller's thread (async ones on a loop beside it), each at its due time to
    the microsecond, with retries and deaths as in production. Nothing runs by itself: no thread,
    no environment, no file. Settings are given by keyword; the jitter of retries is the same in
    every run.
    """

    def __init__(
        self,
        *,
        start: datetime = _START,
        observers: Sequence[Observer] = (),
        **overrides: Any,
    ) -> None:
        """Begin at an aware datetime. Raises ConfigError for a setting that cannot be."""
        self.clock = FakeClock(start)
        chosen: dict[str, Any] = {"shards": 4, "claim_batch": 100_000, **overrides}
        settings = Settings(**{**chosen, "store": "memory://"})
        # Nothing is claimed ahead, so that a cancel works until the very moment.
        msgspec.structs.force_setattr(settings, "lead", 0.0)
        super().__init__(
            MemoryStore(settings.shards, self.clock),
            settings=settings,
            clock=self.clock,
            chance=Random(0),
            observers=observers,
        )
        self._fired: list[Event] = []
        self._turning = False

    @property
    def now(self) -> datetime:
        """The time that it is here, in UTC."""
        return self.clock.now()

    # --- time ----------------------------------------------------------------------------------

    def advance(self, by: timedelta) -> list[Event]:
        """Let time pass, and run every event at its due time; return those that were run."""
        return self.advance_to(self.now + by)

    def advance_to(self, moment: datetime) -> list[Event]:
        """Let time pass up to an aware datetime; return the events that were run."""
        if self._turning:
            raise LifecycleError("A handler cannot move the clock that it runs by.")
        before = len(self._fired)
        if moment < self.now:
            raise ValueError(f"It is {self.now.isoformat()} already: time does not run backwards.")
        while (soonest := self._soonest(moment)) is not None:
            self.clock.advance(max(timedelta(0), soonest - self.now))
            done = self._progress()
            self._turn()
            if self._progress() == done:
                raise LifecycleError(f"What is due at {soonest.isoformat()} cannot be claimed.")
        self.clock.advance(moment - self.now)
        return self._fired[before:]

    def run_due(self) -> list[Event]:
        """Run what is due now; return the events that were run."""
        return self.advance(timedelta(0))

    # --- what tests ask ------------------------------------------------------------------------

    def fired(self, kind: str | None = None) -> list[Event]:
        """Return the events that handlers were called with so far, in order, one per attempt."""
        return [event for event in self._fired if kind in (None, event.kind)]

    def scheduled(self, kind: str | None = None) -> list[Event]:
        """Return the events that wait, soonest first."""
        return self.find(kind=kind, state=State.SCHEDULED, limit=1000)

    def assert_scheduled(
        self,
        kind: str,
        payload: Any = UNCHANGED,
        *,
        at: datetime | None = None,
        after: timedelta | None = None,
    ) -> Event:
        """Return the soonest event of this kind that waits, with this payload and due time.

        `after` counts from now. Raises AssertionError, and says what waits, if there is none.
        """
        due = self.now + after if after is not None else at
        for event in self.scheduled(kind):
            if payload is not UNCHANGED and event.payload != payload:
                continue
            if due is None or event.due_at == due:
                return event
        waiting = [f"{e.kind} {e.payload!r} at {e.due_at.isoformat()}" for e in self.scheduled()]
        wanted = f"{kind}" + ("" if payload is UNCHANGED else f" {payload!r}")
        wanted += f" at {due.isoformat()}" if due is not None else ""
        raise AssertionError(f"{wanted} is not scheduled; waiting: {'; '.join(waiting) or 'none'}")

    def assert_not_scheduled(self, kind: str) -> None:
        """Raise AssertionError if an event of this kind waits."""
        waiting = self.scheduled(kind)
        if waiting:
            raise AssertionError(f"{kind} is scheduled: {waiting}")

    # --- a node without threads ----------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop | None = None, *, beater: bool = False) -> Node:
        """Return the node, which is stepped by `advance` alone."""
        self._ready("start")
        if loop is not None or beater:
            raise LifecycleError("start(): a ManualScheduler has a loop of its own, and no beater.")
        if self._node is None:
            node = self._node = self.make_node()
            node.runner.feed_threads = lambda _jobs: None
            node.settler.wake = self._settle
            plain = node.runner.job_of

            def job_of(lane: Lane, most: int, now: int) -> Job | None:
                return self._note(plain(lane, most, now))

            vars(node.runner)["job_of"] = job_of  # what async handlers and consumers get
        return self._node

    def run(self) -> NoReturn:
        """Refuse: nothing here runs by itself."""
        raise LifecycleError("run(): a ManualScheduler runs by advance() and run_due() alone.")

    def claims(self, kind: str, *, prefetch: int = 1, retry: Backoff | None = None) -> Claims:
        """Pull events of a kind; what is not due yet is not waited for."""
        self.handlers.pull(kind, retry)
        node = self.start()
        if kind not in self._claims:
            lane = node.lanes.get(kind)
            assert lane is not None
            self._claims[kind] = _ManualClaims(node, lane, self._clock, prefetch)
            vars(self._claims[kind])["look"] = self._turn
        return self._claims[kind]

    def _note(self, job: Job | None) -> Job | None:
        if job is not None:
            self._fired += [Event(row) for row in job.rows]
        return job

    def _soonest(self, until: datetime) -> datetime | None:
        """Return when the next event is due that a handler here would get, at the latest then."""
        high = to_micros(until)
        pulled = tuple(h.kind for h in self.handlers if h.mode is Mode.PULL)
        called = tuple(h.kind for h in self.handlers if h.mode is not Mode.PULL)
        due = [
            *self.store.peek(range(self.store.shards), 0, high, 1, Kinds(None, pulled)),
            *self.store.peek((PARKING,), 0, high, 1, Kinds(called)),
        ]
        return from_micros(min(one.due_at for one in due)) if due else None

    def _turn(self) -> None:
        """Step every stage until nothing more happens at this instant."""
        node, self._turning = self.start(), True
        try:
            before: list[int] = []
            while (now := self._progress()) != before:
                before = now
                self._round(node)
        finally:
            self._turning = False

    def _progress(self) -> list[int]:
        tally = self.tally
        settled = [tally.done, tally.retried, tally.dead, tally.parked, tally.given_back]
        return [tally.claimed, tally.fired, *settled]

    def _round(self, node: Node) -> None:
        node.keeper.step(node.clock.now())
        now = node.clock.now()
        node.claimer.look_again()
        node.claimer.step(now)
        node.firer.step(now)
        while (job := self._note(node.runner.next_job(now))) is not None:
            node.runner.run(job)
        self._wait_for_loop(node)
        node.settler.step(now, flush=True)

    def _wait_for_loop(self, node: Node) -> None:
        """Let async handlers end; only they take real time."""
        lanes = [lane for lane in node.lanes if lane.handler.mode in _ON_LOOP]
        clock = SystemClock()
        deadline = clock.boot() + _PATIENCE
        while any(lane.rows or lane.running for lane in lanes):
            if clock.boot() > deadline:
                raise LifecycleError("An async handler has not ended after 30 s of real time.")
            node.idle.wait(MICROS // 100)
        if lanes:  # a last turn of the loop: what ended there has been reported after it
            asyncio.run_coroutine_threadsafe(_nothing(), node.loops.loop()).result()

    def _settle(self) -> None:
        """Write the outcome of a claim at once, so that a test can look."""
        if not self._turning and self._node is not None:
            self._node.settler.step(self._node.clock.now(), flush=True)


class _ManualClaims(Claims):
    """Claims of a consumer that finds what is due, or nothing."""

    def take(self, most: int = 1, wait: float | None = None) -> list[Claim]:
        """Return up to `most` claims on what is due now; `wait` changes nothing."""
        del wait
        with self.asking(most):
            self.look()
            return self.collect(most)

    def __iter__(self) -> Iterator[Claim]:
        """Yield claims until nothing is due."""
        while claims := self.take(1):
            yield from claims


async def _nothing() -> None:
    """Take one turn of the loop."""

"""Handlers run in a bounded number of threads, or on an event loop with a bound per kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duetime.clock import MICROS, StoreClock, SystemClock
from duetime.event import Event
from duetime.node.node import Node
from duetime.node.pools import ThreadPool
from tests.unit.node.stand import DEADLINE, NOW, Stand, rows, wait_until

FAR = 1 << 60


@contextmanager
def threads(stand: Stand, most: int) -> Iterator[ThreadPool]:
    """Let real threads do the node's work; the clock still stands."""
    pool = ThreadPool(stand.node.runner, stand.clock, most)
    stand.node.runner.feed_threads = pool.feed
    stand.node.fence.until = FAR
    try:
        yield pool
    finally:
        pool.stop()
        for thread in pool._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


def hand(stand: Stand, count: int, **options: Any) -> None:
    stand.insert(rows(count, **options))
    stand.node.stored(NOW, stand.now)
    stand.claim()
    stand.fire()


def finished(stand: Stand) -> Callable[[], bool]:
    return lambda: not stand.node.lanes.held() and not stand.node.runner.is_busy()


class Gate:
    """Handlers that wait until they may go on, and how many were inside at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, _event: object) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.open.wait(DEADLINE)
        with self._lock:
            self.inside -= 1


def test_threads_run_what_is_handed_over() -> None:
    """Every event that falls due is run once, by some thread."""
    ran: list[int] = []
    stand = Stand()
    stand.answer("k", lambda event: ran.append(event.row[1]))
    stand.join()
    with threads(stand, 4):
        for first in range(1, 500, 50):
            hand(stand, 50, first=first)
        wait_until(finished(stand))
    assert sorted(ran) == list(range(1, 501))


def test_the_number_of_threads_is_limited() -> None:
    """Never more handlers run at once than a kind may have workers, however many events wait."""
    gate = Gate()
    stand = Stand(workers=4)
    stand.answer("k", gate)
    stand.join()
    with threads(stand, 4) as pool:
        hand(stand, 40)
        wait_until(lambda: gate.inside == 3)
        hand(stand, 40, first=100)
        assert len(pool._threads) <= 4
        gate.open.set()
        wait_until(finished(stand))
    assert gate.most == 3


def test_a_hanging_kind_leaves_threads_to_others() -> None:
    """When every handler of one kind hangs, another kind still runs at once."""
    gate = Gate()
    ran: list[str] = []
    stand = Stand(workers=4)
    stand.answer("hang", gate)
    stand.answer("fine", lambda event: ran.append(event.id))
    stand.join()
    with threads(stand, 4):
        hand(stand, 20, kind="hang")
        wait_until(lambda: gate.inside == 3)
        hand(stand, 5, first=100, kind="fine")
        wait_until(lambda: len(ran) == 5)
        gate.open.set()
        wait_until(finished(stand))


def test_threads_are_started_when_needed() -> None:
    """A node with nothing to do has no worker threads, and a single event starts one."""
    stand = Stand(workers=16)
    stand.answer("k", lambda _event: None)
    stand.join()
    with threads(stand, 16) as pool:
        assert pool._threads == []
        hand(stand, 1)
        wait_until(finished(stand))
        assert len(pool._threads) == 1


def test_what_waits_behind_a_hanging_handler_runs_elsewhere() -> None:
    """Events that were given to the same worker as a hanging one are taken over by others."""
    held = threading.Event()
    ran: list[int] = []

    def work(event: Event) -> None:
        if event.row[1] == 1:
            assert held.wait(DEADLINE)
        ran.append(event.row[1])

    stand = Stand()
    stand.answer("k", work)
    stand.join()
    stand.node.lanes.all()[0].pace = 1.0
    with threads(stand, 4):
        hand(stand, 8)

        def others_ran() -> bool:
            stand.ticker.go_on(1000)
            stand.fire()
            return len(ran) == 7

        wait_until(others_ran)
        held.set()
        wait_until(finished(stand))
    assert ran[-1] == 1


def test_a_handler_that_exits_does_not_end_its_thread() -> None:
    """After SystemExit and KeyboardInterrupt from handlers, the same threads go on working."""
    ran: list[int] = []

    def leave(event: Event) -> None:
        ran.append(event.row[1])
        raise (SystemExit if event.row[1] % 2 else KeyboardInterrupt)

    stand = Stand(workers=1)
    stand.answer("k", leave)
    stand.join()
    with threads(stand, 1) as pool:
        hand(stand, 6)
        wait_until(finished(stand))
        assert pool._threads[0].is_alive()
    assert len(ran) == 6


# --- the event loop -------------------------------------------------------------------------------


@contextmanager
def loop(stand: Stand) -> Iterator[Node]:
    """Let async handlers run on a loop of the node's own; the clock still stands."""
    stand.node.fence.until = FAR
    try:
        yield stand.node
    finally:
        stand.node.loops.stop()


def test_async_handlers_run_on_one_loop() -> None:
    """Async handlers run on an event loop, all on the same."""
    loops: set[int] = set()

    async def work(_event: Event) -> None:
        loops.add(id(asyncio.get_running_loop()))

    stand = Stand()
    stand.answer("k", work)
    stand.join()
    with loop(stand):
        hand(stand, 20)
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert len(loops) == 1
    assert stand.tally.done == 20


def test_async_concurrency_is_limited() -> None:
    """No more async handlers of a kind run at once than the settings allow, and all run."""
    inside = most = 0
    gate: asyncio.Event | None = None

    async def work(_event: Event) -> None:
        nonlocal inside, most, gate
        gate = gate or asyncio.Event()
        inside += 1
        most = max(most, inside)
        await gate.wait()
        inside -= 1

    stand = Stand(async_workers=7)
    stand.answer("k", work)
    stand.join()
    with loop(stand) as node:
        hand(stand, 30)
        wait_until(lambda: inside == 7)
        assert node.lanes.queued() == 23
        assert gate is not None
        node.loops.loop().call_soon_threadsafe(gate.set)
        wait_until(finished(stand))
    assert most == 7
    assert stand.tally.fired == 30


@pytest.mark.parametrize("batch", [0, 2])
def test_a_slow_async_handler_is_timed_out(batch: int) -> None:
    """An async handler that takes longer than its time-out is stopped; that is a failure."""

    async def hang(_event: object) -> None:
        await asyncio.Event().wait()

    stand = Stand()
    stand.answer("k", hang, timeout=0.01, batch=batch)
    stand.join()
    with loop(stand):
        hand(stand, 3)
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert stand.tally.failed == 3
    assert "TimeoutError" in stand.watch.errors[0].text
    assert [one[7] for one in stand.kept()] == [1, 1, 1]


def test_an_async_batch_handler_gets_a_list() -> None:
    """An async batch handler is called with lists of at most so many events."""
    sizes: list[int] = []

    async def work(events: list[Event]) -> None:
        sizes.append(len(events))

    stand = Stand()
    stand.answer("k", work, batch=10)
    stand.join()
    with loop(stand):
        hand(stand, 25)
        wait_until(finished(stand))
    assert max(sizes) <= 10
    assert sum(sizes) == 25


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(2), KeyboardInterrupt()])
def test_what_an_async_handler_raises_is_a_failure(error: BaseException) -> None:
    """Whatever an async handler raises counts as a failure, and the loop goes on."""

    async def fail(event: Event) -> None:
        if event.row[1] == 1:
            raise error

    stand = Stand()
    stand.answer("k", fail)
    stand.join()
    with loop(stand):
        hand(stand, 1)
        wait_until(finished(stand))
        hand(stand, 3, first=10)
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert (stand.tally.failed, stand.tally.done) == (1, 3)


def test_a_handler_that_cancels_itself_has_failed() -> None:
    """A CancelledError that we did not cause is a failure with a pause, and others still run."""

    async def fail(event: Event) -> None:
        if event.row[1] == 1:
            raise asyncio.CancelledError

    stand = Stand(async_workers=1)
    stand.answer("k", fail)
    stand.join()
    with loop(stand):
        hand(stand, 3)
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert (stand.tally.failed, stand.tally.done) == (1, 2)
    assert [one[7] for one in stand.kept()] == [1]


def test_stopping_the_loop_gives_running_events_back() -> None:
    """Handlers that are cancelled at the end have not failed: their claims are given back."""
    cancelled: list[int] = []
    inside: list[int] = []

    async def hang(event: Event) -> None:
        inside.append(event.row[1])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.row[1])
            raise

    stand = Stand()
    stand.answer("k", hang)
    stand.join()
    with loop(stand):
        hand(stand, 3)
        wait_until(lambda: len(inside) == 3)
    stand.settle(flush=True)
    assert sorted(cancelled) == [1, 2, 3]
    assert [(one[6], one[7], one[9]) for one in stand.kept()] == [(1, 0, 0)] * 3
    assert stand.node.lanes.held() == 0
    assert stand.tally.failed == 0


def test_handlers_run_on_a_loop_that_is_given() -> None:
    """Where the caller gives a loop of its own, handlers run there and it is not closed."""
    stand = Stand()

    async def main() -> None:
        ran = asyncio.Event()

        async def work(_event: Event) -> None:
            ran.set()

        stand.answer("k", work)
        stand.join()
        stand.node.loops.use(asyncio.get_running_loop())
        hand(stand, 1)
        await asyncio.wait_for(ran.wait(), DEADLINE)
        stand.node.loops.stop()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert stand.tally.fired == 1


def test_async_handlers_do_not_begin_behind_a_closed_fence() -> None:
    """An async handler is not started when the fence has closed since its event was queued."""
    ran: list[Event] = []

    async def work(event: Event) -> None:
        ran.append(event)

    stand = Stand()
    stand.answer("k", work)
    stand.join()
    with loop(stand) as node:
        stand.insert(rows(3))
        stand.claim()
        node.runner.feed_loop = lambda lane: None
        stand.fire()
        node.fence.until = 0
        node.loops.feed(node.lanes.all()[0])
        wait_until(finished(stand))
    assert ran == []
    stand.settle(flush=True)
    assert [(one[6], one[9]) for one in stand.kept()] == [(0, 0)] * 3


def test_after_a_rejoin_async_handlers_run_again() -> None:
    """A node held for dead cancels what runs, and serves new events under its new number."""
    inside: list[int] = []
    hang = True

    async def work(event: Event) -> None:
        inside.append(event.row[1])
        if hang:
            await asyncio.Event().wait()

    stand = Stand(async_workers=2)
    stand.answer("k", work)
    stand.join()
    with loop(stand):
        hand(stand, 2)
        wait_until(lambda: len(inside) == 2)
        stand.memory.strike(1, None)
        stand.beat()
        wait_until(finished(stand))
        hang = False
        stand.beat()
        stand.node.fence.until = FAR
        assert stand.number == 2

        def served() -> bool:
            stand.claim()
            stand.fire()
            stand.settle(flush=True)
            stand.ticker.go_on(MICROS // 100)
            return not stand.kept()

        wait_until(served)
    assert stand.tally.failed == 0


def test_a_real_clock_stops_a_pool_of_idle_threads() -> None:
    """Idle threads end when the pool is stopped."""
    stand = Stand()
    stand.answer("k", lambda _event: None)
    stand.join()
    pool = ThreadPool(stand.node.runner, StoreClock(SystemClock()), 3)
    pool.feed(3)
    wait_until(lambda: pool._idle == 3)
    pool.stop()
    for thread in pool._threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in pool._threads)

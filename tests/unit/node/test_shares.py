"""Quick async handlers get several events at a time, and no event is the worse for it."""

from __future__ import annotations

import asyncio
import threading

from duetime.clock import MICROS
from duetime.event import Event
from duetime.node.lanes import Job
from tests.unit.node.stand import DEADLINE, NOW, Stand, replace, rows, wait_until
from tests.unit.node.test_pools import finished, hand, loop

QUICK = 1.0  # µs


def quick(stand: Stand) -> Stand:
    """Let the node believe that it has measured quick handlers."""
    stand.join()
    stand.node.lanes.all()[0].pace = QUICK
    return stand


def test_quick_handlers_share_a_job() -> None:
    """Events of a handler that waits for nothing are served several at a time, each once."""
    ran: list[int] = []
    jobs: list[Job] = []

    async def work(event: Event) -> None:
        ran.append(event.row[1])

    stand = Stand()
    stand.answer("k", work)
    finish = stand.node.runner.finish

    def noted(job: Job, micros: int) -> None:
        jobs.append(job)
        finish(job, micros)

    replace(stand.node.runner, finish=noted)
    with loop(quick(stand)):
        hand(stand, 40)
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert sorted(ran) == list(range(1, 41))
    assert stand.tally.done == 40
    assert stand.lateness.count == 40
    assert len(jobs) < 10


def test_a_handler_that_waits_gets_one_at_a_time() -> None:
    """Events of a handler that waits for something wait beside one another, not in line."""
    inside: list[int] = []

    async def work(event: Event) -> None:
        inside.append(event.row[1])
        await asyncio.Event().wait()

    stand = Stand()
    stand.answer("k", work)
    stand.join()
    stand.node.lanes.all()[0].pace = 1_000.0
    with loop(stand):
        hand(stand, 20)
        wait_until(lambda: len(inside) == 20)


def test_what_waits_behind_a_hanging_handler_runs_beside_it() -> None:
    """Events in one job with an async handler that hangs are taken over by other tasks."""
    held = threading.Event()
    ran: list[int] = []

    async def work(event: Event) -> None:
        if event.row[1] == 1:
            await asyncio.to_thread(held.wait, DEADLINE)
        ran.append(event.row[1])

    stand = Stand()
    stand.answer("k", work)
    with loop(quick(stand)):
        hand(stand, 8)

        def others_ran() -> bool:
            stand.ticker.go_on(1000)
            stand.fire()
            return len(ran) == 7

        wait_until(others_ran)
        held.set()
        wait_until(finished(stand))
    stand.settle(flush=True)
    assert ran[-1] == 1
    assert stand.tally.done == 8


def test_stopping_gives_back_what_had_not_begun() -> None:
    """Of a job that is cancelled, the running event counts an attempt and the others none."""
    inside: list[int] = []

    async def hang(event: Event) -> None:
        inside.append(event.row[1])
        await asyncio.Event().wait()

    stand = Stand()
    stand.answer("k", hang)
    with loop(quick(stand)):
        hand(stand, 3)
        wait_until(lambda: len(inside) == 2)
    stand.settle(flush=True)
    assert sorted(one[6] for one in stand.kept()) == [0, 1, 1]
    assert {one[9] for one in stand.kept()} == {0}
    assert stand.node.lanes.held() == 0
    assert stand.tally.failed == 0


def test_a_closed_fence_keeps_back_the_rest_of_a_job() -> None:
    """When the node may no longer start handlers, no further event of a job is begun."""
    ran: list[int] = []
    stand = Stand()

    async def work(event: Event) -> None:
        ran.append(event.row[1])
        stand.node.fence.until = 0

    stand.answer("k", work)
    with loop(quick(stand)):
        hand(stand, 8)
        wait_until(finished(stand))
    assert len(ran) == 1
    assert stand.tally.dropped == 7


def test_the_loop_serves_others_between_jobs() -> None:
    """A crowd of events of a quick handler does not keep the loop from everyone else."""
    count = 4_000
    turns: list[int] = []
    stand = Stand()

    async def main() -> None:
        ran: list[int] = []

        async def work(event: Event) -> None:
            ran.append(event.row[1])

        stand.answer("k", work)
        stand.node.loops.use(asyncio.get_running_loop())
        quick(stand)
        stand.insert(rows(count))
        stand.node.stored(NOW, stand.now)
        for _ in range(8):
            stand.claim()
            stand.ticker.go_on(MICROS // 1000)
        stand.fire()
        assert stand.node.lanes.queued() == count
        async with asyncio.timeout(DEADLINE):
            while len(ran) < count:
                turns.append(len(ran))
                await asyncio.sleep(0)
        stand.node.loops.stop()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert len([one for one in turns if one]) >= 2

"""Pull, awaited: tasks wait on the loop, and neither hold up others nor lose events."""

from __future__ import annotations

import asyncio

import pytest

from duetime.aio import AsyncClaims
from duetime.clock import MICROS
from tests.unit.awaiting import door, run, until
from tests.unit.node.stand import DEADLINE


def test_async_claims_confirm_and_roll_back() -> None:
    """A block that ends confirms, one that raises rolls back, and an answer counts once."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k")
            await scheduler.schedule("k", 1)
            [claim] = await claims.take(1, DEADLINE)
            async with claim as event:
                assert event.payload == 1
            assert not claim.confirm()
            await until(lambda: not store._rows)
            name = (await scheduler.schedule("k", 2)).id
            [claim] = await claims.take(1, DEADLINE)
            with pytest.raises(KeyError):
                async with claim:
                    raise KeyError("no stock")
            assert not claim.rollback(5)
            await until(lambda: [row[9] for row in store._rows.values()] == [0])
            event_kept = await scheduler.get(name)
            assert event_kept is not None
            assert event_kept.last_error == "KeyError: 'no stock'"

    run(main)


def test_iterating_yields_claims_until_closed() -> None:
    """`async for` over claims goes on until they are closed."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k", prefetch=4)
            await scheduler.schedule_many([{"kind": "k", "payload": n} for n in range(9)])
            seen: list[int] = []
            async for claim in claims:
                async with claim as event:
                    seen.append(event.payload)
                if len(seen) == 9:
                    claims.close()
            assert sorted(seen) == list(range(9))
            await until(lambda: not store._rows)

    run(main)


def test_a_wait_ends_without_an_event() -> None:
    """When nothing comes within the wait, nothing is taken, and nobody waits any more."""

    async def main() -> None:
        async with door() as (scheduler, _):
            claims = await scheduler.claims("k")
            assert await claims.take(1, 0) == []
            assert await claims.take(1, 0.01) == []
            assert claims._claims._lane.demand == 0
            assert claims._claims._listeners == []

    run(main)


def test_a_cancelled_consumer_loses_no_event() -> None:
    """An event that comes after its consumer was cancelled goes to the next one."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k")
            lane = claims._claims._lane
            tasks = [asyncio.create_task(claims.take()) for _ in range(5)]
            await until(lambda: lane.demand == 5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert lane.demand == 0
            for n in range(5):
                await scheduler.schedule("k", n)
            for _ in range(5):
                [claim] = await claims.take(1, DEADLINE)
                claim.confirm()
            await until(lambda: not store._rows)
            assert lane.running == lane.held == 0

    run(main)


def test_many_waiting_consumers_hold_up_nobody() -> None:
    """However many tasks wait for events, every other call goes through at once."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k")
            got: list[object] = []

            async def consume(claims: AsyncClaims) -> None:
                [claim] = await claims.take()
                async with claim as event:
                    got.append(event.payload)

            tasks = [asyncio.create_task(consume(claims)) for _ in range(40)]
            await until(lambda: claims._claims._lane.demand == 40)
            await asyncio.wait_for(scheduler.counts(), 0.4)
            await scheduler.schedule_many([{"kind": "k", "payload": n} for n in range(40)])
            await asyncio.gather(*tasks)
            assert sorted(map(str, got)) == sorted(map(str, range(40)))
            await until(lambda: not store._rows)

    run(main)


def test_leaving_the_loop_puts_back_what_was_prefetched() -> None:
    """Claims that were prefetched and not yielded are as if never handed out."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k", prefetch=10)
            await scheduler.schedule_many([{"kind": "k"}] * 10)
            async for claim in claims:
                claim.confirm()
                break
            await until(lambda: [row[9] for row in store._rows.values()] == [0] * 9)
            assert {row[6] for row in store._rows.values()} == {0}

    run(main)


def test_stopping_ends_the_waiting() -> None:
    """When the scheduler stops, tasks that wait for events end empty-handed."""

    async def main() -> None:
        async with door() as (scheduler, _):
            claims = await scheduler.claims("k")
            task = asyncio.create_task(claims.take())
            await until(lambda: claims._claims._lane.demand == 1)
            await scheduler.stop()
            assert await task == []

    run(main)


def test_a_claim_is_due_when_it_is_handed_out() -> None:
    """A waiting task gets an event when it is due, not when it is claimed."""

    async def main() -> None:
        async with door() as (scheduler, store):
            claims = await scheduler.claims("k")
            task = asyncio.create_task(claims.take(1, DEADLINE))
            event = await scheduler.schedule("k", after=0.05)
            [claim] = await task
            late = store.time() - event.row[0]
            assert 0 <= late < DEADLINE * MICROS
            claim.confirm()

    run(main)

"""The awaitable door: the same words, without ever holding up the loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from duetime.aio import AsyncClaim, AsyncClaims, AsyncScheduler
from duetime.config import Settings
from duetime.errors import AnswerLost, InvalidInput, LifecycleError
from duetime.event import Event, State
from duetime.outcome import Dead
from duetime.pull import Claim, Claims
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.awaiting import door, run, until
from tests.unit.node.stand import DEADLINE, QUICK, Plan, replace

# What the synchronous scheduler shows to those who run or simulate it, reached by `sync`.
INSIDE = {"intake", "is_running", "make_node", "opened", "signals", "store"}


def public(thing: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(thing, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_doors_have_the_same_words() -> None:
    """Every method of one scheduler is one of the other, with the same parameters and defaults."""
    sync, awaited = public(Scheduler), public(AsyncScheduler)
    assert sync.keys() - INSIDE == awaited.keys()
    for name, signature in awaited.items():
        parameters = dict(sync[name].parameters)
        if name == "start":
            del parameters["loop"]  # the awaitable door runs on the loop that calls it
        assert list(parameters.values()) == list(signature.parameters.values()), name


def test_both_sorts_of_claims_have_the_same_words() -> None:
    """A claim of one door can be answered in every way that one of the other can."""
    assert public(Claim) == public(AsyncClaim)
    own = {"take", "close"}
    assert {name: public(Claims)[name].parameters.keys() for name in own} == {
        name: public(AsyncClaims)[name].parameters.keys() for name in own
    }


def test_an_async_claim_may_be_given_up() -> None:
    """A task may say that an event is hopeless."""

    async def main() -> None:
        async with door() as (scheduler, _):
            claims = await scheduler.claims("k")
            await scheduler.schedule("k")
            [claim] = await claims.take(1, DEADLINE)
            assert claim.give_up("hopeless")
            assert not claim.confirm()
            async with asyncio.timeout(DEADLINE):
                while not (dead := await scheduler.dead()):  # noqa: ASYNC110 - as in until
                    await asyncio.sleep(0.002)
            assert dead[0].reason == "hopeless"

    run(main)


def test_every_word_is_awaitable() -> None:
    """All but the decorator `on` are coroutines."""
    for name, member in inspect.getmembers(AsyncScheduler, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.iscoroutinefunction(member) == (name != "on"), name


def test_a_life_of_events() -> None:
    """Schedule, look, move, cancel, find, count: awaited, with the answers of the other door."""

    async def main() -> None:
        async with door() as (scheduler, _):
            event = await scheduler.schedule("k", {"n": 1}, after=60, id="a")
            again = await scheduler.schedule("k", {"n": 2}, id="a")
            assert (event.created, again.created, again.payload) == (True, False, {"n": 1})
            assert await scheduler.get("a") == event
            assert await scheduler.reschedule("a", after=timedelta(hours=1)) is Answer.RESCHEDULED
            many = await scheduler.schedule_many([{"kind": "m", "after": 60}] * 3)
            assert len(await scheduler.find(kind="m")) == 3
            assert (await scheduler.counts()).scheduled == {"k": 1, "m": 3}
            answers = await scheduler.cancel_many([one.id for one in many])
            assert answers == [Answer.CANCELLED] * 3
            assert await scheduler.cancel("a") is Answer.CANCELLED
            assert await scheduler.cancel("a") is Answer.UNKNOWN
            assert await scheduler.redrive("a") is Answer.UNKNOWN
            assert await scheduler.redrive_many(["a", "b"]) == [Answer.UNKNOWN] * 2
            assert await scheduler.find(state=State.SCHEDULED) == []
            assert await scheduler.members() == []

    run(main)


def test_bad_input_is_refused() -> None:
    """What is wrong is refused with the same codes, and nothing is written."""

    async def main() -> None:
        async with door() as (scheduler, store):
            for call, code in (
                (scheduler.schedule("a b"), "kind_invalid"),
                (scheduler.schedule("k", after=-1), "delay_range"),
                (scheduler.cancel(""), "id_invalid"),
                (scheduler.find(limit=0), "page_invalid"),
                (scheduler.schedule_many([{"kind": "k"}, {}]), "field_unknown"),
            ):
                with pytest.raises(InvalidInput) as caught:
                    await call
                assert caught.value.code == code
            assert not store._rows

    run(main)


def test_tasks_share_commits() -> None:
    """Many tasks that schedule and cancel at once are written together."""

    async def main() -> None:
        async with door() as (scheduler, store):
            events = await asyncio.gather(
                *(scheduler.schedule("k", n, after=60) for n in range(500))
            )
            assert [event.payload for event in events] == list(range(500))
            assert len(store._rows) == 500
            saved = scheduler.sync.tally.saves
            assert saved < 50
            answers = await asyncio.gather(*(scheduler.cancel(event.id) for event in events))
            assert set(answers) == {Answer.CANCELLED}
            assert scheduler.sync.tally.saves - saved < 50
            assert not store._rows

    run(main)


def test_a_slow_store_does_not_hold_up_the_loop() -> None:
    """While the store writes, the loop goes on."""
    go = threading.Event()

    async def main() -> None:
        async with door() as (scheduler, store):
            insert = store.insert

            def slow(rows: Any) -> Any:
                assert go.wait(DEADLINE)
                return insert(rows)

            replace(store, insert=slow)
            task = asyncio.create_task(scheduler.schedule("k", after=60))
            beats = 0
            while beats < 20:
                await asyncio.sleep(0.001)
                beats += 1
            assert not task.done()
            go.set()
            assert (await task).created

    run(main)


def test_a_lost_answer_is_raised() -> None:
    """An answer that stays in doubt is raised to the task that asked."""

    async def main() -> None:
        plan = Plan()
        store = FaultyStore(MemoryStore(4), plan)
        async with AsyncScheduler(store, settings=Settings(**QUICK)) as scheduler:
            event = await scheduler.schedule("k", after=60)
            plan.always.update(cancel=Fault.LOST_AFTER, insert=Fault.LOST_AFTER)
            with pytest.raises(AnswerLost):
                await scheduler.cancel(event.id)
            with pytest.raises(AnswerLost):
                await scheduler.schedule("k")

    run(main)


def test_async_handlers_run_on_the_callers_loop() -> None:
    """A node of the awaitable door runs async handlers on its loop, sync ones in threads."""

    async def main() -> None:
        here, ran = asyncio.get_running_loop(), list[tuple[str, object]]()
        async with door() as (scheduler, store):

            @scheduler.on("async")
            async def awaited(event: Event) -> None:
                ran.append((event.kind, asyncio.get_running_loop()))

            @scheduler.on("sync")
            def plain(event: Event) -> None:
                ran.append((event.kind, threading.current_thread() is threading.main_thread()))

            @scheduler.on("hopeless")
            async def hopeless(_event: Event) -> Dead:
                return Dead("no hope")

            await scheduler.start()
            for kind in ("async", "sync", "hopeless"):
                await scheduler.schedule(kind)
            await until(lambda: len(ran) == 2)
            await until(lambda: not store._rows)
            assert sorted(ran, key=lambda one: one[0]) == [("async", here), ("sync", False)]
            [dead] = await scheduler.dead()
            assert dead.reason == "no hope"
            assert (await scheduler.statistics()).tally.fired == 3
            assert await scheduler.fire_now(dead.id) is Answer.DEAD
            assert plain.__name__ == "plain"
            assert inspect.iscoroutinefunction(awaited)
            await scheduler.stop()
            with pytest.raises(LifecycleError):
                await scheduler.statistics()

    run(main)


def test_a_stop_waits_for_async_handlers() -> None:
    """A running async handler finishes on the loop while `stop` waits for it."""

    async def main() -> None:
        inside, go = asyncio.Event(), asyncio.Event()
        async with door() as (scheduler, store):

            @scheduler.on("k")
            async def work(_event: Event) -> None:
                inside.set()
                await go.wait()

            await scheduler.start()
            await scheduler.schedule("k")
            await inside.wait()
            stopping = asyncio.create_task(scheduler.stop())
            await asyncio.sleep(0.01)
            assert not stopping.done()
            go.set()
            await stopping
            assert not store._rows

    run(main)


def test_the_end_of_the_grace_cancels_async_handlers() -> None:
    """An async handler that outlasts the grace is cancelled, and its event given back."""

    async def main() -> None:
        inside = asyncio.Event()
        ended: list[str] = []
        async with door() as (scheduler, store):

            @scheduler.on("k")
            async def work(_event: Event) -> None:
                inside.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("cancelled")

            await scheduler.start()
            await scheduler.schedule("k")
            await inside.wait()
            await scheduler.stop(0)
            await until(lambda: ended)
            assert [(row[6], row[7], row[9]) for row in store._rows.values()] == [(1, 0, 0)]

    run(main)


def test_run_ends_with_a_signal() -> None:
    """`run()` is a node until SIGTERM, and then stops in order."""

    async def main() -> None:
        async with door() as (scheduler, store):
            ran: list[str] = []
            scheduler.on("k")(lambda event: ran.append(event.id))
            await scheduler.schedule("k")
            before = signal.getsignal(signal.SIGTERM)
            task = asyncio.create_task(scheduler.run())
            await until(lambda: len(ran) == 1)
            await until(lambda: signal.getsignal(signal.SIGTERM) is not before)
            os.kill(os.getpid(), signal.SIGTERM)
            await task
            assert not store._rows
            assert not store._nodes

    run(main)


def test_run_ends_with_its_task() -> None:
    """Cancelling the task of `run()` stops the node before the task ends."""

    async def main() -> None:
        async with door() as (scheduler, store):
            task = asyncio.create_task(scheduler.run())
            await until(lambda: store._nodes)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not store._nodes

    run(main)


def test_after_close_every_call_says_so() -> None:
    """A closed scheduler refuses each call by its name; closing twice is once."""

    async def main() -> None:
        async with door() as (scheduler, _):
            await scheduler.schedule("k", after=60)
            await scheduler.close()
            await scheduler.close()
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "schedule": lambda: scheduler.schedule("k"),
                "schedule_many": lambda: scheduler.schedule_many([]),
                "cancel": lambda: scheduler.cancel("a"),
                "get": lambda: scheduler.get("a"),
                "find": scheduler.find,
                "counts": scheduler.counts,
                "claims": lambda: scheduler.claims("k"),
                "start": scheduler.start,
            }
            for name, call in calls.items():
                with pytest.raises(LifecycleError, match=f"^{name}\\(") as caught:
                    await call()
                assert caught.value.code == "closed"

    run(main)


def test_another_loop_is_refused() -> None:
    """A scheduler belongs to the loop that used it first, as long as that loop is there."""
    scheduler = AsyncScheduler(MemoryStore(4), settings=Settings(**QUICK))
    codes: list[str] = []

    def elsewhere() -> None:
        for call in (scheduler.schedule, scheduler.claims):
            try:
                asyncio.run(call("k"))
            except LifecycleError as error:
                codes.append(error.code)

    async def main() -> None:
        await scheduler.schedule("k", after=60)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await until(lambda: not thread.is_alive())

    run(main)
    assert codes == ["other_loop", "other_loop"]

    async def later() -> None:
        assert (await scheduler.schedule("k", after=60)).created
        await scheduler.close()

    run(later)

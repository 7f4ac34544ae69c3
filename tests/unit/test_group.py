"""Group commit: callers that come while a write is on its way share the next one."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duetime.aio_group import AsyncGroup
from duetime.errors import AnswerLost, StoreUnavailable
from duetime.group import Group
from tests.unit.node.stand import DEADLINE, wait_until


class Writer:
    """A write that can be held up, and remembers each batch and who wrote it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self.go.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        return [ValueError(item) if item < 0 else item * 10 for item in items]


class Callers:
    """Threads that each submit one item, and what they got."""

    def __init__(self, group: Group[int, int]) -> None:
        self.group = group
        self.got: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def submit(self, item: int) -> None:
        def call() -> None:
            try:
                self.got[item] = self.group.submit(item)
            except BaseException as error:  # noqa: BLE001 - what is looked at
                self.got[item] = error

        thread = threading.Thread(target=call, name=f"caller-{item}")
        self.threads.append(thread)
        thread.start()

    def submit_behind(self, items: Sequence[int]) -> None:
        """Submit one after the other, each queued before the next, behind a write on its way."""
        for item in items:
            queued = len(self.group._queue)
            self.submit(item)
            wait_until(lambda: len(self.group._queue) == queued + 1)  # noqa: B023 - awaited here

    def join(self) -> dict[int, object]:
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        return self.got


def held_up(most: int = 100) -> tuple[Writer, Callers]:
    """Return a writer in the middle of caller 0's write, which does not end yet."""
    writer = Writer()
    writer.go.clear()
    callers = Callers(Group(writer, most))
    callers.submit(0)
    assert writer.begun.wait(DEADLINE)
    return writer, callers


def test_who_is_alone_writes_at_once() -> None:
    """A single caller writes in its own thread, without waiting for anyone."""
    writer = Writer()
    group: Group[int, int] = Group(writer, 10)
    assert [group.submit(4), group.submit(5)] == [40, 50]
    assert writer.batches == [[4], [5]]
    assert set(writer.threads) == {threading.current_thread().name}


def test_many_share_one_write() -> None:
    """All who come while a write is on its way go into the next, in order, each with its answer."""
    writer, callers = held_up()
    callers.submit_behind(range(1, 9))
    writer.go.set()
    assert callers.join() == {item: item * 10 for item in range(9)}
    assert writer.batches == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_a_write_has_a_limit() -> None:
    """No write takes more than so many items; the rest goes into the one after."""
    writer, callers = held_up(most=3)
    callers.submit_behind(range(1, 9))
    writer.go.set()
    assert callers.join() == {item: item * 10 for item in range(9)}
    assert writer.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def test_leadership_passes_on() -> None:
    """Each write is done by one of those who wait for it: there is no thread of its own."""
    writer, callers = held_up(most=2)
    callers.submit_behind(range(1, 5))
    writer.go.set()
    callers.join()
    assert writer.threads == ["caller-0", "caller-1", "caller-3"]
    assert not callers.group._busy


def test_an_error_reaches_all() -> None:
    """When a write fails, every caller whose item was in it hears of it; the next write is fine."""
    writer, callers = held_up()
    callers.submit_behind([1, 2, 3])
    writer.error = StoreUnavailable("away")
    writer.go.set()
    assert all(isinstance(got, StoreUnavailable) for got in callers.join().values())
    writer.error = None
    assert callers.group.submit(7) == 70


def test_an_answer_may_be_an_error_of_one() -> None:
    """An answer that is an exception is raised to its own caller only."""
    writer, callers = held_up()
    callers.submit_behind([-1, 2])
    writer.go.set()
    got = callers.join()
    assert isinstance(got[-1], ValueError)
    assert (got[0], got[2]) == (0, 20)
    with pytest.raises(ValueError, match="-5"):
        callers.group.submit(-5)


def test_too_few_answers_hang_nobody() -> None:
    """A write that answers too few is an error to all, and nobody waits for ever."""
    writer, callers = held_up()
    group: Group[int, int] = callers.group
    write: Callable[[list[int]], Any] = writer.__call__
    group._write = lambda items: write(items)[:-1] if len(items) > 1 else write(items)
    callers.submit_behind([1, 2])
    writer.go.set()
    got = callers.join()
    assert isinstance(got[1], ValueError)
    assert isinstance(got[2], ValueError)


def test_the_interrupt_of_the_writer_is_not_the_others() -> None:
    """When the writing caller is interrupted, the others hear that the answer is lost."""
    writer, callers = held_up()
    callers.submit_behind([1, 2])
    writer.error = KeyboardInterrupt()
    writer.go.set()
    got = callers.join()
    assert isinstance(got[0], KeyboardInterrupt)
    assert isinstance(got[1], KeyboardInterrupt)
    assert isinstance(got[2], AnswerLost)


def test_an_interrupted_caller_holds_up_nobody() -> None:
    """Ctrl-C while waiting takes the item out, and the others are served."""
    writer, callers = held_up()
    main = threading.get_ident()
    callers.submit_behind([1])

    def interrupt() -> None:
        wait_until(lambda: len(callers.group._queue) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            callers.group.submit(99)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join(DEADLINE)
    callers.submit_behind([2])
    writer.go.set()
    assert callers.join() == {0: 0, 1: 10, 2: 20}
    assert writer.batches == [[0], [1, 2]]


def test_an_interrupted_heir_passes_on() -> None:
    """Who is interrupted when its turn to write has come leaves the turn to the next."""
    writer, callers = held_up()
    group = callers.group

    class Interrupted:
        def acquire(self) -> None:
            wait_until(lambda: ticket.leads)
            raise KeyboardInterrupt

        def release(self) -> None:
            """Wake nobody."""

    caught: list[BaseException] = []

    def heir() -> None:
        try:
            group._wait(ticket)
        except KeyboardInterrupt as error:
            caught.append(error)

    callers.submit_behind([1])
    [first] = group._queue
    ticket: Any = type(first)(99)
    ticket.lock = Interrupted()
    group._queue.insert(0, ticket)
    thread = threading.Thread(target=heir)
    thread.start()
    writer.go.set()
    thread.join(DEADLINE)
    assert caught
    assert callers.join() == {0: 0, 1: 10}
    assert not any(99 in batch for batch in writer.batches)


def test_a_crowd_is_served() -> None:
    """Under contention every caller gets its own answer, and the place is free at the end."""
    writer = Writer()
    group: Group[int, int] = Group(writer, 7)
    wrong: list[object] = []

    def many(start: int) -> None:
        wrong.extend(item for item in range(start, start + 200) if group.submit(item) != item * 10)

    threads = [threading.Thread(target=many, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert not wrong
    assert sum(len(batch) for batch in writer.batches) == 1600
    assert not group._busy


# --- tasks ----------------------------------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - conditions of threads set no asyncio event
            await asyncio.sleep(0.001)


def async_group(writer: Writer, most: int = 100) -> tuple[AsyncGroup[int, int], ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(2, thread_name_prefix="writer")
    return AsyncGroup(writer, most, executor), executor


def test_tasks_share_one_write() -> None:
    """Tasks that submit while a write is on its way share the next, which is not on the loop."""

    async def main() -> None:
        writer = Writer()
        writer.go.clear()
        group, executor = async_group(writer, 5)
        tasks = [asyncio.create_task(group.submit(0))]
        await until(writer.begun.is_set)
        tasks += [asyncio.create_task(group.submit(item)) for item in range(1, 8)]
        await until(lambda: len(group._queue) == 7)
        writer.go.set()
        assert await asyncio.gather(*tasks) == [item * 10 for item in range(8)]
        assert writer.batches == [[0], [1, 2, 3, 4, 5], [6, 7]]
        assert all(name.startswith("writer") for name in writer.threads)
        assert await group.submit(9) == 90
        executor.shutdown()

    asyncio.run(main())


def test_an_error_reaches_all_tasks() -> None:
    """A failed write is told to every task in it, an answer that is an error only to its own."""

    async def main() -> None:
        writer = Writer()
        group, executor = async_group(writer)
        some = await asyncio.gather(
            *(group.submit(item) for item in (-1, 2)), return_exceptions=True
        )
        assert isinstance(some[0], ValueError)
        assert some[1] == 20
        writer.error = StoreUnavailable("away")
        many = await asyncio.gather(
            *(group.submit(item) for item in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, StoreUnavailable) for one in many)
        executor.shutdown()

    asyncio.run(main())


def test_a_cancelled_task_holds_up_nobody() -> None:
    """Cancelling a waiting task ends its wait at once; the others get their answers."""

    async def main() -> None:
        writer = Writer()
        writer.go.clear()
        group, executor = async_group(writer)
        first = asyncio.create_task(group.submit(0))
        await until(writer.begun.is_set)
        gone, stays = (asyncio.create_task(group.submit(item)) for item in (1, 2))
        await until(lambda: len(group._queue) == 2)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        writer.go.set()
        assert await stays == 20
        executor.shutdown()

    asyncio.run(main())


def test_a_closing_loop_hangs_nobody() -> None:
    """When the loop ends in the middle of a write, every task ends."""
    writer = Writer()
    writer.go.clear()
    ended: list[BaseException] = []
    executors: list[ThreadPoolExecutor] = []

    async def main() -> None:
        group, executor = async_group(writer)
        executors.append(executor)

        async def submit(item: int) -> None:
            try:
                await group.submit(item)
            except BaseException as error:
                ended.append(error)
                raise

        tasks = [asyncio.create_task(submit(item)) for item in range(3)]
        await until(writer.begun.is_set)
        threading.Timer(0.05, writer.go.set).start()
        assert len(tasks) == 3

    asyncio.run(main())
    executors[0].shutdown()
    assert len(ended) == 3

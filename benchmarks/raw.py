"""The engine's own tables in the barest way: what a database gives to bare statements and a loop.

Nothing here is shared with the engine but the table and the driver: statements, batches and
transactions are the cheapest known for it, measured one by one, without a check or a promise.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

from duetime.event import Event, Row

__all__ = ["COLUMNS", "Bounds", "Raw", "coalesced", "coalesced_tasks", "drain", "in_order", "rate"]

COLUMNS = (
    "due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created_at, "
    "history"
)


class Bounds(NamedTuple):
    """What one claim took: a shard, its first and last due time, the claim's number."""

    shard: int
    low: int
    high: int
    number: int


class Raw(ABC):
    """One connection to the events table of the engine, set as the engine sets its own."""

    shards = 32
    threads = 2  # connections with which `drain` is fastest
    driver = ""

    def __init__(self, table: str) -> None:
        self.table = table
        self.kept = f"{table}_kept"  # rows to fill the table from, without the client's help

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def version(self) -> str:
        """Return the version of the database."""

    @abstractmethod
    def count(self) -> int:
        """Count the rows."""

    @abstractmethod
    def clear(self, until: int | None = None) -> None:
        """Empty the table, or delete what is due before then; leave nothing to clean up later."""

    @abstractmethod
    def settled(self) -> None:
        """Let the database do what it puts off after a fill, so that every run starts alike."""

    @abstractmethod
    def insert(self, rows: Sequence[Row]) -> None:
        """Insert rows, in the order of the key, in one transaction."""

    @abstractmethod
    def delete(self, rows: Sequence[Row]) -> None:
        """Delete rows by their places if unclaimed, in one transaction."""

    @abstractmethod
    def edge(self, shard: int, low: int, batch: int) -> int | None:
        """Return the due time of the last row of a batch, None if there are fewer rows."""

    @abstractmethod
    def claim(self, bounds: Bounds) -> list[Row]:
        """Claim a range by one UPDATE, read it by one SELECT."""

    @abstractmethod
    def settle(self, bounds: Bounds) -> None:
        """Delete what one claim holds."""

    @abstractmethod
    def keep(self, rows: Sequence[Row]) -> None:
        """Keep rows in a table beside, for `refill`."""

    @abstractmethod
    def refill(self, *, shift: int = 0, instant: int | None = None) -> None:
        """Insert the kept rows, their due times moved, or all due at one instant."""

    @abstractmethod
    def statements(self) -> int:
        """Return how many statements the server has run since it started (0: nobody counts)."""


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order of the key."""
    return sorted(rows, key=lambda row: (row[2], row[0], row[1]))


def rate(write: Callable[[Sequence[Row]], None], rows: Sequence[Row], batch: int) -> float:
    """Write rows, so many per transaction; return rows/s."""
    began = time.perf_counter()
    for start in range(0, len(rows), batch):
        write(rows[start : start + batch])
    return len(rows) / (time.perf_counter() - began)


def drain(
    connect: Callable[[], Raw], handler: Callable[[Event], object], until: int, batch: int
) -> float:
    """Claim, read, handle and settle by range, each connection in its shards; return rows/s."""
    raws = [connect()]
    raws += [connect() for _ in range(raws[0].threads - 1)]
    done = [0] * len(raws)

    def work(index: int) -> None:
        raw, number = raws[index], 0
        low = dict.fromkeys(range(index, raw.shards, len(raws)), 0)
        while low:
            for shard in list(low):
                number += 1
                edge = raw.edge(shard, low[shard], batch)
                last = edge is None or edge > until  # what waits lies beyond
                high = until if edge is None or last else edge
                bounds = Bounds(shard, low[shard], high, index + 1 << 32 | number)
                rows = raw.claim(bounds)
                for row in rows:
                    handler(Event(row))
                if rows:
                    raw.settle(bounds)
                done[index] += len(rows)
                low[shard] = high
                if last:
                    del low[shard]

    began = time.perf_counter()
    _together([threading.Thread(target=work, args=(index,)) for index in range(len(raws))])
    took = time.perf_counter() - began
    for raw in raws:
        raw.close()
    return sum(done) / took


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def coalesced(
    write: Callable[[Sequence[Row]], None], rows: Sequence[Row], callers: int, seconds: float
) -> float:
    """Write from so many threads that each wait; one more writes whatever has come meanwhile.

    Return rows/s. The barest group commit: a queue, a lock for each caller, no answers, no errors.
    """
    waiting: SimpleQueue[tuple[Row, threading.Lock]] = SimpleQueue()
    done = 0
    ends = time.perf_counter() + seconds

    def call(share: Sequence[Row]) -> None:
        written = threading.Lock()
        written.acquire()
        for row in share:
            waiting.put((row, written))
            written.acquire()
            if time.perf_counter() >= ends:
                return

    threads = [threading.Thread(target=call, args=(rows[i::callers],)) for i in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with suppress(Empty):
            some = [waiting.get(timeout=0.01)]
            while not waiting.empty():
                some.append(waiting.get())
            write([row for row, _ in some])
            done += len(some)
            for _, written in some:
                written.release()
    return done / (time.perf_counter() - began)


def coalesced_tasks(
    write: Callable[[Sequence[Row]], None], rows: Sequence[Row], callers: int, seconds: float
) -> float:
    """Do the same from asyncio tasks: one thread writes what has gathered on the loop."""
    return asyncio.run(_tasks(write, rows, callers, seconds))


async def _tasks(
    write: Callable[[Sequence[Row]], None], rows: Sequence[Row], callers: int, seconds: float
) -> float:
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    waiting: list[tuple[Row, asyncio.Future[None]]] = []
    woken = asyncio.Event()
    done, ends = 0, time.perf_counter() + seconds

    async def call(share: Sequence[Row]) -> None:
        for row in share:
            answer: asyncio.Future[None] = loop.create_future()
            waiting.append((row, answer))
            woken.set()
            await answer
            if time.perf_counter() >= ends:
                return

    async def writer() -> None:
        nonlocal done
        while True:
            await woken.wait()
            woken.clear()
            some = waiting[:]
            waiting.clear()
            await loop.run_in_executor(executor, write, [row for row, _ in some])
            done += len(some)
            for _, answer in some:
                answer.set_result(None)

    began = time.perf_counter()
    writing = asyncio.create_task(writer())
    await asyncio.gather(*(call(rows[i::callers]) for i in range(callers)))
    took = time.perf_counter() - began
    writing.cancel()
    executor.shutdown()
    return done / took

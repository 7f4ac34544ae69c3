"""How fast events are stored: by callers who each wait for durability, and in bulk."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

from benchmarks.load import KIND, PAYLOAD, SECOND, now, rows
from benchmarks.raw import RawSqlite
from benchmarks.stand import NAMESPACE, Figures, Stand
from duetime import AsyncScheduler, Scheduler

__all__ = ["run"]

_HOUR = 3600.0


def run(stand: Stand) -> None:
    """Schedule from 1 to 256 threads and tasks, and 100,000 in one call."""
    raw = stand.raw()
    seconds = stand.seconds(1)
    for callers in (1, 16, 64, 256):
        limit = partial(_rate, raw, seconds, callers)
        threads = partial(_threads, stand, raw, callers, seconds)
        tasks = partial(_tasks, stand, raw, callers, seconds)
        share = f"one transaction for every {callers} rows"
        stand.compare(f"schedule {callers} threads", "events/s", threads, limit, beside=share)
        stand.compare(f"schedule {callers} tasks", "events/s", tasks, limit, beside=share)
    count = stand.size(100_000, 500)
    bulk = partial(_bulk, stand, raw, count)
    stand.compare(
        "schedule in bulk", "events/s", bulk, partial(_raw_bulk, raw, count), events=count
    )
    raw.close()


def _bulk(stand: Stand, raw: RawSqlite, count: int) -> Figures:
    raw.clear()
    wishes = [{"kind": KIND, "payload": PAYLOAD, "after": _HOUR + i / 1e3} for i in range(count)]
    with stand.scheduler() as scheduler:
        scheduler.counts()  # opens the file
        began = time.perf_counter()
        scheduler.schedule_many(wishes)
        took = time.perf_counter() - began
    assert raw.count() == count
    return {"": count / took}


def _raw_bulk(raw: RawSqlite, count: int) -> Figures:
    raw.clear()
    fresh = rows(count, now() + int(_HOUR) * SECOND, count * 1000)
    return {"": raw.insert(fresh, 1000)}


def _rate(raw: RawSqlite, seconds: float, batch: int) -> Figures:
    """Return rows/s of bare transactions of so many rows, as many as fit into the time."""
    raw.clear()
    fresh = rows(int(100_000 * seconds) + batch, now() + int(_HOUR) * SECOND, 60 * SECOND)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds and done + batch <= len(fresh):
        raw.insert(fresh[done : done + batch], batch)
        done += batch
    return {"": done / (time.perf_counter() - began)}


def _threads(stand: Stand, raw: RawSqlite, callers: int, seconds: float) -> Figures:
    raw.clear()
    with stand.scheduler() as scheduler:
        return {"": _crowd(scheduler, callers, seconds)}


def _crowd(scheduler: Scheduler, callers: int, seconds: float) -> float:
    scheduler.counts()  # opens the file
    counts = [0] * callers
    gate = threading.Barrier(callers + 1)
    ended = False

    def call(caller: int) -> None:
        gate.wait()
        while not ended:
            scheduler.schedule(KIND, PAYLOAD, after=_HOUR)
            counts[caller] += 1

    crowd = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in crowd:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    done = sum(counts)
    took = time.perf_counter() - began
    ended = True
    for thread in crowd:
        thread.join()
    return done / took


def _tasks(stand: Stand, raw: RawSqlite, callers: int, seconds: float) -> Figures:
    raw.clear()
    return {"": asyncio.run(_gather(stand, callers, seconds))}


async def _gather(stand: Stand, callers: int, seconds: float) -> float:
    async with AsyncScheduler(stand.url, namespace=NAMESPACE, stats_every=0.0) as scheduler:
        await scheduler.counts()  # opens the file
        done, ends = 0, time.perf_counter() + seconds

        async def call() -> None:
            nonlocal done
            while time.perf_counter() < ends:
                await scheduler.schedule(KIND, PAYLOAD, after=_HOUR)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return done / (time.perf_counter() - began)

"""How fast events are stored: by callers who each wait for durability, and in bulk."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from benchmarks.contestants import Peer
from benchmarks.databases import NAMESPACE, Database
from benchmarks.load import DAY, HOUR, KIND, PAYLOAD, SECOND, now, rows
from benchmarks.raw import coalesced, coalesced_tasks, rate
from benchmarks.stand import Entry, Figures, Size, Stand
from duetime import AsyncScheduler, Scheduler
from duetime.event import Row

__all__ = ["crowd", "run"]

_SECONDS = Size(0.2, 0.6, 3)
_AFTER = HOUR / SECOND


def run(stand: Stand) -> None:
    """Schedule from 1 to 256 threads and tasks, and 100,000 in one call."""
    seconds = stand.size(_SECONDS)
    for callers in (1, 64) if stand.quick else (1, 16, 64, 256):
        entries = []
        for database in stand.databases:
            entries += _entries(stand, database, callers, seconds)
        if callers in (1, 64):
            entries += [_of_peer(stand, peer, callers, seconds) for peer in stand.peers]
        stand.compare(f"create by {callers}", "events/s", entries)
    count = stand.count(500, 100_000)
    entries = []
    for database in stand.databases:
        entries += [
            Entry("create in bulk", "duetime", database.store, partial(_bulk, database, count)),
            Entry("", "limit", database.store, partial(_raw_bulk, stand, database, count)),
        ]
    entries += [_bulk_of_peer(stand, peer) for peer in stand.peers]
    stand.compare("create in bulk", "events/s", entries)


def _entries(stand: Stand, database: Database, callers: int, seconds: float) -> list[Entry]:
    threads, tasks = f"create {callers} threads", f"create {callers} tasks"
    bare = partial(_bare, stand, database, callers, seconds)
    shared = {"limit": "bare inserts that share commits" if callers > 1 else "a bare insert"}
    kept = {"seconds": seconds, **shared}
    return [
        Entry(
            threads, "duetime", database.store, partial(_threads, database, callers, seconds), kept
        ),
        Entry(threads, "limit", database.store, partial(bare, tasks=False)),
        Entry(tasks, "duetime", database.store, partial(_tasks, database, callers, seconds), kept),
        Entry(tasks, "limit", database.store, partial(bare, tasks=callers > 1)),
    ]


def _rows(stand: Stand, count: int) -> list[Row]:
    return rows(count, now() + HOUR, 60 * SECOND, seed=stand.seed)


def _bare(
    stand: Stand, database: Database, callers: int, seconds: float, *, tasks: bool
) -> Figures:
    raw = database.raw()
    raw.clear()
    fresh = _rows(stand, int(60_000 * seconds) + callers)
    if callers == 1:
        ends, done = time.perf_counter() + seconds, 0
        began = time.perf_counter()
        while time.perf_counter() < ends:
            raw.insert(fresh[done : done + 1])
            done += 1
        found = done / (time.perf_counter() - began)
    else:
        found = (coalesced_tasks if tasks else coalesced)(raw.insert, fresh, callers, seconds)
    raw.close()
    return {"": found}


def _threads(database: Database, callers: int, seconds: float) -> Figures:
    raw = database.raw()
    raw.clear()
    raw.close()
    with database.scheduler() as scheduler:
        return {"": crowd(scheduler, callers, seconds, _AFTER)}


def crowd(scheduler: Scheduler, callers: int, seconds: float, after: float) -> float:
    """Schedule from so many threads; return events/s."""
    scheduler.get("-")  # opens the store
    counts = [0] * callers
    gate = threading.Barrier(callers + 1)
    ended = False

    def call(caller: int) -> None:
        gate.wait()
        while not ended:
            scheduler.schedule(KIND, PAYLOAD, after=after)
            counts[caller] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    done = sum(counts)
    took = time.perf_counter() - began
    ended = True
    for thread in threads:
        thread.join()
    return done / took


def _tasks(database: Database, callers: int, seconds: float) -> Figures:
    raw = database.raw()
    raw.clear()
    raw.close()
    return {"": asyncio.run(_gather(database, callers, seconds))}


async def _gather(database: Database, callers: int, seconds: float) -> float:
    async with AsyncScheduler(database.url, namespace=NAMESPACE, stats_every=0.0) as scheduler:
        await scheduler.get("-")  # opens the store
        done, ends = 0, time.perf_counter() + seconds

        async def call() -> None:
            nonlocal done
            while time.perf_counter() < ends:
                await scheduler.schedule(KIND, PAYLOAD, after=_AFTER)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return done / (time.perf_counter() - began)


def _bulk(database: Database, count: int) -> Figures:
    raw = database.raw()
    raw.clear()
    wishes = [{"kind": KIND, "payload": PAYLOAD, "after": _AFTER + i / 1e3} for i in range(count)]
    with database.scheduler() as scheduler:
        scheduler.get("-")
        began = time.perf_counter()
        scheduler.schedule_many(wishes)
        took = time.perf_counter() - began
    assert raw.count() == count
    raw.close()
    return {"": count / took}


def _raw_bulk(stand: Stand, database: Database, count: int) -> Figures:
    raw = database.raw()
    raw.clear()
    found = rate(raw.insert, _rows(stand, count), 1000)
    raw.close()
    return {"": found}


def _of_peer(stand: Stand, peer: Peer, callers: int, seconds: float) -> Entry:
    def measure() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            url, file = stand.url_for(peer), Path(folder) / "lines"
            peer.ask("prepare", url, file)
            return {"": peer.ask("create", url, file, callers=callers, seconds=seconds)["answer"]}

    name = f"create {callers} threads"
    return Entry(name, peer.name, peer.store, measure, {**peer.settings, "seconds": seconds})


def _bulk_of_peer(stand: Stand, peer: Peer) -> Entry:
    count = stand.count(50, peer.drained)

    def measure() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            url, file = stand.url_for(peer), Path(folder) / "lines"
            peer.ask("prepare", url, file)
            answer = peer.ask("fill", url, file, first=now() + DAY, span=DAY, count=count)
            return {"": count / answer["seconds"]}

    return Entry(
        "create in bulk", peer.name, peer.store, measure, {**peer.settings, "events": count}
    )

"""Many events at one instant: when the first and the last are fired, and when all are settled."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.load import KIND, SECOND, Watch, now, rows
from benchmarks.raw import RawSqlite
from benchmarks.stand import Figures, Stand
from duetime import Event
from duetime.event import Row

__all__ = ["run"]


def run(stand: Stand) -> None:
    """Fire 15,000 and 100,000 events of one instant; beside: a loop over rows held in memory."""
    raw = stand.raw()
    for count in (stand.size(15_000, 200), stand.size(100_000, 400)):
        ahead = stand.seconds(4) + 1

        engine = partial(_engine, stand, raw, ahead, count)
        limit = partial(_limit, raw, count)
        stand.compare(f"spike {count:,}", "ms", engine, limit, events=count)
    raw.close()


def _engine(stand: Stand, raw: RawSqlite, ahead: float, count: int) -> Figures:
    raw.clear()
    instant = now() + int((ahead + count / 100_000) * SECOND)
    raw.insert(rows(count, instant, 0), 1000)
    return _spike(stand, instant, count)


def _limit(raw: RawSqlite, count: int) -> Figures:
    raw.clear()
    raw.insert(rows(count, now() - SECOND, 0), 1000)
    claims = list(raw.claims(now(), count))
    began = time.perf_counter()
    last = _loop([row for held, _ in claims for row in held])
    for _, bounds in claims:
        raw.settle(bounds)
    return {"last fired": last, "settled": (time.perf_counter() - began) * 1e3}


def _spike(stand: Stand, instant: int, count: int) -> Figures:
    watch = Watch(count)
    fired: list[int] = []
    note, clock = fired.append, time.time_ns
    with stand.scheduler(observers=[watch]) as scheduler:

        @scheduler.on(KIND)
        def handler(event: Event) -> None:
            note(clock())

        scheduler.start()
        watch.wait()
        settled = now()
    assert len(fired) == count
    return {
        "first fired": (min(fired) // 1000 - instant) / 1e3,
        "last fired": (max(fired) // 1000 - instant) / 1e3,
        "settled": (settled - instant) / 1e3,
    }


def _loop(held: list[Row]) -> float:
    fired: list[int] = []
    note, clock = fired.append, time.time_ns

    def handler(event: Event) -> None:
        note(clock())

    began = clock()
    for row in held:
        handler(Event(row))
    return (fired[-1] - began) / 1e6

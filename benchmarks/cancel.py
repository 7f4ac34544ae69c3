"""How fast events are taken back: by one caller, by 64 at once, and in bulk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from benchmarks.load import SECOND, now, rows
from benchmarks.raw import RawSqlite
from benchmarks.stand import Figures, Stand
from duetime import Answer, Scheduler
from duetime.event import Row, id_of

__all__ = ["run"]

_HOUR = 3600


def run(stand: Stand) -> None:
    """Cancel from 1 and 64 threads and in one call; beside: bare deletes by place."""
    raw = stand.raw()
    for name, callers, batch, count in (
        ("1 thread", 1, 1, stand.size(2_000, 50)),
        ("64 threads", 64, 64, stand.size(12_800, 128)),
        ("in bulk", 0, 1000, stand.size(100_000, 500)),
    ):
        fill = partial(_fill, raw, count)
        engine = partial(_engine, stand, raw, fill, callers)
        limit = partial(_limit, raw, fill, batch)
        share = f"one transaction for every {batch} rows"
        stand.compare(f"cancel {name}", "events/s", engine, limit, events=count, beside=share)
    raw.close()


def _fill(raw: RawSqlite, count: int) -> list[Row]:
    raw.clear()
    waiting = rows(count, now() + _HOUR * SECOND, 60 * SECOND)
    raw.insert(waiting, 1000)
    return waiting


def _engine(stand: Stand, raw: RawSqlite, fill: Callable[[], list[Row]], callers: int) -> Figures:
    ids = [id_of(row) for row in fill()]
    with stand.scheduler() as scheduler:
        scheduler.get(ids[0])  # opens the file
        took = _threads(scheduler, ids, callers) if callers else _bulk(scheduler, ids)
    assert raw.count() == 0
    return {"": len(ids) / took}


def _limit(raw: RawSqlite, fill: Callable[[], list[Row]], batch: int) -> Figures:
    return {"": raw.delete(fill(), batch)}


def _bulk(scheduler: Scheduler, ids: list[str]) -> float:
    began = time.perf_counter()
    answers = scheduler.cancel_many(ids)
    took = time.perf_counter() - began
    assert set(answers) == {Answer.CANCELLED}
    return took


def _threads(scheduler: Scheduler, ids: list[str], callers: int) -> float:
    gate = threading.Barrier(callers + 1)
    refused: list[Answer] = []

    def call(share: list[str]) -> None:
        gate.wait()
        answers = [scheduler.cancel(one) for one in share]
        refused.extend(answer for answer in answers if answer is not Answer.CANCELLED)

    crowd = [threading.Thread(target=call, args=(ids[i::callers],)) for i in range(callers)]
    for thread in crowd:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in crowd:
        thread.join()
    assert not refused
    return time.perf_counter() - began

"""How fast events are taken back: by one caller, by 64 at once, and in bulk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from benchmarks.databases import Database
from benchmarks.load import HOUR, SECOND, now, rows
from benchmarks.raw import coalesced, rate
from benchmarks.stand import Entry, Figures, Stand
from duetime import Answer, Scheduler
from duetime.event import Row, id_of

__all__ = ["run"]


def run(stand: Stand) -> None:
    """Cancel from 1 and 64 threads and in one call; beside: bare deletes by place."""
    for name, callers, count in (
        ("1 thread", 1, stand.count(50, 2_000)),
        ("64 threads", 64, stand.count(128, 12_800)),
        ("in bulk", 0, stand.count(500, 100_000)),
    ):
        entries = []
        for database in stand.databases:
            fill = partial(_fill, stand, database, count)
            entries += [
                Entry(
                    f"cancel {name}",
                    "duetime",
                    database.store,
                    partial(_engine, database, fill, callers),
                    {"events": count, "outcome": "all cancelled"},
                ),
                Entry("", "limit", database.store, partial(_limit, database, fill, callers)),
            ]
        stand.compare(f"cancel {name}", "events/s", entries)


def _fill(stand: Stand, database: Database, count: int) -> list[Row]:
    waiting = rows(count, now() + HOUR, 60 * SECOND, seed=stand.seed)
    raw = database.raw()
    raw.clear()
    rate(raw.insert, waiting, 1000)
    raw.settled()
    raw.close()
    return waiting


def _engine(database: Database, fill: Callable[[], list[Row]], callers: int) -> Figures:
    ids = [id_of(row) for row in fill()]
    with database.scheduler() as scheduler:
        scheduler.get("-")  # opens the store
        took = _threads(scheduler, ids, callers) if callers else _bulk(scheduler, ids)
    raw = database.connect()
    assert raw.count() == 0
    raw.close()
    return {"": len(ids) / took}


def _limit(database: Database, fill: Callable[[], list[Row]], callers: int) -> Figures:
    waiting = fill()
    raw = database.connect()
    if callers > 1:
        found = coalesced(raw.delete, waiting, callers, 60)
    else:
        found = rate(raw.delete, waiting, callers or 1000)
    raw.close()
    return {"": found}


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

"""Whether size matters: create, drain, lateness and waiting with ever more events pending."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import waiting
from benchmarks.create import crowd
from benchmarks.databases import Database
from benchmarks.drain import nodes_drain
from benchmarks.lateness import own
from benchmarks.load import DAY, HOUR, KIND, PAYLOAD, SECOND, now, rows
from benchmarks.raw import coalesced, drain, rate
from benchmarks.stand import Entry, Figures, Size, Stand

__all__ = ["run"]

_PENDING = {
    "quick": (100, 300),
    "plain": (10_000, 100_000, 1_000_000),
    "full": (10_000, 100_000, 1_000_000, 5_000_000),
}
_CREATE, _LATENESS, _WAITING = Size(0.2, 1), Size(0.2, 3), Size(0.3, 5)


def run(stand: Stand) -> None:
    """Measure with tables of several sizes side by side, so that sizes take turns."""
    sizes = _PENDING[stand.level]
    for database in stand.databases:
        for pending in sizes:
            waiting.fill(stand, database, _space(pending), pending)
    drained = stand.count(100, 20_000)
    seconds = stand.size(_WAITING)
    for case, units, measure, limit in (
        ("create 64 threads", "events/s", partial(_create, stand), partial(_bare_create, stand)),
        ("create in bulk", "events/s", partial(_bulk, drained), partial(_bare_bulk, drained)),
        ("drain sync", "events/s", partial(_drain, stand, drained), partial(_bare_drain, drained)),
        ("lateness 1,000/s", "ms", partial(_lateness, stand), None),
        ("waiting", waiting.UNITS, partial(_waiting, seconds), None),
    ):
        entries = []
        for database in stand.databases:
            for pending in sizes if case != "waiting" else sizes[-1:]:
                name, space = f"growth {case}, {pending:,} pending", _space(pending)
                kept = {"pending": pending, "drained": drained}
                engine = partial(measure, database, space)
                entries.append(Entry(name, "duetime", database.store, engine, kept))
                if limit is not None:
                    bare = partial(limit, database, space)
                    entries.append(Entry(name, "limit", database.store, bare))
        stand.compare(f"growth: {case}", units, entries)
    for database in stand.databases:
        for pending in sizes:
            raw = database.connect(_space(pending))
            raw.clear()
            raw.close()


def _space(pending: int) -> str:
    return f"bench_{pending}"


def _tidy(database: Database, namespace: str) -> None:
    """Take away what the measurement has added: all is due before what waits."""
    raw = database.connect(namespace)
    raw.clear(until=now() + DAY // 4)
    raw.close()


def _create(stand: Stand, database: Database, namespace: str) -> Figures:
    with database.scheduler(namespace) as scheduler:
        found = crowd(scheduler, 64, stand.size(_CREATE), HOUR / SECOND)
    _tidy(database, namespace)
    return {"": found}


def _bulk(count: int, database: Database, namespace: str) -> Figures:
    """Schedule events whose due times lie all over those that wait."""
    step = 2 * DAY / SECOND / count
    wishes = [{"kind": KIND, "payload": PAYLOAD, "after": (i + 1) * step} for i in range(count)]
    with database.scheduler(namespace) as scheduler:
        scheduler.get("-")
        began = time.perf_counter()
        events = scheduler.schedule_many(wishes)
        took = time.perf_counter() - began
        scheduler.cancel_many(event.id for event in events)
    return {"": count / took}


def _drain(stand: Stand, count: int, database: Database, namespace: str) -> Figures:
    raw = database.connect(namespace)
    rate(raw.insert, rows(count, now() - 60 * SECOND, 60 * SECOND, seed=stand.seed), 1000)
    raw.close()
    return {"": nodes_drain(database, namespace, "none", 1, count)}


def _bare_create(stand: Stand, database: Database, namespace: str) -> Figures:
    seconds = stand.size(_CREATE)
    raw = database.connect(namespace)
    fresh = rows(int(60_000 * seconds), now() + HOUR, SECOND, seed=stand.seed)
    found = coalesced(raw.insert, fresh, 64, seconds)
    raw.close()
    _tidy(database, namespace)
    return {"": found}


def _bare_bulk(count: int, database: Database, namespace: str) -> Figures:
    raw = database.connect(namespace)
    fresh = rows(count, now(), 2 * DAY, seed=now())
    found = rate(raw.insert, fresh, 1000)
    rate(raw.delete, fresh, 1000)
    raw.close()
    return {"": found}


def _bare_drain(count: int, database: Database, namespace: str) -> Figures:
    raw = database.connect(namespace)
    rate(raw.insert, rows(count, now() - 60 * SECOND, 60 * SECOND), 1000)
    raw.close()
    return {"": drain(partial(database.connect, namespace), lambda _: None, now(), 1000)}


def _lateness(stand: Stand, database: Database, namespace: str) -> Figures:
    return own(stand, database, namespace, 1_000, stand.size(_LATENESS))["late"]


def _waiting(seconds: float, database: Database, namespace: str) -> Figures:
    return waiting.of_node(database, namespace, "node", seconds)

"""Many events at one instant: when the last is fired and settled, and what others suffer."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.databases import NAMESPACE, Database
from benchmarks.load import SECOND, TRICKLE, now, rows
from benchmarks.nodes import running
from benchmarks.raw import Bounds
from benchmarks.stand import Entry, Figures, Size, Stand
from benchmarks.worker import Spec
from duetime import Event
from duetime.event import Row

__all__ = ["run"]

_TRICKLE_RATE = 200  # events/s of another kind, from 2 s before the instant to 2 s after it
_AROUND = Size(0.3, 2)
_AHEAD = Size(1.5, 3.5)  # s to fill the table and to look ahead, beside what grows with the number


def run(stand: Stand) -> None:
    """Fire 15,000 to 300,000 events of one instant; beside: a loop over rows in memory."""
    sizes = (200, 600) if stand.quick else (15_000, 100_000, 300_000)
    for count in sizes:
        settings = _settings(count)
        entries = []
        for database in stand.databases:
            raw = database.raw()
            raw.keep(rows(count, 0, 0, seed=stand.seed))
            raw.close()
            engine = partial(_engine, stand, database, count, settings)
            limit = partial(_limit, database, count)
            said = {"events": count, **settings}
            entries += [
                Entry(f"spike {count:,}", "duetime", database.store, engine, said),
                Entry(f"spike {count:,}", "limit", database.store, limit),
            ]
        units = dict.fromkeys(
            ("first fired", "last fired", "settled", "trickle p99", "trickle max"), "ms"
        )
        stand.compare(f"spike of {count:,}", {**units, "settle rate": "events/s"}, entries)


def _settings(count: int) -> dict[str, Any]:
    """Return what a node needs to hold so many, and the time to claim them at 40,000 a second."""
    held, lead = count + 10_000, count / 40_000
    settings: dict[str, Any] = {}
    if held > 100_000:
        settings["max_held"] = held
    if lead > 3:
        settings["lead_max"] = lead
    return settings


def _engine(stand: Stand, database: Database, count: int, settings: dict[str, Any]) -> Figures:
    raw = database.connect()
    raw.clear()
    around = stand.size(_AROUND)
    trickle = int(_TRICKLE_RATE * 2 * around)
    spec = Spec(database.store, database.url, NAMESPACE, "note", settings=settings)
    with running(spec) as node:
        node.ready()
        filling, lead = count / 40_000, settings.get("lead_max", 0.0)
        instant = now() + int((stand.size(_AHEAD) + filling + lead) * SECOND)
        raw.refill(instant=instant)
        raw.insert(
            rows(
                trickle,
                instant - int(around * SECOND),
                int(2 * around * SECOND),
                kind=TRICKLE,
                seed=stand.seed,
            )
        )
        raw.settled()
        raw.close()
        in_time = now() < instant - int((around + lead) * SECOND)
        assert in_time or stand.quick, "filling took too long"
        node.go()
        node.settled(count + trickle)
        noted = node.end()[0]
    assert noted["count"] == count
    settled = noted["settled_late"]
    last = (noted["last"] - instant) / 1e3
    return {
        "first fired": noted["late"]["earliest"],
        "last fired": last,
        "settled": settled,
        "settle rate": count / (settled / 1e3),
        "trickle p99": noted["trickle"]["p99"],
        "trickle max": noted["trickle"]["max"],
    }


def _limit(database: Database, count: int) -> Figures:
    """Hand rows from memory to the same handler, then delete them by range."""
    raw = database.connect()
    raw.clear()
    instant = now() - SECOND
    raw.refill(instant=instant)
    raw.settled()
    claims = []
    for shard in range(raw.shards):
        bounds = Bounds(shard, instant - 10, instant + 10, 1 << 32 | shard + 1)
        claims.append((raw.claim(bounds), bounds))
    began = time.perf_counter()
    last = _loop([row for held, _ in claims for row in held])
    fired = time.perf_counter()
    for _, bounds in claims:
        raw.settle(bounds)
    ended = time.perf_counter()
    raw.close()
    return {
        "last fired": last,
        "settled": (ended - began) * 1e3,
        "settle rate": count / (ended - fired),
    }


def _loop(held: list[Row]) -> float:
    late: list[int] = []
    note, clock = late.append, time.time_ns

    def handler(event: Event) -> None:
        note(clock() // 1000 - event.row[0])

    began = clock()
    for row in held:
        handler(Event(row))
    return (clock() - began) / 1e6

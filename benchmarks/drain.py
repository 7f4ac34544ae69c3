"""How fast a backlog goes: from the first firing to the empty table, with no-op handlers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.load import KIND, SECOND, Watch, async_handler, batch_handler, handler, now, rows
from benchmarks.raw import RawSqlite
from benchmarks.stand import Figures, Stand
from duetime.event import Row

__all__ = ["run"]

_HANDLERS: dict[str, Callable[[Any], Any]] = {
    "sync": handler,
    "async": async_handler,
    "batch": batch_handler,
}


def run(stand: Stand) -> None:
    """Drain events that were due over the last minute, by each kind of handler."""
    count = stand.size(100_000, 500)
    backlog = rows(count, now() - 60 * SECOND, 60 * SECOND)
    raw = stand.raw()
    limit = partial(_limit, raw, backlog)
    for mode in _HANDLERS:
        engine = partial(_engine, stand, raw, backlog, mode)
        stand.compare(f"drain {mode}", "events/s", engine, limit, events=count)
    raw.close()


def _engine(stand: Stand, raw: RawSqlite, backlog: list[Row], mode: str) -> Figures:
    raw.clear()
    raw.insert(backlog, 1000)
    watch = Watch(len(backlog))
    with stand.scheduler(observers=[watch]) as scheduler:
        scheduler.on(KIND, batch=mode == "batch")(_HANDLERS[mode])
        scheduler.start()
        took = watch.wait()
    assert raw.count() == 0
    return {"": len(backlog) / took}


def _limit(raw: RawSqlite, backlog: list[Row]) -> Figures:
    raw.clear()
    raw.insert(backlog, 1000)
    return {"": raw.drain(handler, now(), 1000)}

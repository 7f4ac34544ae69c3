"""From memory to the handler, no database beside: how fast held events reach a handler once due."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import cast

from benchmarks.load import KIND, SECOND, now, rows
from benchmarks.stand import Entry, Figures, Stand
from duetime import Event, Scheduler
from duetime.event import CLAIM, Row
from duetime.stores.contract import Settled, Settlement
from duetime.stores.memory import MemoryStore

__all__ = ["run"]

_PATIENCE = 60.0  # s


class _Forgetful(MemoryStore):
    """A store that holds nothing: what is settled is believed."""

    def settle(self, settlement: Settlement) -> Settled:
        """Answer that nothing was stale, without looking."""
        return Settled(0, len(settlement.done), 0, 0)


def run(stand: Stand) -> None:
    """Hand over to a sync and to a batch handler; beside: a loop that makes events and calls."""
    count = stand.count(2_000, 300_000)
    entries = []
    for mode in ("sync", "batch"):
        name, batch = f"handover {mode}", mode == "batch"
        engine = partial(_engine, count, batch=batch)
        entries += [
            Entry(name, "duetime", "none", engine, {"events": count}),
            Entry(name, "limit", "none", partial(_loop, count, batch=batch)),
        ]
    stand.compare("handover", "events/s", entries)


def _engine(count: int, *, batch: bool) -> Figures:
    left, ended = count, threading.Event()
    taken: list[int] = []  # how many each call got: a list, for appending needs no lock

    def one(event: Event) -> None:
        taken.append(1)

    def many(events: list[Event]) -> None:
        taken.append(len(events))

    with Scheduler(_Forgetful(), max_held=count, stats_every=0.0) as scheduler:
        scheduler.on(KIND, batch=batch)(many if batch else one)
        node = scheduler.start()
        while not node.keeper.shards:
            time.sleep(0.001)
        instant = now() + SECOND // 2 + 10 * count
        due = rows(count, instant, 0)
        for start in range(0, count, 1000):
            number = node.claimer.next_number()
            held = sorted(_claimed(row, number) for row in due[start : start + 1000])
            node.claimer.hold(number, held)
        assert now() < instant
        deadline = time.monotonic() + _PATIENCE
        while left > 0 and time.monotonic() < deadline:
            ended.wait(0.002)
            left = count - scheduler.tally.fired
        return {"": count / ((now() - instant) / SECOND)}


def _claimed(row: Row, number: int) -> Row:
    return cast(Row, (*row[:CLAIM], number, *row[CLAIM + 1 :]))


def _loop(count: int, *, batch: bool) -> Figures:
    held = rows(count, now(), 0)

    def one(event: Event) -> None:
        pass

    def many(events: list[Event]) -> None:
        pass

    began = time.perf_counter()
    if batch:
        for start in range(0, count, 1000):
            many([Event(row) for row in held[start : start + 1000]])
    else:
        for row in held:
            one(Event(row))
    return {"": count / (time.perf_counter() - began)}

"""Fired minus due, of events spread evenly, while others are created and settled."""

from __future__ import annotations

import threading
import time
from functools import partial

from benchmarks.load import KIND, PAYLOAD, SECOND, Watch, now
from benchmarks.stand import Figures, Stand
from duetime import Event
from duetime.clock import from_micros

__all__ = ["run"]

_AHEAD = 1.0  # seconds between creation and due time
_TURN = 0.02  # seconds: how much is created at once


def run(stand: Stand) -> None:
    """Measure at four rates; beside: a bare timer that waits for the same moments."""
    for rate in (200, 1_000, 5_000, 10_000):
        seconds = stand.seconds(5)
        count = int(rate * seconds)
        stand.compare(
            f"lateness {rate:,}/s",
            "ms",
            partial(_engine, stand, count, rate),
            partial(_timer, int(rate * stand.seconds(2)), rate),
            seconds=seconds,
            created_ahead=_AHEAD,
        )


def _engine(stand: Stand, count: int, rate: int) -> Figures:
    raw = stand.raw()
    raw.clear()
    raw.close()
    watch = Watch(count)
    late: list[int] = []
    note = late.append
    with stand.scheduler(observers=[watch]) as scheduler:

        @scheduler.on(KIND)
        def handler(event: Event) -> None:
            note(now() - event.row[0])

        scheduler.start()
        first = now() + int((_AHEAD + 0.5) * SECOND)
        made = 0
        while made < count:
            upto = min(count, int((now() + _AHEAD * SECOND - first) * rate / SECOND) + 1)
            if upto > made:
                dues = (from_micros(first + i * SECOND // rate) for i in range(made, upto))
                scheduler.schedule_many({"kind": KIND, "payload": PAYLOAD, "at": d} for d in dues)
                made = upto
            time.sleep(_TURN)
        watch.wait()
    assert len(late) == count
    return _quantiles(late)


def _timer(count: int, rate: int) -> Figures:
    """Wait for `count` moments with the timer that the engine uses, a lock with a time-out."""
    lock = threading.Lock()
    lock.acquire()
    first = now() + SECOND // 100
    late: list[int] = []
    while len(late) < count:
        due = first + len(late) * SECOND // rate
        wait = due - now()
        if wait > 0:
            lock.acquire(timeout=wait / SECOND)
        while len(late) < count and (by := now() - first - len(late) * SECOND // rate) >= 0:
            late.append(by)
    return _quantiles(late)


def _quantiles(late: list[int]) -> Figures:
    late.sort()
    last = len(late) - 1
    shares = {"earliest": 0.0, "p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: late[min(last, int(share * len(late)))] / 1e3 for name, share in shares.items()}

"""What benchmarks share: rows to start from, wishes spread over time, quantiles, a bare timer."""

from __future__ import annotations

import random
import threading
import time

from duetime import Scheduler
from duetime.clock import from_micros
from duetime.event import TAIL_BITS, Row

__all__ = [
    "BUSY",
    "DAY",
    "HOUR",
    "KIND",
    "PAYLOAD",
    "SECOND",
    "TRICKLE",
    "bare_timer",
    "create_evenly",
    "now",
    "quantiles",
    "rows",
]

KIND, TRICKLE, BUSY = "bench.event", "bench.trickle", "bench.busy"
PAYLOAD = {"order": 42, "customer": "c-0123456789abcdef", "note": "x" * 48}
_DATA = b'{"order":42,"customer":"c-0123456789abcdef","note":"' + b"x" * 48 + b'"}'
SECOND = 1_000_000  # µs
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
_TURN = 0.02  # seconds: how much is created at once


def now() -> int:
    """Return µs since 1970 by the wall clock: not the engine's own idea of the time."""
    return time.time_ns() // 1000


def rows(
    count: int, first_due: int, span: int, *, kind: str = KIND, seed: int = 4711, shards: int = 32
) -> list[Row]:
    """Return new rows as the engine makes them, due evenly from `first_due` on for `span` µs."""
    draw = random.Random(seed + count).getrandbits
    made = now()
    tails = [draw(TAIL_BITS) for _ in range(count)]
    return [
        (first_due + i * span // count, t, t % shards, None, kind, _DATA, 0, 0, 0, 0, made, None)
        for i, t in enumerate(tails)
    ]


def create_evenly(
    scheduler: Scheduler, kind: str, first: int, rate: int, count: int, ahead: float
) -> None:
    """Schedule events that are due evenly from `first` on, each `ahead` seconds before."""
    made = 0
    while made < count:
        upto = min(count, int((now() + ahead * SECOND - first) * rate / SECOND) + 1)
        if upto > made:
            dues = (from_micros(first + i * SECOND // rate) for i in range(made, upto))
            scheduler.schedule_many({"kind": kind, "payload": PAYLOAD, "at": d} for d in dues)
            made = upto
        time.sleep(_TURN)


def bare_timer(rate: int, seconds: float) -> dict[str, float]:
    """Wait for even moments with the timer that the engine uses, a lock with a time-out."""
    lock = threading.Lock()
    lock.acquire()
    count, first = max(1, int(rate * seconds)), now() + SECOND // 100
    late: list[int] = []
    while len(late) < count:
        due = first + len(late) * SECOND // rate
        wait = due - now()
        if wait > 0:
            lock.acquire(timeout=wait / SECOND)
        while len(late) < count and (by := now() - first - len(late) * SECOND // rate) >= 0:
            late.append(by)
    return quantiles(late)


def quantiles(late: list[int]) -> dict[str, float]:
    """Return how late, in ms, some shares of the events were at most."""
    late.sort()
    last = len(late) - 1
    shares = {"earliest": 0.0, "p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: late[min(last, int(share * len(late)))] / 1e3 for name, share in shares.items()}

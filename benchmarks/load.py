"""What benchmarks share: rows to start from, handlers that do nothing, a watch on outcomes."""

from __future__ import annotations

import random
import threading
import time

from duetime import Event, Observer
from duetime.event import TAIL_BITS, Row

__all__ = [
    "KIND",
    "PAYLOAD",
    "SECOND",
    "Watch",
    "async_handler",
    "batch_handler",
    "handler",
    "now",
    "rows",
]

KIND = "bench.event"
PAYLOAD = {"order": 42, "customer": "c-0123456789abcdef", "note": "x" * 48}
_DATA = b'{"order":42,"customer":"c-0123456789abcdef","note":"' + b"x" * 48 + b'"}'
SECOND = 1_000_000  # µs
PATIENCE = 120.0  # seconds after which a benchmark is given up


def now() -> int:
    """Return µs since 1970 by the wall clock: not the engine's own idea of the time."""
    return time.time_ns() // 1000


def rows(count: int, first_due: int, span: int, shards: int = 32) -> list[Row]:
    """Return new rows as the engine makes them, due evenly from `first_due` on for `span` µs."""
    draw = random.Random(count).getrandbits
    made = now()
    tails = [draw(TAIL_BITS) for _ in range(count)]
    return [
        (first_due + i * span // count, t, t % shards, None, KIND, _DATA, 0, 0, 0, 0, made, None)
        for i, t in enumerate(tails)
    ]


def handler(event: Event) -> None:
    """Do nothing."""


async def async_handler(event: Event) -> None:
    """Do nothing."""


def batch_handler(events: list[Event]) -> None:
    """Do nothing."""


class Watch(Observer):
    """Notes when the first event was fired and when the last one was settled."""

    def __init__(self, count: int) -> None:
        self.began = self.ended = 0.0
        self._left = count
        self._done = threading.Event()

    def fired(self, count: int) -> None:
        """Note the first one."""
        self.began = self.began or time.perf_counter()

    def settled(self, done: int, retried: int, dead: int) -> None:
        """Note the last one."""
        self._left -= done
        if self._left <= 0 and not self._done.is_set():
            self.ended = time.perf_counter()
            self._done.set()

    def wait(self) -> float:
        """Wait for the last one; return the seconds from the first firing to it."""
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{self._left} events were not settled within {PATIENCE} s")
        return self.ended - self.began

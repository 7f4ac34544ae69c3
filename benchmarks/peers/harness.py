"""What every peer's program does in the same way: commands in, one line of JSON out.

A peer's handler appends a line to a file for each job: when it was due and when it ran, in µs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["PAYLOAD", "Peer", "crowd", "crowd_of_tasks", "evenly", "main", "now"]

PAYLOAD = {"order": 42, "customer": "c-0123456789abcdef", "note": "x" * 48}
_TURN = 0.02  # seconds: how much is created at once


def now() -> int:
    """Return µs since 1970."""
    return time.time_ns() // 1000


class Peer(ABC):
    """One peer, on its store; `url` is the database, `file` what its handler appends to."""

    def __init__(self, url: str, file: str) -> None:
        self.url = url
        self.file = file

    @abstractmethod
    def prepare(self) -> None:
        """Leave no jobs and no results behind."""

    @abstractmethod
    def create(self, callers: int, seconds: float) -> float:
        """Create jobs due in an hour from so many callers that wait; return jobs/s."""

    @abstractmethod
    def fill(self, first: int, span: int, count: int) -> None:
        """Create jobs due evenly from `first` on for `span` µs, in the quickest way there is."""

    @abstractmethod
    def evenly(self, first: int, rate: int, count: int, ahead: float) -> None:
        """Create jobs due evenly from `first` on, each `ahead` seconds before."""

    @abstractmethod
    def work(self) -> None:
        """Be a worker until ended by a signal."""

    def appender(self) -> Callable[[int], None]:
        """Return what a handler does: append a line to the file."""
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def append(due: int) -> None:
            os.write(file, b"%d %d\n" % (due, now()))

        return append


def crowd(call: Callable[[], object], callers: int, seconds: float) -> float:
    """Call from so many threads; return calls/s."""
    counts = [0] * callers
    ends = time.perf_counter() + seconds

    def run(index: int) -> None:
        while time.perf_counter() < ends:
            call()
            counts[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


async def crowd_of_tasks(calls: list[Callable[[], Awaitable[object]]], seconds: float) -> float:
    """Call from tasks, each its own function; return calls/s."""
    done, ends = 0, time.perf_counter() + seconds

    async def run(call: Callable[[], Awaitable[object]]) -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await call()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(run(call) for call in calls))
    return done / (time.perf_counter() - began)


def evenly(
    make: Callable[[list[int]], None], first: int, rate: int, count: int, ahead: float
) -> None:
    """Call `make` with the due times that have come near, every 20 ms."""
    made = 0
    while made < count:
        upto = min(count, int((now() + ahead * 1e6 - first) * rate / 1e6) + 1)
        if upto > made:
            make([first + i * 1_000_000 // rate for i in range(made, upto)])
            made = upto
        time.sleep(_TURN)


def main(kind: type[Peer]) -> None:
    """Carry out one command: `COMMAND URL FILE JSON`."""
    command, url, file, text = sys.argv[1:]
    arguments: dict[str, Any] = json.loads(text)
    peer = kind(url, file)
    began = time.perf_counter()
    answer = getattr(peer, command)(**arguments)
    print(json.dumps({"answer": answer, "seconds": time.perf_counter() - began}))

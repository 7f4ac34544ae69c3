"""A node in a process of its own, as the benchmarks use it: fires, notes, reports.

`python -m benchmarks.worker SPEC` prints a line of JSON when it is ready, waits for a line, starts,
and goes on printing what was fired and settled until its input ends; then it prints what it noted.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.databases import Database
from benchmarks.load import BUSY, KIND, TRICKLE, bare_timer, create_evenly, now, quantiles
from duetime import Event, Observer, Scheduler

__all__ = ["Create", "Spec", "main"]

_TURN = 0.02  # s between two reports
_UNDER_WAY = 3  # of a trickle of 200 a second: fired and not settled
_BUSY = 0.05  # s that a busy handler computes


class Create(msgspec.Struct, frozen=True):
    """Events that the node's own process creates beside."""

    rate: int
    count: int
    ahead: float


class Spec(msgspec.Struct, frozen=True):
    """What a node is to do."""

    store: str
    url: str
    namespace: str
    handler: str  # none, async, batch, append or note
    file: str = os.devnull
    timer: tuple[int, float] = (0, 0.0)  # rate and seconds of a bare timer before all else
    create: Create | None = None
    settings: dict[str, Any] = {}


class Notes:
    """Handlers, and what they note: lateness and times of firing, in µs."""

    def __init__(self) -> None:
        self.late: list[int] = []
        self.trickle: list[int] = []
        self.last = self.due = 0
        self.moments: list[tuple[int, int, int]] = []  # settled, trickle fired, when

    def note(self, event: Event) -> None:
        """Note how late it is."""
        at = now()
        self.last, self.due = at, event.row[0]
        self.late.append(at - event.row[0])

    def note_trickle(self, event: Event) -> None:
        """Note how late one is that has nothing to do with the others."""
        self.trickle.append(now() - event.row[0])

    def figures(self) -> dict[str, Any]:
        """Return what was noted."""
        return {
            "late": quantiles(self.late) if self.late else {},
            "trickle": quantiles(self.trickle) if self.trickle else {},
            "last": self.last,
            "settled_late": self._settled_late(),
            "count": len(self.late),
        }

    def _settled_late(self) -> float:
        """Return how many ms after the last due time all but the trickle was settled.

        What of the trickle was fired is settled too but for the few of the last moment.
        """
        wanted = len(self.late) - _UNDER_WAY
        ends = (at for done, trickle, at in self.moments if done - trickle >= wanted)
        return (next(ends, 0) - self.due) / 1e3


class Progress(Observer):
    """When the first event was fired, and how many were settled when."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.first = self.at = 0.0
        self.total = 0

    def fired(self, count: int) -> None:
        """Note the first one."""
        self.first = self.first or time.time()

    def settled(self, done: int, retried: int, dead: int) -> None:
        """Count them."""
        self.total += done
        self.at = time.time()
        self._notes.moments.append((self.total, len(self._notes.trickle), now()))


def _nothing(event: Event) -> None:
    pass


async def _nothing_async(event: Event) -> None:
    pass


def _nothing_batch(events: list[Event]) -> None:
    pass


def _compute(event: Event) -> None:
    """Keep the interpreter busy with plain Python."""
    ends = time.perf_counter() + _BUSY
    while time.perf_counter() < ends:
        sum(range(1000))


def _register(scheduler: Scheduler, spec: Spec, notes: Notes) -> None:
    file = os.open(spec.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def append(event: Event) -> None:
        os.write(file, b"%d %d\n" % (event.row[0], now()))

    handlers: dict[str, Callable[..., Any]] = {
        "none": _nothing,
        "async": _nothing_async,
        "batch": _nothing_batch,
        "append": append,
        "note": notes.note,
    }
    scheduler.on(KIND, batch=spec.handler == "batch")(handlers[spec.handler])
    scheduler.on(TRICKLE)(notes.note_trickle)
    scheduler.on(BUSY)(_compute)


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _creating(scheduler: Scheduler, create: Create, first: int) -> threading.Thread:
    order = (scheduler, KIND, first, create.rate, create.count, create.ahead)
    return threading.Thread(target=create_evenly, args=order)


def main(text: str) -> None:
    """Be a node until the input ends."""
    spec = msgspec.json.decode(text, type=Spec)
    rate, seconds = spec.timer
    timer = bare_timer(rate, seconds) if rate else {}
    notes = Notes()
    progress = Progress(notes)
    database = Database(spec.store, spec.url)
    with database.scheduler(spec.namespace, observers=[progress], **spec.settings) as scheduler:
        _register(scheduler, spec, notes)
        scheduler.store.time()  # opens the store
        _say(ready=timer)
        first = json.loads(sys.stdin.readline())["first"]
        scheduler.start()
        if spec.create is not None:
            creator = _creating(scheduler, spec.create, first)
            creator.start()
        told = -1
        while not select.select([sys.stdin], [], [], _TURN)[0]:
            if progress.total != told:
                told = progress.total
                _say(first=progress.first, settled=told, at=progress.at)
    _say(notes=notes.figures())


if __name__ == "__main__":
    main(sys.argv[1])

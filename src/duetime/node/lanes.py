"""One lane per kind: how many of its events are held, running and waiting, and how fast it is.

From this the claimer knows how many more it may claim: a kind whose handler is fast is wide
(claimed by range together with all the others), one that is slow, stalled or pulled is narrow
(claimed on its own, only as many as can start within the lead), so that a slow handler neither
hoards events that another node could run nor holds up other kinds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from duetime.clock import MICROS
from duetime.event import KIND, Row
from duetime.handlers import Handler, Handlers, Mode
from duetime.outcome import Dead, Retry

__all__ = ["STALLED", "Job", "Lane", "Lanes"]

STALLED = MICROS // 20  # a queue that has not moved for so long (µs) gets no more claims
_CHUNK = 1000  # µs: how long the rows given to a worker at once should take in all
_CHUNK_ROWS = 2000  # rows given to a worker at once, at most
# A handler quicker than this (µs) does not wait for anything outside: more threads than two only
# pass the interpreter to and fro.
_COMPUTING = 50
_COMPUTERS = 2
_WEIGHT = 0.3  # of the newest measurement in the pace


class Lane:
    """What a node holds of one kind. Guarded by the lock of `Lanes`, except where said."""

    __slots__ = (
        "cap",
        "demand",
        "handler",
        "held",
        "kind",
        "low",
        "moved_at",
        "pace",
        "rows",
        "running",
    )

    def __init__(self, handler: Handler, cap: int) -> None:
        self.handler = handler
        self.kind = handler.kind
        self.cap = cap  # calls at once, at most
        self.rows: deque[Row] = deque()  # due, waiting for a worker
        self.held = 0  # claimed and not finished: in the timeline, waiting or running
        self.running = 0  # calls under way
        self.pace = 0.0  # µs per event of one worker, smoothed; 0 while nothing was measured
        self.moved_at = 0  # store time at which the queue last moved on
        self.low: int | None = None  # claimer's: narrow, and nothing unclaimed is due before this
        self.demand = 0  # pulled kinds: how many events consumers wait for

    def room(self, now: int, lead: int) -> int:
        """Return how many more events could start within the lead (µs)."""
        if self.handler.mode is Mode.PULL:
            return max(0, self.demand - (self.held - self.running))
        if self.rows and now - self.moved_at > STALLED:
            return 0
        if self.pace == 0.0:
            return max(0, 1_000_000 - self.held)
        return max(0, int(self.cap * (2 + lead / self.pace)) - self.held)

    def chunk(self) -> int:
        """Return how many rows to give to a worker at once."""
        if self.handler.mode is Mode.BATCH:
            return self.handler.batch
        if self.pace == 0.0:
            return 1
        return max(1, min(_CHUNK_ROWS, int(_CHUNK / self.pace)))

    def share(self) -> int:
        """Return how many rows to give to a task of the event loop at once.

        One, for rows wait beside one another there; but of a handler that is so quick that it
        cannot wait for anything, as many as a thread would get: 3 µs an event against 14.
        """
        if self.handler.mode is Mode.ASYNC_BATCH:
            return self.handler.batch
        if not self._computes():
            return 1
        return min(-(-len(self.rows) // _COMPUTERS), self.chunk()) or 1

    def jobs(self) -> int:
        """Return how many workers or tasks it is worth waking for what waits."""
        on_loop = self.handler.mode in (Mode.ASYNC, Mode.ASYNC_BATCH)
        jobs = -(-len(self.rows) // (self.share() if on_loop else self.chunk()))
        if self._computes():
            jobs = min(jobs, _COMPUTERS)
        return min(jobs, self.cap)

    def _computes(self) -> bool:
        return 0.0 < self.pace < _COMPUTING

    def spare(self) -> int:
        """Return how many of the waiting rows no worker or consumer is about to take."""
        pulled = self.handler.mode is Mode.PULL
        return len(self.rows) - (self.demand if pulled else self.cap)

    def measure(self, count: int, micros: int) -> None:
        """Learn from `count` events that took so long."""
        pace = max(micros, 1) / count
        self.pace = pace if self.pace == 0.0 else self.pace + _WEIGHT * (pace - self.pace)


class Job:
    """Rows of one lane in the hands of one worker.

    The worker takes from `rows` and adds to `done` and `others`; what it has not begun can be
    taken back, and what it has done can be settled, while it hangs in one call. All are deques,
    because their ends are the only structures that two threads may touch without a lock.
    """

    __slots__ = (
        "current",
        "done",
        "dropped",
        "lane",
        "lateness",
        "others",
        "rows",
        "running",
        "started_at",
        "told",
    )

    def __init__(self, lane: Lane, rows: deque[Row], started_at: int) -> None:
        self.lane = lane
        self.rows = rows
        self.started_at = started_at  # store time, µs
        self.current: Row | None = None  # the row that runs, where one runs at a time
        self.running: list[Row] = []  # the rows that run, where several run at once
        self.done: deque[Row] = deque()
        self.others: deque[tuple[Row, Retry | Dead | BaseException]] = deque()
        self.dropped: list[Row] = []  # kept back by the fence
        self.lateness: list[int] = []  # µs, of each row that was begun
        self.told = 0  # outcomes that were taken from here so far


class Lanes:
    """All lanes of a node, made as handlers are registered."""

    def __init__(self, handlers: Handlers, workers: int, async_workers: int) -> None:
        self._handlers = handlers
        self._workers = workers
        self._async_workers = async_workers
        self._by_kind: dict[str, Lane] = {}
        self.lock = threading.Lock()

    def get(self, kind: str) -> Lane | None:
        """Return the lane of a kind, or None where no handler answers it."""
        lane = self._by_kind.get(kind)
        if lane is None:
            handler = self._handlers.get(kind)
            if handler is None:
                return None
            with self.lock:
                lane = self._by_kind.setdefault(kind, Lane(handler, self._cap(handler)))
        return lane

    def all(self) -> list[Lane]:
        """Return a lane for every registered handler."""
        if len(self._by_kind) < len(self._handlers):
            for handler in self._handlers:
                self.get(handler.kind)
        return list(self._by_kind.values())

    def hold(self, rows: list[Row]) -> None:
        """Count rows as held."""
        self._count(rows, 1)

    def let_go(self, rows: list[Row]) -> None:
        """Count rows as no longer held, without an attempt."""
        self._count(rows, -1)

    def _count(self, rows: list[Row], sign: int) -> None:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row[KIND]] = counts.get(row[KIND], 0) + 1
        for kind, count in counts.items():
            lane = self.get(kind)
            if lane is not None:
                with self.lock:
                    lane.held += sign * count

    def held(self) -> int:
        """Count what all lanes hold."""
        return sum(lane.held for lane in self)

    def queued(self) -> int:
        """Count what is due and waits for a worker."""
        return sum(len(lane.rows) for lane in self)

    def running(self) -> int:
        """Count the calls under way."""
        return sum(lane.running for lane in self)

    def __iter__(self) -> Iterator[Lane]:
        """Iterate over the lanes made so far; others may be made meanwhile."""
        return iter(list(self._by_kind.values()))

    def _cap(self, handler: Handler) -> int:
        if handler.mode in (Mode.ASYNC, Mode.ASYNC_BATCH):
            return self._async_workers
        # A kind whose handlers all hang must leave threads to the others.
        return max(1, self._workers - max(1, self._workers // 4))

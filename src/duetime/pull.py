"""Pull instead of being called: claims of one kind, handed out at the caller's pace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from duetime.clock import MICROS, StoreClock
from duetime.errors import LifecycleError
from duetime.event import Event
from duetime.node.judge import describe
from duetime.node.lanes import Job, Lane
from duetime.node.node import Node
from duetime.outcome import Dead, Retry

__all__ = ["LOOK", "Claim", "Claims"]

LOOK = 0.5  # seconds between two looks whether the node still runs


class Claim:
    """The sole right to work on one event, until it is confirmed or rolled back.

    As a context manager it gives the event, confirms when the block ends well, and rolls back
    with the error when it raises. A second confirm or rollback is ignored.
    """

    __slots__ = ("_began", "_clock", "_job", "_lock", "_node", "event")

    def __init__(self, event: Event, job: Job, node: Node, clock: StoreClock) -> None:
        self.event = event
        self._job: Job | None = job
        self._node = node
        self._clock = clock
        self._began = clock.boot()
        self._lock = threading.Lock()

    def confirm(self) -> bool:
        """Say that it is done; return whether this was the first answer.

        The store is told within `settle_every`, together with others. If this node was held for
        dead meanwhile, the store refuses the confirmation and the event runs elsewhere.
        """
        return self._settle(None)

    def rollback(self, after: timedelta | float | None = None, *, error: str | None = None) -> bool:
        """Give it back: again after a delay (timedelta or seconds), by default by the backoff.

        It counts as a failed attempt. Return whether this was the first answer.
        """
        return self._settle(Retry(after=after, error=error))

    def give_up(self, reason: str) -> bool:
        """Make the event dead; return whether this was the first answer."""
        return self._settle(Dead(reason))

    def _settle(self, result: Retry | Dead | None) -> bool:
        with self._lock:
            job, self._job = self._job, None
        if job is None:
            return False
        job.current = None
        if result is None:
            job.done.append(self.event.row)
        else:
            job.others.append((self.event.row, result))
        self._node.runner.finish(job, self._clock.boot() - self._began)
        return True

    def put_back(self) -> None:
        """Give it back unopened: as if it had never been handed out."""
        with self._lock:
            job, self._job = self._job, None
        if job is not None:
            job.current = None
            job.lateness.clear()
            job.dropped.append(self.event.row)
            self._node.runner.finish(job, 0)

    def __enter__(self) -> Event:
        """Return the event."""
        return self.event

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Confirm, or roll back with the error."""
        if error is None:
            self.confirm()
        else:
            self.rollback(error=describe(error))


class Claims:
    """An endless iterator of claims of one kind; `take` gives several at once.

    Only as many events are claimed as consumers wait for, so that nothing is hoarded.
    """

    def __init__(self, node: Node, lane: Lane, clock: StoreClock, prefetch: int) -> None:
        self._node = node
        self._lane = lane
        self._clock = clock
        self._prefetch = prefetch
        self._waiting = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._closed = False

    def notify(self) -> None:
        """Hear that rows of this kind are due."""
        with self._waiting:
            self._waiting.notify_all()
            listeners = tuple(self._listeners)
        for hear in listeners:
            hear()

    def take(self, most: int = 1, wait: float | None = None) -> list[Claim]:
        """Return up to `most` claims as soon as there is one.

        Waits at most `wait` seconds (None: until there is one), then returns an empty list; so it
        does after `close`, which a stop of the scheduler calls. Raises LifecycleError when the node
        alone was stopped.
        """
        deadline = None if wait is None else self._clock.boot() + int(wait * MICROS)
        with self.asking(most):
            while not (claims := self.collect(most)) and not self._closed:
                left = None if deadline is None else (deadline - self._clock.boot()) / MICROS
                if left is not None and left <= 0:
                    break
                self.look()
                with self._waiting:
                    if not self._lane.rows and not self._closed:
                        self._waiting.wait(LOOK if left is None else min(LOOK, left))
        return claims

    # --- what `take` is made of, for those who wait in another way ------------------------------

    @contextmanager
    def asking(self, most: int, hear: Callable[[], None] | None = None) -> Iterator[None]:
        """Let so many events be claimed for the caller; `hear` is called when some are due."""
        with self._node.lanes.lock:
            self._lane.demand += most
        if hear is not None:
            with self._waiting:
                self._listeners.append(hear)
        try:
            yield
        finally:
            with self._node.lanes.lock:
                self._lane.demand -= most
            if hear is not None:
                with self._waiting:
                    self._listeners.remove(hear)

    def look(self) -> None:
        """Wake the claimer; raise LifecycleError when the node was stopped."""
        if self._node.claimer.stopped:
            raise LifecycleError(
                f"claims({self._lane.kind!r}): the node was stopped.", code="stopped"
            )
        self._node.claimer.want()

    def collect(self, most: int) -> list[Claim]:
        """Return up to so many claims on what is due and held, without waiting."""
        claims: list[Claim] = []
        while len(claims) < most and not self._closed:
            job = self._node.runner.job_of(self._lane, 1, self._clock.now())
            if job is None:
                break
            events = self._node.runner.begin(job)
            if not events:
                self._node.runner.finish(job, 0)
                continue
            job.current = events[0].row
            claims.append(Claim(events[0], job, self._node, self._clock))
        return claims

    @property
    def closed(self) -> bool:
        """Whether the iteration was ended."""
        return self._closed

    def close(self) -> None:
        """End the iteration; claims handed out stay valid."""
        self._closed = True
        self.notify()

    def __iter__(self) -> Iterator[Claim]:
        """Yield claims until closed; what was prefetched when the loop is left goes back."""
        while not self._closed:
            claims = self.take(self._prefetch)
            try:
                while claims:
                    yield claims.pop(0)
            finally:
                for claim in claims:
                    claim.put_back()

"""Runs handlers: rows come from the firer, are handed to workers in jobs, judged, and reported.

`run` shows the whole path of a sync handler's job: fence, call, judge, report.
"""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat, starmap
from typing import Any, NoReturn, TypeVar

from duetime.clock import MICROS, StoreClock
from duetime.errors import InvalidInput, LifecycleError
from duetime.event import CLAIM, CRASHES, DUE_AT, KIND, Event, Row, id_of
from duetime.handlers import Mode
from duetime.node.fence import Fence
from duetime.node.judge import Rules, describe, give_back, interrupted, judge, park
from duetime.node.lanes import Job, Lane, Lanes
from duetime.node.settler import Settler
from duetime.observer import ErrorReport, Level, Observers
from duetime.outcome import Dead, Done, Outcome, Retry
from duetime.stores.contract import Death, Move
from duetime.tally import Lateness, Tally

__all__ = ["Runner"]

T = TypeVar("T")
_HOARDED = MICROS  # rows whose queue has not moved for so long (µs) go back to the store
_NEVER = 1 << 63  # above every claim number
_THREADED = (Mode.SYNC, Mode.BATCH)
_ONE_BY_ONE = (Mode.SYNC, Mode.ASYNC)
_STUCK = MICROS // 200  # a job that has run for so long (µs) loses the rows it has not begun


def _popped(rows: deque[T], most: int) -> Iterable[T]:
    """Take so many off the left end, each in one step that no other thread can cut in two."""
    return starmap(rows.popleft, repeat((), most))


class Runner:
    """Between the firer and the workers: knows which handler answers which row."""

    def __init__(
        self,
        lanes: Lanes,
        settler: Settler,
        fence: Fence,
        clock: StoreClock,
        observers: Observers,
        tally: Tally,
        lateness: Lateness,
        rules: Rules,
    ) -> None:
        self.lanes = lanes
        self._settler = settler
        self._fence = fence
        self._clock = clock
        self._observers = observers
        self._tally = tally
        self._lateness = lateness
        self._rules = rules
        self._ready: deque[Lane] = deque()  # sync and batch lanes with rows, in turn
        self._jobs: dict[Job, None] = {}  # a dict keeps their order: it must repeat in a simulation
        self._reporting = 0  # jobs that are over and whose outcomes are on their way
        self.suspects = 0  # events held, or not yet settled, that were running when a node died
        self.feed_threads: Callable[[int], None] = lambda _jobs: None
        self.feed_loop: Callable[[Lane], None] = lambda _lane: None
        self.feed_pull: Callable[[Lane], None] = lambda _lane: None
        self.room_made: Callable[[], None] = lambda: None  # wakes the claimer

    # --- hand over -------------------------------------------------------------------------

    def hand(self, rows: list[Row], now: int) -> None:
        """Take due rows from the firer."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            kind = row[KIND]
            if kind in groups:
                groups[kind].append(row)
            else:
                groups[kind] = [row]
        for kind, group in groups.items():
            lane = self.lanes.get(kind)
            if lane is None:
                self._park(kind, group)
            else:
                self._queue(lane, group, now)

    def _queue(self, lane: Lane, rows: list[Row], now: int) -> None:
        mode = lane.handler.mode
        with self.lanes.lock:
            if not lane.rows:
                lane.moved_at = now
                if mode in _THREADED:
                    self._ready.append(lane)
            lane.rows.extend(rows)
            jobs = lane.jobs()
        if mode in _THREADED:
            self.feed_threads(jobs)
        elif mode is Mode.PULL:
            self.feed_pull(lane)
        else:
            self.feed_loop(lane)

    def _park(self, kind: str, rows: list[Row]) -> None:
        self._settler.report([], [park(row) for row in rows])
        self._error(
            Level.WARNING,
            f"No handler for kind {kind!r} on this node: {len(rows)} event(s) parked until a node "
            f"knows it. Register one with @scheduler.on({kind!r}).",
        )

    # --- work ------------------------------------------------------------------------------

    def next_job(self, now: int) -> Job | None:
        """Return rows for one worker thread, or None when nothing waits that may run."""
        with self.lanes.lock:
            for _ in range(len(self._ready)):
                lane = self._ready.popleft()
                if not lane.rows:
                    continue
                if lane.running >= lane.cap:
                    self._ready.append(lane)
                    continue
                job = self._cut(lane, lane.chunk(), now)
                if lane.rows:
                    self._ready.append(lane)
                return job
        return None

    def job_of(self, lane: Lane, most: int, now: int) -> Job | None:
        """Return rows of one lane (for the event loop and for consumers), or None."""
        with self.lanes.lock:
            return self._cut(lane, most, now) if lane.rows else None

    def _cut(self, lane: Lane, most: int, now: int) -> Job:
        if most >= len(lane.rows):
            rows, lane.rows = lane.rows, deque()
        else:
            rows = deque(_popped(lane.rows, most))
        lane.moved_at = now
        lane.running += 1
        job = Job(lane, rows, now)
        self._jobs[job] = None
        return job

    def run(self, job: Job) -> None:
        """Run a sync job to its end in this thread."""
        if job.lane.handler.mode is Mode.BATCH:
            self._run_batch(job)
            return
        function = job.lane.handler.function
        boot, offset, fence = self._clock.boot, self._clock.offset, self._fence
        rows, done, lateness = job.rows, job.done.append, job.lateness.append
        began = at = boot()
        while rows:
            try:
                row = rows.popleft()
            except IndexError:
                break  # what was left was taken back meanwhile
            if at >= fence.until or row[9] < fence.oldest:
                job.dropped.append(row)
                continue
            lateness(at + offset - row[0])
            job.current = row
            try:
                result = function(Event(row))
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is a failure
                job.others.append((row, error))
            else:
                if result is None or (other := _other(result)) is None:
                    done(row)
                else:
                    job.others.append((row, other))
            at = boot()
        job.current = None
        self.finish(job, at - began)

    def next_event(self, job: Job) -> Event | None:
        """Begin the next row of a job that the event loop runs one by one; None when it is over."""
        fence = self._fence
        while job.rows:
            try:
                row = job.rows.popleft()
            except IndexError:
                break  # what was left was taken back meanwhile
            at = self._clock.boot()
            if at < fence.until and row[CLAIM] >= fence.oldest:
                job.lateness.append(at + self._clock.offset - row[DUE_AT])
                job.current = row
                return Event(row)
            job.dropped.append(row)
        job.current = None
        return None

    def book(self, job: Job, row: Row, result: object) -> None:
        """Book what a handler of one event returned or raised."""
        other = result if isinstance(result, BaseException) else _other(result)
        if other is None:
            job.done.append(row)
        else:
            job.others.append((row, other))

    def begin(self, job: Job) -> list[Event]:
        """Return the events of a job that may start, all at once (batches, the event loop)."""
        boot = self._clock.boot()
        fence = self._fence
        now = boot + self._clock.offset
        rows, job.rows = job.rows, deque()
        oldest = fence.oldest if boot < fence.until else _NEVER
        begun = [row for row in rows if row[CLAIM] >= oldest]
        if len(begun) < len(rows):
            job.dropped += [row for row in rows if row[CLAIM] < oldest]
        job.lateness += [now - row[DUE_AT] for row in begun]
        return [Event(row) for row in begun]

    def _run_batch(self, job: Job) -> None:
        began = self._clock.boot()
        events = self.begin(job)
        job.running = rows = [event.row for event in events]
        result: Any = None
        if events:
            try:
                result = job.lane.handler.function(events)
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is a failure
                result = error
        if result is None:
            job.done.extend(rows)
        else:
            self.take_results(job, events, result)
        job.running = []
        self.finish(job, self._clock.boot() - began)

    def take_results(self, job: Job, events: list[Event], result: Any) -> None:
        """Book what a handler of many events returned: None, or an outcome for each."""
        if result is None:
            job.done.extend([event.row for event in events])
            return
        for event, outcome in zip(events, self._each(events, result), strict=True):
            if isinstance(outcome, Retry | Dead | BaseException):
                job.others.append((event.row, outcome))
            else:
                job.done.append(event.row)

    def _each(self, events: list[Event], result: Any) -> list[Outcome | BaseException | None]:
        if result is None or isinstance(result, Done | Retry | Dead | BaseException):
            return [result] * len(events)
        if isinstance(result, dict):
            return [result.get(event.id) for event in events]
        if isinstance(result, list | tuple) and len(result) == len(events):
            return list(result)
        fault = InvalidInput(
            "A batch handler returns None, one outcome for all, a dict of outcomes by id, or a "
            f"list with one outcome per event, not {type(result).__name__}.",
            code="batch_result",
        )
        return [fault] * len(events)

    # --- finish ----------------------------------------------------------------------------

    def finish(self, job: Job, micros: int) -> None:
        """Report a job's outcomes and free its worker's place; it took so many µs."""
        lane = job.lane
        if self._fence.forked:
            self._leave_fork(lane)
        with self.lanes.lock:
            self._jobs.pop(job, None)
            self._reporting += 1
            lane.running -= 1
            lane.moved_at = max(lane.moved_at, self._clock.now())
            done, others = self._harvest(job, over=True)
            if done or others:
                lane.measure(job.told, micros)
            lane.held -= len(job.dropped)
            self._tally.dropped += len(job.dropped)
            if lane.rows and lane.handler.mode in _THREADED and lane not in self._ready:
                self._ready.append(lane)
        try:
            self._report(lane, done, others, job.dropped)
        finally:
            with self.lanes.lock:
                self._reporting -= 1
            self.room_made()

    def _leave_fork(self, lane: Lane) -> NoReturn:
        """End a child that was forked by a handler and came back from it: no node is behind it.

        Going on it would run its parent's events again, and listen on its parent's event loop.
        """
        text = "A handler forked and its child came back: end such a child with os._exit()."
        if lane.handler.mode is Mode.PULL:
            raise LifecycleError(text, code="forked")
        self._error(Level.ERROR, text)
        os._exit(1)

    def is_busy(self) -> bool:
        """Tell whether a handler runs, or the outcome of one is not yet with the settler."""
        return self._reporting > 0 or self.lanes.running() > 0

    def _harvest(
        self, job: Job, *, over: bool = False
    ) -> tuple[list[Row], list[tuple[Row, Retry | Dead | BaseException]]]:
        """Take the outcomes that a job has so far; the caller holds the lock."""
        if over:  # nobody adds to it any more
            done, job.done = list(job.done), deque()
        else:
            done = list(_popped(job.done, len(job.done)))
        others = list(_popped(job.others, len(job.others)))
        fired = len(done) + len(others)
        job.told += fired
        job.lane.held -= fired
        self._tally.fired += fired
        self._lateness.add(job.lateness[:fired] if job.current else job.lateness)
        del job.lateness[:fired]
        return done, others

    def _report(
        self,
        lane: Lane,
        done: list[Row],
        others: list[tuple[Row, Retry | Dead | BaseException]],
        dropped: list[Row],
    ) -> None:
        changes = self.judge(lane, others) if others else []
        # Unless the others held us for dead, these claims are still ours: nobody else frees them.
        changes += [give_back(row) for row in dropped if row[CLAIM] >= self._fence.oldest]
        self._settler.report(done, changes)
        if done or others:
            self._observers.fired(len(done) + len(others))

    def judge(
        self, lane: Lane, others: list[tuple[Row, Retry | Dead | BaseException]]
    ) -> list[Move | Death]:
        """Turn what went other than well into changes, and tell of failures."""
        now = self._clock.now()
        changes: list[Move | Death] = []
        for row, result in others:
            if isinstance(result, BaseException):
                self._tally.failed += 1
                self._error(Level.WARNING, describe(result), id_of(row), result)
            changes.append(judge(row, result, lane.handler.backoff, now, self._rules))
        return changes

    # --- tend ------------------------------------------------------------------------------

    def tend(self, now: int) -> int | None:
        """Look after jobs that are stuck and queues that do not move; say when to look again."""
        if not self._jobs and not self.lanes.queued():
            return None
        again: list[int] = []
        hoarded: list[Row] = []
        harvests = []
        with self.lanes.lock:
            for job in list(self._jobs):
                if job.lane.handler.mode not in _ONE_BY_ONE or not (job.rows or job.done):
                    continue
                # Workers read the clock after this step did; far ahead means it was put back.
                if -_HOARDED < now - job.started_at < _STUCK:
                    again.append(job.started_at + _STUCK)
                    continue
                self._take_back(job, now)
                harvests.append((job.lane, *self._harvest(job)))
                again.append(now + _STUCK)
            for lane in self.lanes:
                again += self._look_after(lane, now, hoarded)
        for lane, done, others in harvests:
            self._report(lane, done, others, [])
            if lane.handler.mode in _THREADED:
                self.feed_threads(lane.jobs())
            else:
                self.feed_loop(lane)
        if hoarded:
            self.return_rows(hoarded)
        return min(again, default=None)

    def _look_after(self, lane: Lane, now: int, hoarded: list[Row]) -> list[int]:
        """Take out rows that have waited for too long; return when to look again, if at all."""
        if not lane.rows:
            return []
        again = []
        if lane.handler.mode in _THREADED and lane.running < lane.cap:
            again.append(now + _STUCK)  # a worker is about to take some, and may hang in the first
        if abs(now - lane.moved_at) < _HOARDED:
            return [*again, lane.moved_at + _HOARDED]
        hoarded.extend(lane.rows.pop() for _ in range(lane.spare()))
        if lane.rows and lane.handler.mode is Mode.PULL:
            again.append(now + _HOARDED)  # the consumers may leave without taking them
        return again

    def _take_back(self, job: Job, now: int) -> None:
        """Put what a slow job has not begun to the front of its lane again."""
        rest: deque[Row] = deque()
        while job.rows:
            try:
                rest.appendleft(job.rows.pop())
            except IndexError:
                break
        if not rest:
            return
        lane = job.lane
        count = job.told + len(job.done) + len(job.others)
        if count or job.current:  # else its worker had no turn yet, which tells nothing
            lane.measure(max(1, count), now - job.started_at)
        if not lane.rows:
            if lane.handler.mode in _THREADED:
                self._ready.append(lane)
            lane.moved_at = now
        lane.rows.extendleft(reversed(rest))

    def abandon(self) -> None:
        """Settle what running jobs have done, and free the claims of what still runs."""
        with self.lanes.lock:
            jobs = list(self._jobs)
            harvests = [(job, *self._harvest(job)) for job in jobs]
        for job, done, others in harvests:
            ended = [*done, *(row for row, _ in others)]
            begun = [job.current] if job.current else job.running
            current = [row for row in begun if row not in ended]  # one may have ended just now
            self._report(job.lane, done, others, [])
            self._settler.report([], [interrupted(row) for row in current])

    def interrupt(self, job: Job) -> None:
        """Free the claims of a job whose handler was cancelled by us: no failure is counted."""
        rows, job.running = job.running, []
        waiting, job.rows = job.rows, deque()
        self.lanes.let_go([*rows, *waiting])
        self._tally.dropped += len(rows)
        changes: list[Move | Death] = [interrupted(row) for row in rows]
        self._settler.report([], [*changes, *(give_back(row) for row in waiting)])

    def return_rows(self, rows: list[Row]) -> None:
        """Give claims back to the store that were not begun."""
        self.lanes.let_go(rows)
        self._settler.report([], [give_back(row) for row in rows])

    def unqueue(self) -> list[Row]:
        """Take out every row that waits for a worker (no job has begun it) and return them."""
        with self.lanes.lock:
            rows = [row for lane in self.lanes for row in lane.rows]
            for lane in self.lanes:
                lane.rows = deque()
            self._ready.clear()
            for job in self._jobs:
                while job.rows and job.lane.handler.mode in _ONE_BY_ONE:
                    try:
                        rows.append(job.rows.pop())
                    except IndexError:
                        break
        return rows

    def suspects_gone(self, rows: list[Row]) -> None:
        """Hear of rows whose outcome is written, so that the next suspects may be tried.

        Not sooner: if a node dies of the next one, what is done but not written counts as having
        been with it, and would be given up as poison in the end.
        """
        gone = sum(1 for row in rows if row[CRASHES] and row[CLAIM] >= self._fence.oldest)
        if gone:
            with self.lanes.lock:
                self.suspects = max(0, self.suspects - gone)
            self.room_made()

    def _error(
        self,
        level: Level,
        text: str,
        event_id: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        self._tally.errors += 1
        self._observers.error(ErrorReport(level, "runner", text, event_id, error))


def _other(result: object) -> Retry | Dead | BaseException | None:
    """Return what a handler's answer means if not "done"."""
    if isinstance(result, Retry | Dead):
        return result
    if inspect.iscoroutine(result):
        result.close()
        return InvalidInput(
            "The handler returned a coroutine, so nothing was done: await it in an async def.",
            code="handler_signature",
        )
    return None

"""Writes outcomes to the store, in batches: the last stage of an event's life.

A claim whose rows are all done is settled by one range statement; a claim that is held up by a
slow row is settled row by row after a short while. Exceptions (retries, deaths, given back) are
written before any range, in the same transaction, because a range takes whatever still bears
the number of its claim.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from duetime.clock import MICROS
from duetime.errors import AnswerLost, StoreError
from duetime.event import ATTEMPT, CLAIM, CRASHES, DUE_AT, NAME, PARKING, SHARD, Row, id_of
from duetime.observer import ErrorReport, Level, Observers
from duetime.stores.contract import Death, Move, Range, Settlement, Store
from duetime.tally import Tally

__all__ = ["Settler"]

_PATIENCE = MICROS // 10  # how long done rows wait for the rest of their claim, µs
_FIRST_PAUSE = MICROS // 50  # after a store that could not be reached; doubles up to:
_LAST_PAUSE = 2 * MICROS
_TRIES = 3  # of an outcome that the store cannot take though it answers


class _Batch:
    """The rows of one claim that have no name and no outcome yet."""

    __slots__ = ("done", "high", "low", "open", "shards", "since")

    def __init__(self, rows: list[Row], shards: tuple[int, ...]) -> None:
        self.open = sum(1 for row in rows if row[NAME] is None)
        self.low = rows[0][DUE_AT]
        self.high = rows[-1][DUE_AT]
        self.shards = shards
        self.done: list[Row] = []
        self.since = 0  # when the first of `done` came


class _Part:
    """One settlement to send, and how many rows it should change."""

    __slots__ = ("expected", "fields", "lost", "tries", "weight", "weights")

    def __init__(self, field: str, items: Sequence[Any], weights: Sequence[int]) -> None:
        self.fields: dict[str, Sequence[Any]] = {field: items}
        self.weights: dict[str, Sequence[int]] = {field: weights}  # of each item, in rows
        self.weight = sum(weights)
        self.expected: dict[str, int] = {field: self.weight}
        self.lost = False  # whether an answer was lost: it may have been written already
        self.tries = 0  # how often the store met an error of its own over this single outcome

    def join(self, other: _Part) -> None:
        """Send the other's rows in the same transaction."""
        self.fields.update(other.fields)
        self.weights.update(other.weights)
        self.expected.update(other.expected)
        self.weight += other.weight

    def split(self) -> list[_Part]:
        """Return smaller parts of the same, in the order they must be written; none of a single."""
        parts = []
        for field in ("moves", "deaths", "done", "ranges"):
            items, weights = self.fields.get(field, ()), self.weights.get(field, ())
            half = -(-len(items) // 2) if len(self.fields) == 1 else len(items)
            for start in range(0, len(items), max(1, half)):
                end = start + half
                parts.append(_Part(field, items[start:end], weights[start:end]))
                parts[-1].lost = self.lost
        return parts if len(parts) > 1 else []


class Settler:
    """Gathers outcomes from the workers and writes them, at most every `every` µs."""

    wake: Callable[[], None]

    def __init__(
        self, store: Store, observers: Observers, tally: Tally, every: int, most: int
    ) -> None:
        self._store = store
        self._observers = observers
        self._tally = tally
        self._every = every
        self._longest = max(every, _LAST_PAUSE)
        self._most = most
        self._lock = threading.Lock()  # of the claims
        self._batches: dict[int, _Batch] = {}
        self._inbox = (
            threading.Lock()
        )  # of the three lists: no worker waits while claims are booked
        self._done: list[Row] = []
        self._moves: list[Move] = []
        self._deaths: list[Death] = []
        self._unsent: list[_Part] = []
        self._pause = 0
        self._next = 0
        self.settled: Callable[[list[Row]], None] = lambda _rows: None  # of events that crashed
        self.moved: Callable[[int, int], None] = lambda _due_at, _now: None  # tells the claimer
        self.wake = lambda: None

    def expect(self, number: int, rows: list[Row]) -> None:
        """Learn of a claim before any of its rows can have an outcome (rows sorted by due)."""
        shards = tuple(sorted({row[SHARD] for row in rows}))
        with self._lock:
            self._batches[number] = _Batch(rows, shards)

    def report(self, done: list[Row], changes: list[Move | Death]) -> None:
        """Take outcomes: rows that are done, and what becomes of the others."""
        with self._inbox:
            self._done.extend(done)
            for change in changes:
                if isinstance(change, Move):
                    self._moves.append(change)
                else:
                    self._deaths.append(change)
            urgent = len(self._done) >= self._most
        if urgent and not self._unsent:  # else the store is away: it gets its pause
            self._next = 0
        self.wake()

    def forget(self) -> None:
        """Give up on ranges: what is done is settled row by row (the node has a new number)."""
        with self._lock, self._inbox:
            for batch in self._batches.values():
                self._done.extend(batch.done)
            self._batches = {}
        self.wake()

    def waiting(self) -> int:
        """Count outcomes that are not written yet."""
        with self._lock, self._inbox:
            gathered = len(self._done) + len(self._moves) + len(self._deaths)
            held = sum(len(batch.done) for batch in self._batches.values())
            return gathered + held + sum(part.weight for part in self._unsent)

    def step(self, now: int, *, flush: bool = False) -> int | None:
        """Write what there is; with `flush`, do not wait for the rest of a claim."""
        if not flush and now < self._next <= now + self._longest:  # else the clock was put back
            return self._next
        self._next = now + self._every
        if not self._unsent:
            self._gather(now, flush=flush)
        while self._unsent:
            try:
                written = self._send(self._unsent[0], now)
            except Exception as error:  # noqa: BLE001 - what it cannot take must not stop the rest
                if self._isolate(self._unsent.pop(0), error):
                    continue
                written = False
            if not written:
                self._pause = min(_LAST_PAUSE, max(_FIRST_PAUSE, self._pause * 2))
                self._next = now + self._pause
                return self._next
            self._unsent.pop(0)
            self._pause = 0
        return self._due_again(now)

    def _due_again(self, now: int) -> int | None:
        with self._lock:
            if self._done or self._moves or self._deaths:
                return self._next
            since = [min(batch.since, now) for batch in self._batches.values() if batch.done]
            return max(self._next, min(since) + _PATIENCE) if since else None

    def _gather(self, now: int, *, flush: bool) -> None:
        """Pack what came in into settlements of bearable size, exceptions before ranges."""
        with self._lock:
            with self._inbox:
                done, self._done = self._done, []
                moves, self._moves = self._moves, []
                deaths, self._deaths = self._deaths, []
            single: list[Row] = []
            touched = self._count_in(done, single, [*moves, *deaths])
            ranges = self._ripe(touched, now, single, flush=flush)
        parts: list[_Part] = []
        most = self._most
        for field, items in (("moves", moves), ("deaths", deaths), ("done", single)):
            for start in range(0, len(items), most):
                some = items[start : start + most]
                parts.append(_Part(field, some, [1] * len(some)))
        while ranges:
            closing: list[Range] = []
            weights: list[int] = []
            while ranges and (not closing or sum(weights) + ranges[-1][1] <= most):
                closed, count = ranges.pop()
                closing.append(closed)
                weights.append(count)
            parts.append(_Part("ranges", closing, weights))
        for part in parts:
            last = self._unsent[-1] if self._unsent else None
            fits = last is not None and last.weight + part.weight <= most
            if last is not None and fits and not last.fields.keys() & part.fields.keys():
                last.join(part)
            else:
                self._unsent.append(part)

    def _count_in(
        self, done: list[Row], single: list[Row], changes: list[Move | Death]
    ) -> set[int]:
        """Book outcomes on their claims; rows that no range can take go to `single`."""
        touched: set[int] = set()
        batches = self._batches
        for row in done:
            batch = batches.get(row[CLAIM])
            if batch is None or row[NAME] is not None:
                single.append(row)
                continue
            (single if row[CRASHES] else batch.done).append(row)  # suspects are counted by row
            batch.open -= 1
            touched.add(row[CLAIM])
        for change in changes:
            batch = batches.get(change.row[CLAIM])
            if batch is not None and change.row[NAME] is None:
                batch.open -= 1
                touched.add(change.row[CLAIM])
        return touched

    def _ripe(
        self, touched: set[int], now: int, single: list[Row], *, flush: bool
    ) -> list[tuple[Range, int]]:
        """Return the claims that are complete; done rows of those held up go to `single`."""
        ranges: list[tuple[Range, int]] = []
        for number, batch in list(self._batches.items()):
            if number in touched and not batch.since:
                batch.since = now
            if batch.open == 0:
                if batch.done:
                    closed = Range(number, batch.shards, batch.low, batch.high)
                    ranges.append((closed, len(batch.done)))
                del self._batches[number]
            elif batch.open < 0 or flush or (batch.done and abs(now - batch.since) >= _PATIENCE):
                single.extend(batch.done)
                batch.done = []
                batch.since = 0
                if batch.open < 0:
                    del self._batches[number]
        return ranges

    def _send(self, part: _Part, now: int) -> bool:
        """Write one settlement; return False when it is to be sent again."""
        try:
            settled = self._store.settle(Settlement(**part.fields))
        except AnswerLost as error:
            part.lost = True
            self._tally.resent += 1
            self._report(error)
            return False
        except StoreError as error:
            self._report(error)
            return False
        stale = {
            field: expected - getattr(settled, field) for field, expected in part.expected.items()
        }
        if not part.lost:  # after a lost answer, rows already written look like stale ones
            self._tally.stale += sum(stale.values())
        self._count(part, stale if not part.lost else {})
        moves: Sequence[Move] = part.fields.get("moves", ())
        deaths: Sequence[Death] = part.fields.get("deaths", ())
        ended = [*part.fields.get("done", ()), *(m.row for m in moves), *(d.row for d in deaths)]
        crashed = [row for row in ended if row[CRASHES]]
        if crashed:
            self.settled(crashed)
        if moves:
            self.moved(min(move.due_at for move in moves), now)
        return True

    def _isolate(self, part: _Part, error: Exception) -> bool:
        """Split what the store cannot take until one outcome is left; try that last, then let go.

        Its event stays claimed until this node ends, and then runs again: nothing is lost.
        Returns False when the store is to be left in peace for a moment.
        """
        smaller = part.split()
        if smaller:
            self._unsent[:0] = smaller
            return True
        part.tries += 1
        if part.tries < _TRIES:
            self._unsent.append(part)
            return False
        ((field, items),) = part.fields.items()
        rows = [item.row if field in ("moves", "deaths") else item for item in items]
        known = id_of(rows[0]) if field != "ranges" else None
        text = f"an outcome cannot be written and is let go ({part.weight} event(s) stay claimed "
        text += f"until this node ends, and run again then): {type(error).__name__}: {error}"
        self._tally.errors += 1
        self._observers.error(ErrorReport(Level.CRITICAL, "settler", text, known, error))
        crashed = [row for row in rows if field != "ranges" and row[CRASHES]]
        if crashed:
            self.settled(crashed)
        return True

    def _count(self, part: _Part, stale: dict[str, int]) -> None:
        done = sum(
            part.expected.get(field, 0) - stale.get(field, 0) for field in ("done", "ranges")
        )
        moves: Sequence[Move] = part.fields.get("moves", ())
        # The store says how many moves were stale, not which: the counts add up to the rest.
        changed = len(moves) - stale.get("moves", 0)
        parked = min(changed, sum(1 for m in moves if m.shard == PARKING))
        back = sum(1 for m in moves if m.attempt < m.row[ATTEMPT] and m.shard != PARKING)
        given_back = min(changed - parked, back)
        retried = changed - parked - given_back
        dead = part.expected.get("deaths", 0) - stale.get("deaths", 0)
        tally = self._tally
        tally.done += done
        tally.retried += retried
        tally.parked += parked
        tally.given_back += given_back
        tally.dead += dead
        self._observers.settled(done, retried, dead)
        deaths: Sequence[Death] = part.fields.get("deaths", ())
        if deaths:
            self._observers.died([id_of(death.row) for death in deaths])

    def _report(self, error: StoreError) -> None:
        self._tally.errors += 1
        self._observers.error(ErrorReport(Level.ERROR, "settler", str(error), error=error))

"""What comes in: wishes of callers become rows, and batches of them one write each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast
from zlib import crc32

import msgspec

from duetime import codec, inputs
from duetime.chance import Tails
from duetime.clock import MICROS, StoreClock, from_micros
from duetime.config import Settings
from duetime.errors import AnswerLost, InvalidInput, StoreError
from duetime.event import CLAIM, DUE_AT, KIND, SHARD, TAIL, Event, Row
from duetime.node.node import Node
from duetime.observer import Observers
from duetime.stores.contract import Answer, Bell, Store
from duetime.tally import Tally

__all__ = ["Intake"]

R = TypeVar("R")
_FIELDS = frozenset({"kind", "payload", "at", "after", "id"})
_CHUNK = 1000  # what one transaction writes at most
# New rows go in larger ones: on SQLite 0.48 of bare inserts with 1,000, 0.68 with 4,000, 0.80 with
# 8,000, which would keep every other writer of the file waiting for 50 ms.
_INSERTS = 4000
_TRIES = 4  # how often a write is sent whose answer was lost
_CLOCK_AGE = MICROS  # how long a measurement of the store's clock is good for, where no node beats


class Intake:
    """Turns wishes into rows and writes them, many at a time."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: StoreClock,
        tails: Tails,
        observers: Observers,
        tally: Tally,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._tails = tails
        self._observers = observers
        self._tally = tally
        self._lock = threading.Lock()
        self._measured_at: int | None = None
        self._bell: Bell | None = getattr(store, "bell", None)
        self._ahead = int((settings.lead + settings.poll) * MICROS)
        self.node: Node | None = None  # set while this process is a node

    def now(self) -> int:
        """Return the store's time; where no node keeps it measured, measure it."""
        boot = self._clock.boot()
        if self.node is None and (
            self._measured_at is None or boot - self._measured_at > _CLOCK_AGE
        ):
            now = self._store.time()
            self._clock.measure(now, boot, self._clock.boot())
            self._measured_at = boot
        return self._clock.now()

    @property
    def is_measured(self) -> bool:
        """Whether the store's clock was ever read."""
        return self._measured_at is not None

    def row(
        self,
        kind: str,
        payload: Any,
        at: datetime | None,
        after: timedelta | float | None,
        event_id: str | None,
        now: int | None = None,
    ) -> Row:
        """Return a checked new row; raises InvalidInput and has written nothing then.

        `now` is given where many are made in one call: it is one moment for all of them.
        """
        settings = self._settings
        kind = inputs.kind(kind)
        name = None if event_id is None else inputs.event_id(event_id)
        now = self.now() if now is None else now
        due_at = inputs.due(at, after, now, settings)
        data = codec.encode(payload, settings.max_payload)
        tail = self._tails.next()
        drawn = tail if name is None else crc32(name.encode())
        shard = drawn % self._store.shards
        return (due_at, tail, shard, name, kind, data, 0, 0, 0, 0, now, None)

    def rows(self, wishes: Iterable[object]) -> list[Row]:
        """Return a checked row for each wish, a mapping of the arguments of `schedule` by name.

        Delays count from one moment. Raises InvalidInput that names the index of the first bad one.
        """
        now = self.now()
        return [self._row(index, wish, now) for index, wish in enumerate(wishes)]

    def _row(self, index: int, wish: object, now: int) -> Row:
        if not isinstance(wish, (dict, Mapping)):  # a dict is told in a fifth of the time
            what = "it must be a mapping of the arguments of schedule by name"
        elif not wish.keys() <= _FIELDS:
            what = f"unknown field {min(map(repr, wish.keys() - _FIELDS)):.80}"
        else:
            what = "" if "kind" in wish else "no kind"
        if what:
            raise InvalidInput(f"Event {index}: {what}.", code="field_unknown", field=f"[{index}]")
        get = cast(Mapping[str, Any], wish).get
        try:
            return self.row(
                get("kind", ""), get("payload"), get("at"), get("after"), get("id"), now
            )
        except InvalidInput as error:
            raise InvalidInput(
                f"Event {index}: {error}", code=error.code, field=f"[{index}].{error.field}"
            ) from None

    def insert(self, rows: list[Row]) -> list[Event]:
        """Store rows; what is due at once and can be fired here is stored as claimed by us."""
        node = self.node
        number = 0
        if node is not None:
            now = self._clock.now()
            more = 0
            for index, row in enumerate(rows):
                if node.may_hold(row[KIND], row[DUE_AT], now, more):
                    number = number or node.claimer.next_number()
                    rows[index] = node.claimed(row, number)
                    more += 1
        if node is None or not number:
            return self._insert(rows, node, 0)
        node.storing(1)
        try:
            return self._insert(rows, node, number)
        finally:
            node.storing(-1)

    def _insert(self, rows: list[Row], node: Node | None, number: int) -> list[Event]:
        try:
            found, lost = self._send(lambda: self._store.insert(rows))
        except StoreError:
            if node is not None and number:
                node.disown([row for row in rows if row[CLAIM]])
            raise
        if lost is not None:
            # A name that the first try stored is not someone else's: what it claimed is held here.
            found = [None if _is(one, row) else one for row, one in zip(rows, found, strict=True)]
        events = [Event(row) if one is None else one for row, one in zip(rows, found, strict=True)]
        self._stored(rows, found, events, node, number)
        return events

    def _stored(
        self,
        rows: list[Row],
        found: list[Event | None],
        events: list[Event],
        node: Node | None,
        number: int,
    ) -> None:
        existed = sum(1 for one in found if one is not None)
        with self._lock:
            self._tally.scheduled += len(rows) - existed
            self._tally.existed += existed
            self._tally.saves += 1
        if node is not None:
            new = [row for row, one in zip(rows, found, strict=True) if one is None]
            if number:
                node.hold(number, [row for row in new if row[CLAIM]])
            waiting = [row[DUE_AT] for row in new if not row[CLAIM]]
            if waiting:
                node.stored(min(waiting), self._clock.now())
        if self._bell is not None:
            self._call_others(rows)
        if self._observers.watches("scheduled"):
            self._observers.scheduled([event for event in events if event.created])

    def cancel(self, ids: list[str]) -> list[Answer | AnswerLost]:
        """Take events back."""
        answers = self._insist(lambda: self._store.cancel(ids), Answer.CANCELLED)
        taken = [i for i, answer in zip(ids, answers, strict=True) if answer is Answer.CANCELLED]
        with self._lock:
            self._tally.cancelled += len(taken)
            self._tally.saves += 1
        if taken:
            self._observers.cancelled(taken)
        return answers

    def insert_many(self, rows: list[Row]) -> list[Event]:
        """Store rows in transactions of 4,000."""
        return [event for some in _chunks(rows, _INSERTS) for event in self.insert(some)]

    def cancel_many(self, ids: list[str]) -> list[Answer]:
        """Take events back in transactions of 1,000."""
        return [_sure(answer) for some in _chunks(ids, _CHUNK) for answer in self.cancel(some)]

    def redrive_many(self, ids: list[str]) -> list[Answer]:
        """Send dead events round again, due now, in transactions of 1,000."""
        now = self.now()
        note = msgspec.json.encode({"at": from_micros(now).isoformat(), "outcome": "redriven"})
        return [
            _sure(answer)
            for some in _chunks(ids, _CHUNK)
            for answer in self.redrive(some, now, note)
        ]

    def move(self, event_id: str, due_at: int) -> Answer:
        """Move one event."""
        return _sure(self.reschedule([(event_id, due_at)])[0])

    def reschedule(self, moves: list[tuple[str, int]]) -> list[Answer | AnswerLost]:
        """Move events."""
        answers = self._insist(lambda: self._store.reschedule(moves), Answer.RESCHEDULED)
        moved = [
            due_at
            for (_, due_at), answer in zip(moves, answers, strict=True)
            if answer is Answer.RESCHEDULED
        ]
        with self._lock:
            self._tally.rescheduled += len(moved)
        self._soon(moved)
        return answers

    def redrive(self, ids: list[str], due_at: int, note: bytes) -> list[Answer | AnswerLost]:
        """Send dead events round again."""
        write = lambda: self._store.redrive(ids, due_at, note)  # noqa: E731 - as the ones above
        answers = self._insist(write, Answer.REDRIVEN)
        redriven = sum(1 for answer in answers if answer is Answer.REDRIVEN)
        with self._lock:
            self._tally.redriven += redriven
        self._soon([due_at] * bool(redriven))
        return answers

    def _soon(self, due: Sequence[int]) -> None:
        if due and self.node is not None:
            self.node.stored(min(due), self._clock.now())
        if due and self._bell is not None and min(due) <= self._clock.now() + self._ahead:
            self._bell.ring(min(due))

    def _call_others(self, rows: list[Row]) -> None:
        """Tell other nodes of events due before they would look, except what is served here."""
        assert self._bell is not None
        horizon = self._clock.now() + self._ahead
        due = [row for row in rows if row[DUE_AT] <= horizon and not row[CLAIM]]
        if self.node is not None:
            serves = self.node.serves
            due = [row for row in due if not serves(row[SHARD])]
        if due:
            self._bell.ring(min(row[DUE_AT] for row in due))

    def _insist(self, write: Callable[[], list[Answer]], good: Answer) -> list[Answer | AnswerLost]:
        """Send a write that may come twice; what cannot be told apart then is not guessed."""
        answers, lost = self._send(write)
        if lost is None:
            return [*answers]
        return [answer if answer is good else lost for answer in answers]

    def _send(self, write: Callable[[], R]) -> tuple[R, AnswerLost | None]:
        """Send a write again whose answer was lost: ids were chosen before, so it is safe."""
        lost: AnswerLost | None = None
        for _ in range(_TRIES):
            try:
                return write(), lost
            except AnswerLost as error:
                lost = error
                with self._lock:
                    self._tally.resent += 1
            except StoreError as error:
                if lost is None:
                    raise
                raise lost from error  # the first try may have succeeded: not "surely not"
        assert lost is not None
        raise lost


def _is(found: Event | None, row: Row) -> bool:
    """Tell whether an event that was found is this very row: tails are random, and stay."""
    return found is not None and found.row[TAIL] == row[TAIL]


def _chunks(items: list[R], size: int) -> Iterator[list[R]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _sure(answer: Answer | AnswerLost) -> Answer:
    if isinstance(answer, AnswerLost):
        raise answer
    return answer

"""A store of one's own in one file: events in a dictionary, gone when the process ends.

Written against `duetime.stores.contract` alone, and a store because `StoreSuite` says so. Every
look reads all events, which is fine for some thousands of them. Run it: python memory_store.py
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from threading import Event as Signal
from threading import RLock
from typing import Any, NamedTuple

from duetime import Answer, Counts, Event, InvalidInput, Member, Scheduler, State
from duetime.event import PARKING, Row, id_of
from duetime.stores.contract import (
    ALL_KINDS,
    Changes,
    Death,
    Due,
    Filter,
    Finding,
    Kinds,
    Move,
    Range,
    Roll,
    Settled,
    Settlement,
    owner_of,
)

__all__ = ["DictStore"]


class Fields(NamedTuple):
    """A row whose columns have names; to everybody else it is the tuple that it is."""

    due_at: int
    tail: int
    shard: int
    name: str | None
    kind: str
    payload: bytes
    attempt: int
    failures: int
    crashes: int
    claim: int
    created_at: int
    history: bytes | None


class DictStore:
    """Rows by id; one lock makes each method one transaction."""

    def __init__(self, shards: int = 8) -> None:
        self.shards = shards
        self._lock = RLock()
        self._rows: dict[str, Fields] = {}
        self._dead: dict[str, Event] = {}
        self._nodes: dict[int, Member] = {}
        self._issued = 0

    # --- what callers ask ------------------------------------------------------------------------

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        with self._lock:
            return [self._insert(Fields(*row)) for row in rows]

    def _insert(self, row: Fields) -> Event | None:
        (found,) = self.get([id_of(row)])
        if found is None:
            self._rows[id_of(row)] = row
        elif row.name is not None:
            found.created = False
            return found
        return None

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        with self._lock:
            return [self._cancel(event_id) for event_id in ids]

    def _cancel(self, event_id: str) -> Answer:
        if refused := self._refusal(event_id):
            return refused
        del self._rows[event_id]
        return Answer.CANCELLED

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        with self._lock:
            return [self._reschedule(event_id, due_at) for event_id, due_at in moves]

    def _reschedule(self, event_id: str, due_at: int) -> Answer:
        if refused := self._refusal(event_id):
            return refused
        row = self._rows[event_id]
        self._put(row, due_at=due_at, shard=self._home(row))
        return Answer.RESCHEDULED

    def within(self, connection: object) -> Changes:
        told = f"A dictionary has no part in the transaction of a {type(connection).__name__}."
        raise InvalidInput(told, code="within_invalid", field="within")

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        with self._lock:
            return [self._redrive(event_id, due_at, note) for event_id in ids]

    def _redrive(self, event_id: str, due_at: int, note: bytes) -> Answer:
        refused = self._refusal(event_id)
        if refused is not Answer.DEAD:
            return refused or Answer.SCHEDULED
        row = Fields(*self._dead.pop(event_id).row)
        self._put(
            row,
            due_at=due_at,
            shard=self._home(row),
            failures=0,
            crashes=0,
            history=_with_note(row.history, note),
        )
        return Answer.REDRIVEN

    def _refusal(self, event_id: str) -> Answer | None:
        """Return why an event cannot be changed, or None when it can."""
        if event_id in self._dead:
            return Answer.DEAD
        if event_id not in self._rows:
            return Answer.UNKNOWN
        return Answer.IN_FLIGHT if self._rows[event_id].claim else None

    def _home(self, row: Fields) -> int:
        return row.tail % self.shards if row.shard == PARKING else row.shard

    def _put(self, row: Fields, **columns: Any) -> None:
        """Change columns; whoever leaves the place that its id carries bears the id as name."""
        moved = row._replace(**columns)
        if moved[:3] != row[:3]:
            moved = moved._replace(name=id_of(row))
        self._rows[id_of(row)] = moved

    # --- what nodes ask --------------------------------------------------------------------------

    def peek(
        self,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Due]:
        with self._lock:
            free = sorted(self._free(shards, low, high, kinds, crashes))
        return [Due(row.due_at, row.kind) for row in free[: max(limit, 0)]]

    def claim(
        self,
        number: int,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Row]:
        with self._lock:
            free = list(self._free(shards, low, high, kinds, crashes))
            order = {shard: place for place, shard in enumerate(shards)}
            free.sort(key=lambda row: (order[row.shard], row))
            for row in free[: max(limit, 0)]:
                self._put(row, claim=number, attempt=row.attempt + 1)
            return sorted(r for r in self._between(shards, low, high) if r.claim == number)

    def _between(self, shards: Sequence[int], low: int, high: int) -> Iterator[Fields]:
        rows = self._rows.values()
        return (row for row in rows if row.shard in shards and low <= row.due_at <= high)

    def _free(
        self, shards: Sequence[int], low: int, high: int, kinds: Kinds, crashes: tuple[int, int]
    ) -> Iterator[Fields]:
        for row in self._between(shards, low, high):
            wanted = kinds.only is None or row.kind in kinds.only
            wanted = wanted and row.kind not in kinds.without
            if wanted and not row.claim and crashes[0] <= row.crashes <= crashes[1]:
                yield row

    def settle(self, settlement: Settlement) -> Settled:
        with self._lock:
            moves = sum(self._move(move) for move in settlement.moves)
            deaths = sum(self._bury(death) for death in settlement.deaths)
            done = sum(self._drop(row) for row in settlement.done)
            return Settled(sum(map(self._clear, settlement.ranges)), done, moves, deaths)

    def _held(self, row: Row) -> Fields | None:
        """Return a claimed row as it is kept, or None where the claim holds no more."""
        kept, seen = self._rows.get(id_of(row)), Fields(*row)
        holds = kept is not None and kept[:3] == seen[:3] and kept.claim == seen.claim != 0
        return kept if holds else None

    def _move(self, move: Move) -> bool:
        kept = self._held(move.row)
        if kept is not None:
            columns = move._asdict()
            del columns["row"]
            self._put(kept, **columns, claim=0)
        return kept is not None

    def _bury(self, death: Death) -> bool:
        if not self._drop(death.row):
            return False
        event_id = id_of(death.row)
        row = Fields(*death.row)._replace(
            name=event_id, claim=0, failures=death.failures, history=death.history
        )
        self._dead[event_id] = _grave(row, death.died_at, death.reason)
        return True

    def _drop(self, row: Row) -> bool:
        return self._held(row) is not None and self._rows.pop(id_of(row)) is not None

    def _clear(self, range_: Range) -> int:
        rows = list(self._between(range_.shards, range_.low, range_.high))
        return sum(self._drop(r) for r in rows if r.claim == range_.claim and r.name is None)

    # --- nodes -----------------------------------------------------------------------------------

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        with self._lock:
            if number == 0:
                self._nodes = {n: m for n, m in self._nodes.items() if m.id != node}
                self._issued = number = self._issued + 1
                self._nodes[number] = Member(number, node, 0, info)
            member = self._nodes.get(number)
            if member is not None and member.id == node:
                self._nodes[number] = Member(number, node, member.counter + 1, info)
            else:
                number = 0
            return Roll(self.time(), number, self._issued, sorted(self._nodes.values()))

    def strike(self, number: int, counter: int | None) -> bool:
        with self._lock:
            member = self._nodes.get(number)
            found = member is not None and counter in (None, member.counter)
            if found:
                del self._nodes[number]
            return found

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        with self._lock:
            claimed = (row.claim for row in self._between(shards, _EVER, high) if row.claim)
            return {owner_of(claim) for claim in claimed}

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        with self._lock:
            claimed = [row for row in self._between(shards, _EVER, high) if row.claim]
            mine = [row for row in claimed if owner_of(row.claim) == number]
            for row in mine:
                ran = row.due_at <= suspects
                attempt = row.attempt if ran else max(row.attempt - 1, 0)
                self._put(row, claim=0, attempt=attempt, crashes=row.crashes + ran)
            return len(mine)

    # --- looking, and upkeep ---------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        with self._lock:
            return [self._get(event_id) for event_id in ids]

    def _get(self, event_id: str) -> Event | None:
        dead, row = self._dead.get(event_id), self._rows.get(event_id)
        if dead is not None:
            return _grave(dead.row, dead.died_at, dead.reason)
        return Event(row) if row is not None else None

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        with self._lock:
            buried = wanted.state is State.DEAD
            ids = list(self._dead if buried else self._rows)
            events = [event for event in self.get(ids) if event is not None]
        order = _by_death if buried else _by_due
        events = [event for event in events if _fits(event, wanted)]
        if after is not None:
            events = [event for event in events if order(event) > order(after)]
        return sorted(events, key=order)[: max(limit, 0)]

    def counts(self, now: int) -> Counts:
        with self._lock:
            events = [*map(Event, self._rows.values()), *self._dead.values()]
        by_state = {s.value: dict(Counter(e.kind for e in events if e.state is s)) for s in State}
        waiting = [event for event in events if event.state is State.SCHEDULED]
        return Counts(**by_state, overdue=sum(event.row[0] < now for event in waiting))

    def migrate(self) -> list[str]:
        return []

    def check(self) -> list[Finding]:
        return [Finding("ok", "dictionary", "Events end with the process.")]

    def time(self) -> int:
        return time.time_ns() // 1000

    def close(self) -> None:
        pass


_EVER = -(2**63)


def _grave(row: Row, died_at: int | None, reason: str | None) -> Event:
    return Event(row, died_at=died_at, reason=reason)


def _with_note(history: bytes | None, note: bytes) -> bytes:
    """Return a history with one more entry; one that cannot be read gives way."""
    try:
        entries = json.loads(history or b"[]")
    except ValueError:
        entries = []
    return json.dumps([*entries, json.loads(note)]).encode()


def _by_due(event: Event) -> tuple[int, int, int]:
    due_at, tail, shard = event.row[:3]
    return due_at, shard, tail


def _by_death(event: Event) -> tuple[int, str]:
    return event.died_at or 0, event.id


def _fits(event: Event, wanted: Filter) -> bool:
    return (
        wanted.kind in (None, event.kind)
        and wanted.state in (None, event.state)
        and (wanted.due_from is None or wanted.due_from <= event.row[0])
        and (wanted.due_until is None or event.row[0] < wanted.due_until)
    )


def main() -> None:
    """Schedule an event in the store above, and wait until it has fired."""
    fired = Signal()
    with Scheduler(DictStore()) as scheduler:

        @scheduler.on("greeting")
        def greet(event: Event) -> None:
            print(f"hello {event.payload['name']}")
            fired.set()

        scheduler.start()
        scheduler.schedule("greeting", {"name": "world"}, after=0.2)
        fired.wait(10)


if __name__ == "__main__":
    main()

"""The reference model of a store, in plain Python: clear enough to be the definition.

Nothing outlives the process: for tests, simulations, and events that need not survive.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from threading import Lock

from duetime.clock import Clock, SystemClock
from duetime.event import Event, Place, Row, State, id_of, place_of
from duetime.stores import rules
from duetime.stores.contract import (
    ALL_KINDS,
    Answer,
    Changes,
    Counts,
    Death,
    Due,
    Filter,
    Finding,
    Kinds,
    Member,
    Move,
    Range,
    Roll,
    Settled,
    Settlement,
    owner_of,
)

__all__ = ["MemoryStore"]

_NO_TAIL = -1  # sorts before every tail


class MemoryStore:
    """Events in dictionaries, with a sorted list of (due_at, tail) per shard.

    One lock makes every method one transaction; it is thread-safe and goes on after `close`,
    which has nothing to let go of.
    """

    def __init__(self, shards: int = 32, clock: Clock | None = None) -> None:
        """Make an empty store; `clock.wall()` is its clock."""
        self.shards = shards
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._rows: dict[Place, Row] = {}
        self._order: dict[int, list[tuple[int, int]]] = {}
        self._names: dict[str, Place] = {}
        self._dead: dict[str, Event] = {}
        self._nodes: dict[int, Member] = {}
        self._issued = 0
        self._latest: dict[int, int] = {}  # the latest claim number of each node

    def migrate(self) -> list[str]:
        """Nothing is to be made: return no steps."""
        return []

    def check(self) -> list[Finding]:
        """Say what is to be known of a store in memory."""
        return [Finding("ok", "memory", "Events are kept in memory and end with the process.")]

    def time(self) -> int:
        """Return the wall clock."""
        return self._clock.wall()

    def close(self) -> None:
        """Let go of nothing."""

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; see the contract."""
        with self._lock:
            return [self._insert(row) for row in rows]

    def _insert(self, row: Row) -> Event | None:
        found = self._find(id_of(row))
        if found is not None:
            found.created = False
            return found if row[3] is not None else None
        if _place(row) not in self._rows:
            self._put(row)
        elif row[3] is not None:
            raise rules.place_taken()
        return None

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events; see the contract."""
        with self._lock:
            return [self._cancel(event_id) for event_id in ids]

    def _cancel(self, event_id: str) -> Answer:
        found = self._find(event_id)
        refused = rules.refusal(found)
        if refused is not None or found is None:
            return refused or Answer.UNKNOWN
        self._forget(found.row)
        return Answer.CANCELLED

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times; see the contract."""
        with self._lock:
            return [self._reschedule(event_id, due_at) for event_id, due_at in moves]

    def _reschedule(self, event_id: str, due_at: int) -> Answer:
        found = self._find(event_id)
        refused = rules.refusal(found)
        if refused is not None or found is None:
            return refused or Answer.UNKNOWN
        row = found.row
        shard = rules.home(row[2], row[1], self.shards)
        self._take(_place(row))
        self._put((due_at, row[1], shard, rules.name_after(row, shard, due_at), *row[4:]))
        return Answer.RESCHEDULED

    def within(self, connection: object) -> Changes:
        """Refuse: there is no database whose transaction could be shared."""
        raise rules.unfit(
            "events in memory can be part of no transaction, a "
            f"{type(connection).__name__}'s neither: use a store in a database, such as "
            "sqlite:///test.db in a test."
        )

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Schedule dead events again; see the contract."""
        with self._lock:
            return [self._redrive(event_id, due_at, note) for event_id in ids]

    def _redrive(self, event_id: str, due_at: int, note: bytes) -> Answer:
        dead = self._dead.pop(event_id, None)
        if dead is None:
            found = self._find(event_id)
            return rules.refusal(found) or Answer.SCHEDULED
        self._put(rules.redriven(dead.row, due_at, note, self.shards))
        return Answer.REDRIVEN

    def peek(
        self,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Due]:
        """Return the soonest events that such a claim would take; see the contract."""
        with self._lock:
            by_shard = [self._between(shard, low, high) for shard in shards]
            soonest = (
                Due(row[0], row[4])
                for row in merge(*by_shard, key=_order)
                if not row[9] and _wanted(row, kinds, crashes)
            )
            return list(islice(soonest, max(limit, 0)))

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
        """Claim unclaimed rows; see the contract."""
        claimed: list[Row] = []
        left = max(limit, 0)
        with self._lock:
            repeated = number <= self._latest.get(owner_of(number), 0)
            self._latest[owner_of(number)] = number
            for row in (row for shard in shards for row in self._between(shard, low, high)):
                if row[9] == number:
                    claimed.append(row)
                elif left and not row[9] and _wanted(row, kinds, crashes):
                    left -= 1
                    claimed.append((*row[:6], row[6] + 1, *row[7:9], number, *row[10:]))
                    self._rows[_place(row)] = claimed[-1]
                elif not left and not repeated:
                    break  # a new number has no rows further on
        return sorted(claimed)

    def settle(self, settlement: Settlement) -> Settled:
        """Write outcomes where their claims still hold; see the contract."""
        with self._lock:
            moves = sum(self._move(move) for move in settlement.moves)
            deaths = sum(self._bury(death) for death in settlement.deaths)
            done = sum(self._finish(row) for row in settlement.done)
            return Settled(
                sum(self._clear(each) for each in settlement.ranges), done, moves, deaths
            )

    def _holds(self, row: Row) -> bool:
        kept = self._rows.get(_place(row))
        return row[9] != 0 and kept is not None and kept[9] == row[9]

    def _move(self, move: Move) -> bool:
        row, shard, due_at = move[:3]
        if not self._holds(row):
            return False
        self._take(_place(row))
        name = rules.name_after(row, shard, due_at)
        head = (due_at, row[1], shard, name, row[4], move.payload)
        counters = (move.attempt, move.failures, move.crashes, 0, row[10], move.history)
        self._put((*head, *counters))
        return True

    def _bury(self, death: Death) -> bool:
        if not self._holds(death.row):
            return False
        self._forget(death.row)
        row, (died_at, reason) = rules.dead_row(death), death[1:3]
        event = Event(row, died_at=died_at, reason=reason)
        self._dead[event.id] = event
        return True

    def _finish(self, row: Row) -> bool:
        if not self._holds(row):
            return False
        self._forget(row)
        return True

    def _clear(self, range_: Range) -> int:
        settled = [
            row
            for shard in range_.shards
            for row in self._between(shard, range_.low, range_.high)
            if row[9] == range_.claim != 0 and row[3] is None
        ]
        for row in settled:
            self._take(_place(row))
        return len(settled)

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Raise a counter and read the roll; see the contract."""
        with self._lock:
            if number == 0:
                for old in [m.number for m in self._nodes.values() if m.id == node]:
                    del self._nodes[old]
                self._issued = number = self._issued + 1
                self._nodes[number] = Member(number, node, 0, info)
            member = self._nodes.get(number)
            if member is None or member.id != node:
                number = 0
            else:
                self._nodes[number] = Member(number, node, member.counter + 1, info)
            return Roll(self.time(), number, self._issued, sorted(self._nodes.values()))

    def strike(self, number: int, counter: int | None) -> bool:
        """Take a node off the roll; see the contract."""
        with self._lock:
            member = self._nodes.get(number)
            if member is None or counter not in (None, member.counter):
                return False
            del self._nodes[number]
            return True

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Return who holds claims; see the contract."""
        with self._lock:
            return {
                owner_of(row[9])
                for shard in shards
                for row in self._between(shard, None, high)
                if row[9]
            }

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Free the claims of a node; see the contract."""
        freed = 0
        with self._lock:
            for shard in shards:
                for row in self._between(shard, None, high):
                    if row[9] and owner_of(row[9]) == number:
                        ran = row[0] <= suspects
                        attempt = row[6] if ran else max(row[6] - 1, 0)
                        counters = (attempt, row[7], row[8] + ran, 0)
                        self._rows[_place(row)] = (*row[:6], *counters, *row[10:])
                        freed += 1
        return freed

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Return each event that is kept, or None."""
        with self._lock:
            return [self._find(event_id) for event_id in ids]

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Return a page of events in order; see the contract."""
        with self._lock:
            if wanted.state is State.DEAD:
                found = sorted(self._dead.values(), key=_dead_order)
                start = bisect_right(found, _dead_order(after), key=_dead_order) if after else 0
            else:
                found = [Event(row) for row in sorted(self._rows.values(), key=_order)]
                start = bisect_right(found, _event_order(after), key=_event_order) if after else 0
            matching = (_copy(event) for event in found[start:] if _matches(event, wanted))
            return list(islice(matching, max(limit, 0)))

    def counts(self, now: int) -> Counts:
        """Count what is kept, by state and kind."""
        with self._lock:
            events = [Event(row) for row in self._rows.values()]
            dead = Counter(event.kind for event in self._dead.values())
        by_state = {
            state: dict(Counter(event.kind for event in events if event.state is state))
            for state in (State.SCHEDULED, State.CLAIMED, State.PARKED)
        }
        overdue = sum(e.state is State.SCHEDULED and e.row[0] < now for e in events)
        return Counts(
            scheduled=by_state[State.SCHEDULED],
            claimed=by_state[State.CLAIMED],
            parked=by_state[State.PARKED],
            dead=dict(dead),
            overdue=overdue,
        )

    def _between(self, shard: int, low: int | None, high: int) -> Iterator[Row]:
        """Yield the rows of a shard in order; the rows may be replaced meanwhile, not moved."""
        order = self._order.get(shard, [])
        start = 0 if low is None else bisect_left(order, (low, _NO_TAIL))
        for due_at, tail in islice(order, start, None):
            if due_at > high:
                return
            yield self._rows[Place(shard, due_at, tail)]

    def _find(self, event_id: str) -> Event | None:
        if event_id in self._dead:
            return _copy(self._dead[event_id])
        place = self._names.get(event_id) or place_of(event_id)
        row = self._rows.get(place) if place else None
        return Event(row) if row is not None and id_of(row) == event_id else None

    def _put(self, row: Row) -> None:
        place = _place(row)
        self._rows[place] = row
        insort(self._order.setdefault(place.shard, []), (place.due_at, place.tail))
        if row[3] is not None:
            self._names[row[3]] = place

    def _take(self, place: Place) -> None:
        del self._rows[place]
        order = self._order[place.shard]
        del order[bisect_left(order, (place.due_at, place.tail))]

    def _forget(self, row: Row) -> None:
        self._take(_place(row))
        self._names.pop(id_of(row), None)


def _place(row: Row) -> Place:
    return Place(row[2], row[0], row[1])


def _wanted(row: Row, kinds: Kinds, crashes: tuple[int, int]) -> bool:
    if not crashes[0] <= row[8] <= crashes[1] or row[4] in kinds.without:
        return False
    return kinds.only is None or row[4] in kinds.only


def _order(row: Row) -> tuple[int, int, int]:
    return (row[0], row[2], row[1])


def _event_order(event: Event) -> tuple[int, int, int]:
    return _order(event.row)


def _dead_order(event: Event) -> tuple[int, str]:
    return (event.died_at or 0, event.id)


def _copy(event: Event) -> Event:
    """Return another object for the same event: callers may set `created`."""
    return Event(event.row, died_at=event.died_at, reason=event.reason)


def _matches(event: Event, wanted: Filter) -> bool:
    due_at = event.row[0]
    if wanted.kind not in (None, event.kind) or wanted.state not in (None, event.state):
        return False
    if wanted.due_from is not None and due_at < wanted.due_from:
        return False
    return wanted.due_until is None or due_at < wanted.due_until

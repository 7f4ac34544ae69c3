"""Stores that each break one promise, and the test of the suite that must refuse them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from duetime.event import Event, Place, Row, State, id_of
from duetime.stores.contract import (
    ALL_KINDS,
    Answer,
    Death,
    Filter,
    Kinds,
    Move,
    Range,
    Roll,
    Settled,
    Settlement,
)
from duetime.stores.memory import MemoryStore


def place(row: Row) -> Place:
    return Place(row[2], row[0], row[1])


class SettlesStaleClaims(MemoryStore):
    """Takes an outcome from anyone."""

    def _holds(self, row: Row) -> bool:
        return row[9] != 0 and place(row) in self._rows


class SettlesWhatNobodyHolds(MemoryStore):
    """Takes 0 for a claim like any other."""

    def _holds(self, row: Row) -> bool:
        kept = self._rows.get(place(row))
        return kept is not None and kept[9] == row[9]


class CancelsClaimedEvents(MemoryStore):
    """Says "cancelled" of an event that runs."""

    def _cancel(self, event_id: str) -> Answer:
        found = self._find(event_id)
        if found is None or found.state is not State.CLAIMED:
            return super()._cancel(event_id)
        self._forget(found.row)
        return Answer.CANCELLED


class ClaimsOneTooMany(MemoryStore):
    """Counts from the wrong end."""

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
        return super().claim(number, shards, low, high, limit + 1, kinds, crashes)


class ClaimsWholeInstants(MemoryStore):
    """Bounds a claim by a due time alone, so that ties exceed the limit."""

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
        ties = self.peek(shards, low, high, limit, kinds)
        if ties and limit > 0:
            high, limit = ties[-1].due_at, 10**6
        return super().claim(number, shards, low, high, limit, kinds, crashes)


class ClaimsTheCrashed(MemoryStore):
    """Forgets to leave poison alone."""

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
        return super().claim(number, shards, low, high, limit, kinds, (0, 1000))


class ForgetsRepeatedClaims(MemoryStore):
    """Answers only what it claims now, so that a lost answer loses events until a rescue."""

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
        before = {id_of(row) for row in self._rows.values() if row[9] == number}
        held = super().claim(number, shards, low, high, limit, kinds, crashes)
        return [row for row in held if id_of(row) not in before]


class RangesTakeNames(MemoryStore):
    """Deletes named rows by range and leaves their names behind."""

    def _clear(self, range_: Range) -> int:
        named = [row for row in self._rows.values() if row[3] and row[9] == range_.claim != 0]
        for row in named:
            self._take(place(row))
        return super()._clear(range_) + len(named)


class RangesTakeEverything(MemoryStore):
    """Deletes whatever lies in the range."""

    def _clear(self, range_: Range) -> int:
        low, high = range_.low, range_.high
        inside = [
            row for shard in range_.shards for row in self._between(shard, low, high) if not row[3]
        ]
        for row in inside:
            self._take(place(row))
        return len(inside)


class RangesComeFirst(MemoryStore):
    """Deletes a range before its exceptions have left it."""

    def settle(self, settlement: Settlement) -> Settled:
        ranges = super().settle(Settlement(ranges=settlement.ranges)).ranges
        rest = Settlement(done=settlement.done, moves=settlement.moves, deaths=settlement.deaths)
        return super().settle(rest)._replace(ranges=ranges)


class StaleOutcomesTakeNames(MemoryStore):
    """Drops the name of a done row before it looks whether the claim holds."""

    def _finish(self, row: Row) -> bool:
        done = super()._finish(row)
        if row[3] is not None:
            self._names.pop(row[3], None)
        return done


class MergesCase(MemoryStore):
    """Compares names as a case-insensitive collation does."""

    def _find(self, event_id: str) -> Event | None:
        same = [name for name in self._names if name.lower() == event_id.lower()]
        return super()._find(same[0] if same else event_id)


class ForgetsTheDead(MemoryStore):
    """Gives the id of a dead event to another."""

    def _insert(self, row: Row) -> Event | None:
        self._dead.pop(id_of(row), None)
        return super()._insert(row)


class MovedEventsLoseTheirId(MemoryStore):
    """Finds events only at the place that their id carries."""

    def _put(self, row: Row) -> None:
        super()._put((*row[:3], None, *row[4:]))


class GivesBackWithTheClaim(MemoryStore):
    """Moves an event but leaves it claimed."""

    def _move(self, move: Move) -> bool:
        moved = super()._move(move)
        if moved:
            there = place((move.due_at, move.row[1], move.shard, *move.row[3:]))
            row = self._rows[there]
            self._rows[there] = (*row[:9], move.row[9], *row[10:])
        return moved


class BuriesWithoutHistory(MemoryStore):
    """Keeps the history of the claim instead of that of the death."""

    def _bury(self, death: Death) -> bool:
        return super()._bury(death._replace(history=death.row[11]))


class ReusesNodeNumbers(MemoryStore):
    """Counts nodes instead of numbers."""

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        if number == 0:
            self._issued = max(self._nodes, default=0)
        return super().beat(node, number, info)


class StrikesTheLiving(MemoryStore):
    """Does not look at the counter."""

    def strike(self, number: int, counter: int | None) -> bool:
        return super().strike(number, None)


class RescuesEverybody(MemoryStore):
    """Frees the claims of all nodes."""

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        owners = self.owners(shards, high) | {number}
        return sum(super(RescuesEverybody, self).rescue(shards, n, high, suspects) for n in owners)


class CountsEveryRescueAsCrash(MemoryStore):
    """Does not tell what may have run from what cannot have started."""

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        return super().rescue(shards, number, high, high)


class PagesByDueTimeAlone(MemoryStore):
    """Goes on behind the last due time, so that ties are skipped."""

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        found = super().find(wanted, 10**6)
        if after is not None and wanted.state is not State.DEAD:
            found = [event for event in found if event.row[0] > after.row[0]]
        elif after is not None:
            return super().find(wanted, limit, after)
        return list(islice(found, max(limit, 0)))


class DoublesMovedInserts(MemoryStore):
    """Looks only at the place when a row without a name is inserted again."""

    def _insert(self, row: Row) -> Event | None:
        if row[3] is None and place(row) not in self._rows:
            self._put(row)
            return None
        return super()._insert(row)


BROKEN: dict[type[MemoryStore], str] = {
    SettlesStaleClaims: "test_a_stale_claim_cannot_settle",
    SettlesWhatNobodyHolds: "test_zero_is_nobodys_claim",
    CancelsClaimedEvents: "test_cancel_in_every_state",
    ClaimsOneTooMany: "test_the_limit_is_exact_at_one_instant",
    ClaimsWholeInstants: "test_the_limit_is_exact_at_one_instant",
    ClaimsTheCrashed: "test_crashes",
    ForgetsRepeatedClaims: "test_a_lost_answer_is_asked_for_again",
    RangesTakeNames: "test_a_range_leaves_names",
    RangesTakeEverything: "test_late_arrivals_are_safe",
    RangesComeFirst: "test_exceptions_leave_their_range_first",
    StaleOutcomesTakeNames: "test_a_stale_outcome_takes_no_name",
    MergesCase: "test_ids_that_look_alike_are_different",
    ForgetsTheDead: "test_a_given_id_again_answers_the_event",
    MovedEventsLoseTheirId: "test_reschedule_in_every_state",
    GivesBackWithTheClaim: "test_given_back",
    BuriesWithoutHistory: "test_dead_and_kept",
    ReusesNodeNumbers: "test_numbers_are_never_used_again",
    StrikesTheLiving: "test_the_counter_protects_the_living",
    RescuesEverybody: "test_rescue_frees_one_node",
    CountsEveryRescueAsCrash: "test_suspects_have_crashed",
    PagesByDueTimeAlone: "test_pages_are_complete_and_in_order",
    DoublesMovedInserts: "test_a_made_id_again_changes_nothing",
}

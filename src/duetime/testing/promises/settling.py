"""What a store promises of settle: an outcome counts only while its claim holds."""

from __future__ import annotations

import pytest

from duetime.event import CLAIM, PARKING, Row, State, id_of
from duetime.stores.contract import (
    Answer,
    Death,
    Move,
    Range,
    Settled,
    Settlement,
    Store,
    owner_of,
)
from duetime.testing.promises.given import (
    NODE,
    SECOND,
    T,
    buried,
    claim_all,
    in_state,
    kept,
    move,
    number,
    row,
)

__all__ = ["Settling"]

NAMES = [None, "order-1"]
PARTS = ["ranges", "done", "moves", "deaths"]


def _outcome(part: str, held: Row) -> Settlement:
    """Return a settlement that has this row in one of its parts."""
    if part == "ranges":
        return Settlement(ranges=[Range(held[CLAIM], (held[2],), held[0], held[0])])
    if part == "done":
        return Settlement(done=[held])
    if part == "moves":
        return Settlement(moves=[move(held, held[0] + SECOND)])
    return Settlement(deaths=[Death(held, T, "stale", 1, None)])


def _held_rows(store: Store, *rows: Row) -> list[Row]:
    """Insert rows and claim them all at once; return them in the order given."""
    store.insert(rows)
    claimed = {id_of(held): held for held in claim_all(store, T + 60 * SECOND)}
    return [claimed[id_of(each)] for each in rows]


def _whole(held: list[Row], low: int = T - SECOND, high: int = T + SECOND) -> Range:
    """Return the range of the claim of these rows over all of their shards."""
    return Range(held[0][CLAIM], tuple({each[2] for each in held}), low, high)


class Settling:
    """Promises of `settle`."""

    @pytest.mark.parametrize("name", NAMES)
    def test_done_is_gone(self, store: Store, name: str | None) -> None:
        """An event that is done is kept no more."""
        (held,) = _held_rows(store, row(name=name))
        assert store.settle(Settlement(done=[held])) == Settled(0, 1, 0, 0)
        assert store.get([id_of(held)]) == [None]
        assert store.counts(T).claimed == {}

    def test_each_part_is_counted(self, store: Store) -> None:
        """A settlement answers how many rows each of its parts changed."""
        rows = _held_rows(store, *(row(T + i) for i in range(10)))
        settled = store.settle(
            Settlement(
                ranges=[_whole(rows)],
                done=rows[6:8],
                moves=[move(held, T + 2 * SECOND) for held in rows[3:6]],
                deaths=[Death(rows[8], T, "no", 1, None)],
            )
        )
        assert settled == Settled(ranges=4, done=2, moves=3, deaths=1)
        counts = store.counts(T)
        assert (counts.scheduled, counts.claimed, counts.dead) == ({"mail": 3}, {}, {"mail": 1})

    @pytest.mark.parametrize("part", PARTS)
    def test_a_stale_claim_cannot_settle(self, store: Store, part: str) -> None:
        """After a rescue and a new claim, an outcome under the old claim changes nothing."""
        (old,) = _held_rows(store, row())
        assert store.rescue([0], NODE, T, T) == 1
        (new,) = claim_all(store)
        assert store.settle(_outcome(part, old)) == Settled(0, 0, 0, 0)
        assert kept(store, id_of(old)).row == new
        assert sum(store.settle(_outcome(part, new))) == 1

    @pytest.mark.parametrize("part", PARTS)
    def test_a_rescued_event_is_not_settled(self, store: Store, part: str) -> None:
        """After a rescue, an outcome under the old claim leaves the event waiting."""
        (old,) = _held_rows(store, row())
        store.rescue([0], NODE, T, T)
        assert store.settle(_outcome(part, old)) == Settled(0, 0, 0, 0)
        assert kept(store, id_of(old)).state is State.SCHEDULED
        assert len(claim_all(store)) == 1

    @pytest.mark.parametrize("part", PARTS)
    def test_a_moved_event_is_not_settled(self, store: Store, part: str) -> None:
        """After a retry, an outcome under the claim before it changes nothing."""
        (old,) = _held_rows(store, row())
        store.settle(Settlement(moves=[move(old, T + SECOND)]))
        before = kept(store, id_of(old)).row
        assert store.settle(_outcome(part, old)) == Settled(0, 0, 0, 0)
        assert kept(store, id_of(old)).row == before

    @pytest.mark.parametrize("part", PARTS)
    def test_zero_is_nobodys_claim(self, store: Store, part: str) -> None:
        """An outcome for a row that nobody has claimed changes nothing."""
        free = row()
        store.insert([free])
        assert store.settle(_outcome(part, free)) == Settled(0, 0, 0, 0)
        assert kept(store, id_of(free)).row == free

    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("name", NAMES)
    def test_settling_again_changes_nothing(
        self, store: Store, part: str, name: str | None
    ) -> None:
        """A settlement whose answer was lost can be sent again."""
        (held,) = _held_rows(store, row(name=name))
        first = store.settle(_outcome(part, held))
        assert sum(first) == (0 if part == "ranges" and name else 1)
        before = store.get([id_of(held)])[0]
        assert store.settle(_outcome(part, held)) == Settled(0, 0, 0, 0)
        after = store.get([id_of(held)])[0]
        assert (after and after.row) == (before and before.row)

    def test_late_arrivals_are_safe(self, store: Store) -> None:
        """A range never touches what came inside it later, claimed by others or by nobody."""
        first = _held_rows(store, row(T), row(T + 10))
        others = _held_rows(store, row(T + 3), row(T + 4, shard=1))
        late = [row(T + 5), row(T + 6), row(T)]
        store.insert(late)
        assert store.settle(Settlement(ranges=[_whole(first)])).ranges == 2
        assert all(kept(store, id_of(each)).row == each for each in [*others, *late])

    def test_a_range_keeps_to_its_bounds(self, store: Store) -> None:
        """A range settles its shards from low to high, both included, and nothing beyond."""
        places = [(T - 1, 0), (T, 0), (T + 5, 0), (T + 6, 0), (T + 3, 1), (T + 3, PARKING)]
        rows = _held_rows(store, *(row(at, shard=shard) for at, shard in places))
        settled = store.settle(Settlement(ranges=[Range(rows[0][CLAIM], (0,), T, T + 5)]))
        assert settled.ranges == 2
        left = [event is not None for event in store.get(list(map(id_of, rows)))]
        assert left == [True, False, False, True, True, True]

    def test_a_range_leaves_names(self, store: Store) -> None:
        """Rows with a name are left out by ranges: they are settled one by one."""
        rows = _held_rows(store, row(T), row(T + 1, name="order-1"), row(T + 2))
        assert store.settle(Settlement(ranges=[_whole(rows)])).ranges == 2
        assert kept(store, "order-1").row == rows[1]
        assert store.settle(Settlement(done=[rows[1]])).done == 1

    def test_many_ranges_at_once(self, store: Store) -> None:
        """Ranges of several claims in one settlement settle each its own."""
        first = _held_rows(store, *(row(T + i, shard=i % 3) for i in range(9)))
        second = _held_rows(store, *(row(T + i, shard=i % 3) for i in range(6)))
        assert store.settle(Settlement(ranges=[_whole(first), _whole(second)])).ranges == 15

    def test_exceptions_leave_their_range_first(self, store: Store) -> None:
        """What is retried, given back or dead in the same settlement survives the range."""
        rows = _held_rows(store, *(row(T + i) for i in range(6)))
        settled = store.settle(
            Settlement(
                ranges=[_whole(rows)],
                moves=[move(rows[0], T + 3), move(rows[1])],
                deaths=[Death(rows[2], T, "no", 1, None)],
            )
        )
        assert settled == Settled(3, 0, 2, 1)
        assert kept(store, id_of(rows[0])).row[0] == T + 3
        assert kept(store, id_of(rows[1])).state is State.SCHEDULED
        assert kept(store, id_of(rows[2])).state is State.DEAD
        assert store.get([id_of(held) for held in rows[3:]]) == [None] * 3

    @pytest.mark.parametrize("name", NAMES)
    def test_a_move_writes_its_columns(self, store: Store, name: str | None) -> None:
        """A retried event waits at its new time under its old id with the columns of the move."""
        (held,) = _held_rows(store, row(name=name, shard=2))
        change = Move(held, 2, T + 9, b"new", 5, 3, 2, b'[{"error":"x"}]')
        assert store.settle(Settlement(moves=[change])).moves == 1
        event = kept(store, id_of(held))
        head = (T + 9, held[1], 2, id_of(held), "mail", b"new")
        assert event.row == (*head, 5, 3, 2, 0, held[10], b'[{"error":"x"}]')

    @pytest.mark.parametrize("name", NAMES)
    def test_given_back(self, store: Store, name: str | None) -> None:
        """A claim given back leaves the event as it was, at its own place."""
        fresh = row(name=name)
        (held,) = _held_rows(store, fresh)
        assert store.settle(Settlement(moves=[move(held)._replace(attempt=0)])).moves == 1
        assert kept(store, id_of(fresh)).row == fresh

    def test_there_and_back(self, store: Store) -> None:
        """An event retried away from its first place and back to it is one event under one id."""
        (held,) = _held_rows(store, row())
        for due_at in (T + 5, T + 7, T):
            store.settle(Settlement(moves=[move(held, due_at)]))
            (held,) = claim_all(store)
        event_id = id_of(held)
        assert store.settle(Settlement(done=[held])).done == 1
        assert store.get([event_id]) == [None]
        assert store.insert([row(name=event_id)]) == [None]

    @pytest.mark.parametrize("name", NAMES)
    def test_parked_and_back(self, store: Store, name: str | None) -> None:
        """A parked event shows as parked, is claimed from the parking shard, and comes back."""
        event_id = in_state(store, "parked", name)
        assert store.counts(T).parked == {"mail": 1}
        (held,) = store.claim(number(), [PARKING], 0, T, 10)
        store.settle(Settlement(moves=[move(held, T + 1, shard=5)]))
        event = kept(store, event_id)
        assert (event.state, event.row[:3:2]) == (State.SCHEDULED, (T + 1, 5))

    @pytest.mark.parametrize("name", NAMES)
    def test_dead_and_kept(self, store: Store, name: str | None) -> None:
        """A dead event keeps its columns under its id, with what was said of its death."""
        (held,) = _held_rows(store, row(name=name, shard=4, crashes=1, failures=1))
        death = Death(held, T + 3, "boom \U0001f4a5", 2, b'[{"error":"boom"}]')
        assert store.settle(Settlement(deaths=[death])).deaths == 1
        event = kept(store, id_of(held))
        assert (event.state, event.died_at, event.reason) == (State.DEAD, T + 3, "boom \U0001f4a5")
        assert event.row == (*held[:3], id_of(held), *held[4:7], 2, 1, 0, held[10], death.history)
        assert claim_all(store, T + 10 * SECOND) == []

    def test_a_stale_outcome_takes_no_name(self, store: Store) -> None:
        """A stale done of a named event leaves its name, wherever the event is by then."""
        (old,) = _held_rows(store, row(name="order-1"))
        stale = Settlement(done=[old])
        store.settle(Settlement(moves=[move(old)]))
        store.settle(stale)
        assert kept(store, "order-1").state is State.SCHEDULED
        (held,) = claim_all(store)
        store.settle(stale)
        assert kept(store, "order-1").row == held
        store.settle(Settlement(moves=[move(held, T + 5)]))
        store.settle(stale)
        assert store.reschedule([("order-1", T + 6)]) == [Answer.RESCHEDULED]
        (held,) = claim_all(store)
        buried(store, held)
        store.settle(stale)
        assert store.redrive(["order-1"], T, b"{}") == [Answer.REDRIVEN]

    def test_a_stale_row_beside_good_ones(self, store: Store) -> None:
        """One stale row in a list does not keep the others from being settled."""
        rows = _held_rows(store, *(row(T + i, name=f"n{i}") for i in range(6)))
        store.settle(Settlement(moves=[move(rows[0]), move(rows[3]), move(rows[4])]))
        settled = store.settle(
            Settlement(
                done=rows[0:3],
                moves=[move(held, T + SECOND) for held in rows[3:]],
                deaths=[Death(rows[4], T, "no", 1, None)],
            )
        )
        assert settled == Settled(ranges=0, done=2, moves=1, deaths=0)
        assert kept(store, "n5").row[0] == T + SECOND

    def test_claim_numbers_are_whole(self, store: Store) -> None:
        """Claims of the highest node and tick are told apart from their neighbours."""
        highest = (2**31 - 1) << 32 | (2**32 - 1)
        store.insert([row(T), row(T + 1)])
        (first,) = store.claim(highest - 1, [0], T, T, 1)
        (second,) = store.claim(highest, [0], T, T + 1, 1)
        assert owner_of(second[CLAIM]) == 2**31 - 1
        assert store.settle(Settlement(ranges=[Range(highest, (0,), T, T + 1)])).ranges == 1
        assert store.owners([0], T) == {2**31 - 1}
        assert store.settle(Settlement(done=[first])).done == 1
        store.insert([row(T, claim=highest, attempt=1)])
        assert store.rescue([0], 2**31 - 2, T, T) == 0
        assert store.rescue([0], 2**31 - 1, T, T) == 1

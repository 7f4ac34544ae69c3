"""What a store promises of ids and of what is put in: nothing is altered, merged or doubled."""

from __future__ import annotations

import pytest

from duetime.event import Row, State, id_of, place_of
from duetime.stores.contract import Answer, Range, Settlement, Store
from duetime.testing.promises.given import (
    SECOND,
    STATES,
    T,
    claim_all,
    in_state,
    kept,
    number,
    row,
)

__all__ = ["Inserting"]

PAYLOADS = [
    b"null",
    b'"\xf0\x9f\x90\x98 \xe2\x80\xa8"',
    b'["' + b"x" * 70_000 + b'"]',
    b"\x00\xff not JSON \\ ' \" ; --",
    b"",
]
ALIKE = ["a", "A", "a ", "a-", "a_", "aa", "\u00e4", "order-1", "Order-1", "order-10", "x" * 64]


def _total(store: Store) -> int:
    """Return how many events are kept, dead or alive."""
    counts = store.counts(T)
    states = (counts.scheduled, counts.claimed, counts.parked, counts.dead)
    return sum(sum(state.values()) for state in states)


def _first_form(event_id: str) -> Row:
    """Return the row that an event with a made id was inserted as."""
    place = place_of(event_id)
    assert place is not None
    return row(place.due_at, shard=place.shard, tail=place.tail)


class Inserting:
    """Promises of `insert`."""

    def test_an_event_comes_back_as_it_went_in(self, store: Store) -> None:
        """Every column of a stored event is found under its id as it was given."""
        rows = [
            row(T, shard=3, attempt=4, failures=2, crashes=1, history=b'[{"attempt":3}]'),
            row(T + 1, name="order-1", kind="order.expire"),
            row(253_402_300_799_999_999, tail=2**60 - 1),
            row(1, tail=0),
        ]
        assert store.insert(rows) == [None] * 4
        found = store.get([id_of(each) for each in rows])
        assert [event and event.row for event in found] == rows

    @pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
    def test_payloads_are_exact(self, store: Store, payload: bytes) -> None:
        """A payload comes back byte for byte, through claim and get alike."""
        fresh = row(payload=payload)
        store.insert([fresh])
        assert kept(store, id_of(fresh)).row[5] == payload
        assert [held[5] for held in claim_all(store)] == [payload]

    def test_texts_are_exact(self, store: Store) -> None:
        """Kinds with quotes, wildcards or four-byte characters come back as they went in."""
        kinds = ["\U0001f418.trumpet", "a'b\"c", "100%_", "back\\slash", "--", "Mail", "mail"]
        rows = [row(kind=kind) for kind in kinds]
        store.insert(rows)
        found = store.get([id_of(each) for each in rows])
        assert [event and event.kind for event in found] == kinds

    def test_nothing_in_nothing_out(self, store: Store) -> None:
        """Calls about no events answer nothing and change nothing."""
        assert store.insert([]) == []
        assert store.cancel([]) == []
        assert store.reschedule([]) == []
        assert store.redrive([], T, b"{}") == []
        assert store.get([]) == []
        assert store.claim(number(), [], 0, T, 10) == []
        assert store.peek([], 0, T, 10) == []
        assert store.owners([], T) == set()
        assert store.rescue([], 1, T, T) == 0
        assert tuple(store.settle(Settlement())) == (0, 0, 0, 0)

    @pytest.mark.parametrize("way", STATES)
    def test_a_made_id_again_changes_nothing(self, store: Store, way: str) -> None:
        """A row without a name is not stored twice, wherever its event is by then."""
        event_id = in_state(store, way)
        before = kept(store, event_id)
        assert store.insert([_first_form(event_id), row(T + SECOND)]) == [None, None]
        after = kept(store, event_id)
        assert (after.row, after.state) == (before.row, before.state)
        assert _total(store) == 2

    def test_a_made_id_twice_in_one_call(self, store: Store) -> None:
        """One row without a name twice in one call is one event."""
        fresh = row()
        assert store.insert([fresh, fresh]) == [None, None]
        assert _total(store) == 1

    @pytest.mark.parametrize("way", STATES)
    def test_a_given_id_again_answers_the_event(self, store: Store, way: str) -> None:
        """A name that is kept, wherever its event is, answers that event and stores nothing."""
        in_state(store, way, "order-1")
        before = kept(store, "order-1")
        (found,) = store.insert([row(T + SECOND, name="order-1", kind="other")])
        assert found is not None
        assert not found.created
        assert (found.row, found.state) == (before.row, before.state)
        assert kept(store, "order-1").row == before.row
        assert _total(store) == 1

    def test_a_given_id_twice_in_one_call(self, store: Store) -> None:
        """Of two rows with one name in one call the first counts."""
        first, second = row(name="order-1"), row(name="order-1", kind="other")
        stored, refused = store.insert([first, second])
        assert stored is None
        assert refused is not None
        assert not refused.created
        assert refused.row == first
        assert _total(store) == 1

    def test_answers_stand_where_the_rows_stood(self, store: Store) -> None:
        """In a call of known and new rows, named and not, each row has its own answer."""
        known = [row(name="a"), row()]
        store.insert(known)
        rows = [row(), known[0], row(name="b"), known[1], row(name="b"), row(name="c"), row()]
        answers = store.insert(rows)
        assert [event.id if event else None for event in answers] == [
            *(None, "a", None, None, "b", None, None)
        ]
        assert _total(store) == 6

    def test_ids_that_look_alike_are_different(self, store: Store) -> None:
        """Ids that differ in case, length or last character are different events."""
        rows = [row(name=name, kind=f"kind {i}") for i, name in enumerate(ALIKE)]
        assert store.insert(rows) == [None] * len(rows)
        found = store.get(ALIKE)
        assert [event and event.kind for event in found] == [each[4] for each in rows]
        assert store.cancel(["a"]) == [Answer.CANCELLED]
        assert _total(store) == len(ALIKE) - 1

    def test_a_name_like_a_made_id_is_that_id(self, store: Store) -> None:
        """An id of the made form that is given as a name does not stand beside its event."""
        fresh = row()
        store.insert([fresh])
        (found,) = store.insert([row(T + SECOND, name=id_of(fresh))])
        assert found is not None
        assert found.row == fresh
        assert _total(store) == 1

    def test_a_named_event_has_one_id(self, store: Store) -> None:
        """The id that the place of a named event would make is not an id of it."""
        named = row(name="order-1")
        store.insert([named])
        unnamed = id_of((*named[:3], None, *named[4:]))
        assert store.get([unnamed]) == [None]
        assert store.cancel([unnamed]) == [Answer.UNKNOWN]
        assert store.reschedule([(unnamed, T + 1)]) == [Answer.UNKNOWN]
        assert kept(store, "order-1").row == named

    @pytest.mark.parametrize("name", [None, "order-1"])
    def test_ids_are_free_after_a_cancel(self, store: Store, name: str | None) -> None:
        """The id of a cancelled event can be given to a new one."""
        fresh = row(name=name)
        store.insert([fresh])
        store.cancel([id_of(fresh)])
        assert store.insert([fresh]) == [None]
        assert kept(store, id_of(fresh)).row == fresh

    @pytest.mark.parametrize("name", [None, "order-1"])
    def test_ids_are_free_after_done(self, store: Store, name: str | None) -> None:
        """The id of an event that is done can be given to a new one."""
        fresh = row(name=name)
        store.insert([fresh])
        assert store.settle(Settlement(done=claim_all(store))).done == 1
        assert store.get([id_of(fresh)]) == [None]
        assert store.insert([fresh]) == [None]
        assert kept(store, id_of(fresh)).row == fresh

    @pytest.mark.parametrize("name", [None, "order-1"])
    def test_rows_may_be_born_claimed(self, store: Store, name: str | None) -> None:
        """A row that carries a claim is held by it from the start, until it is settled."""
        born = number()
        fresh = row(claim=born, attempt=1, name=name)
        assert store.insert([fresh]) == [None]
        assert kept(store, id_of(fresh)).state is State.CLAIMED
        assert store.cancel([id_of(fresh)]) == [Answer.IN_FLIGHT]
        assert claim_all(store) == []
        settled = store.settle(Settlement(ranges=[Range(born, (0,), T, T)], done=[fresh]))
        assert settled.done + settled.ranges == 1
        assert _total(store) == 0

    def test_a_thousand_at_once(self, store: Store) -> None:
        """A call with a thousand rows in any order stores every one."""
        rows = [
            row(T + i * 7919 % 1000, shard=i % store.shards, name=f"n{i}" if i % 3 == 0 else None)
            for i in range(1000)
        ]
        assert store.insert(rows) == [None] * 1000
        assert [event and event.row for event in store.get(list(map(id_of, rows)))] == rows

"""What a store promises of get, find and counts, and of its own upkeep."""

from __future__ import annotations

import pytest

from duetime.event import PARKING, Event, Row, State, id_of
from duetime.stores.contract import Counts, Death, Filter, Settlement, Store
from duetime.testing.promises.given import (
    SECOND,
    STATES,
    T,
    claim_all,
    in_state,
    kept,
    move,
    number,
    row,
)

__all__ = ["Reading"]

FILTERS = [
    Filter(),
    Filter(kind="a"),
    Filter(kind="nobody"),
    Filter(state=State.SCHEDULED),
    Filter(state=State.CLAIMED),
    Filter(state=State.PARKED),
    Filter(due_from=T + 5),
    Filter(due_until=T + 5),
    Filter(kind="b", due_from=T + 3, due_until=T + 9),
    Filter(kind="a", state=State.CLAIMED, due_from=T + 1, due_until=T + 2),
    Filter(due_from=T + 9, due_until=T + 3),
]


def _order(event: Event) -> tuple[int, int, int]:
    """Return what events that are not dead are sorted by."""
    return (event.row[0], event.row[2], event.row[1])


def _fits(event: Event, wanted: Filter) -> bool:
    """Tell whether an event is one of those wanted."""
    low = T - 100 * SECOND if wanted.due_from is None else wanted.due_from
    high = T + 100 * SECOND if wanted.due_until is None else wanted.due_until
    kind, state = wanted.kind or event.kind, wanted.state or event.state
    return (kind, state) == (event.kind, event.state) and low <= event.row[0] < high


def _mixture(store: Store) -> list[Event]:
    """Keep events of every state, kind and shard with many ties; return those not dead."""
    rows = [
        row(T + i % 10, shard=i // 10 % 5, kind="ab"[i % 2], name=f"n{i}" if i % 7 == 0 else None)
        for i in range(100)
    ]
    store.insert(rows)
    held = store.claim(number(), range(5), 0, T + SECOND, 40)
    store.settle(
        Settlement(
            moves=[move(each, shard=PARKING) for each in held[:8]],
            deaths=[Death(each, T + i // 2, "no", 1, None) for i, each in enumerate(held[8:18])],
        )
    )
    events = [kept(store, id_of(each)) for each in rows]
    return sorted((event for event in events if event.state is not State.DEAD), key=_order)


def _pages(store: Store, wanted: Filter, size: int) -> list[Event]:
    """Read all pages of this size."""
    found: list[Event] = []
    while page := store.find(wanted, size, found[-1] if found else None):
        assert len(page) <= size
        found += page
        assert len(found) <= 100, "pages overlap"
    return found


def _rows_of(events: list[Event]) -> list[Row]:
    """Return the rows of events."""
    return [event.row for event in events]


class Reading:
    """Promises of `get`, `find`, `counts`, `migrate`, `check` and `close`."""

    def test_get_answers_each_id(self, store: Store) -> None:
        """Get answers every id in its place, the unknown with None, the repeated again."""
        ids = [in_state(store, "dead", "n")]
        ids += [in_state(store, "claimed"), in_state(store, "moved")]
        asked = [ids[2], "nobody", ids[0], ids[1], ids[2]]
        found = store.get(asked)
        assert [event and event.id for event in found] == [ids[2], None, *ids[:2], ids[2]]

    @pytest.mark.parametrize("way", STATES)
    def test_get_and_find_agree(self, store: Store, way: str) -> None:
        """An event looks the same through get and find, whatever its state."""
        event_id = in_state(store, way)
        event = kept(store, event_id)
        (found,) = store.find(Filter(state=event.state), 10)
        assert (found.id, found.row, found.state) == (event_id, event.row, event.state)
        assert (found.died_at, found.reason) == (event.died_at, event.reason)

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_pages_are_complete_and_in_order(self, store: Store, size: int) -> None:
        """Pages of any size together hold every event once, by due time, shard and tail."""
        events = _mixture(store)
        assert _rows_of(_pages(store, Filter(), size)) == _rows_of(events)

    @pytest.mark.parametrize("wanted", FILTERS, ids=range(len(FILTERS)))
    def test_filters(self, store: Store, wanted: Filter) -> None:
        """Find returns exactly the events that meet every condition."""
        events = _mixture(store)
        expected = _rows_of([event for event in events if _fits(event, wanted)])
        assert _rows_of(store.find(wanted, 1000)) == expected
        assert _rows_of(_pages(store, wanted, 4)) == expected

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_the_dead_are_paged_by_death(self, store: Store, size: int) -> None:
        """Dead events come by the time of their death, then by id, and can be filtered."""
        _mixture(store)
        dead = _pages(store, Filter(state=State.DEAD), size)
        assert len(dead) == 10
        assert dead == sorted(dead, key=lambda event: (event.died_at or 0, event.id))
        some = Filter(state=State.DEAD, kind="a", due_from=T, due_until=T + 3)
        expected = [event for event in dead if event.kind == "a" and event.row[0] < T + 3]
        assert [event.id for event in _pages(store, some, size)] == [each.id for each in expected]

    def test_a_page_goes_on_behind_what_is_gone(self, store: Store) -> None:
        """The next page begins behind the last event though that was cancelled meanwhile."""
        store.insert([row(T + i) for i in range(6)])
        first = store.find(Filter(), 3)
        store.cancel([first[-1].id])
        assert [event.row[0] for event in store.find(Filter(), 10, first[-1])] == [
            *(T + 3, T + 4, T + 5)
        ]

    def test_no_room_nothing_found(self, store: Store) -> None:
        """A page of no size is empty."""
        _mixture(store)
        assert store.find(Filter(), 0) == []
        assert store.find(Filter(state=State.DEAD), 0) == []

    def test_a_foreign_payload_is_found_raw(self, store: Store) -> None:
        """A payload or history that is not JSON stops neither find nor claim nor redrive."""
        fresh = row(payload=b"\xff\x00", history=b"garbage")
        store.insert([fresh])
        assert store.find(Filter(), 10)[0].row == fresh
        (held,) = claim_all(store)
        store.settle(Settlement(deaths=[Death(held, T, "undecodable", 0, b"garbage")]))
        assert store.find(Filter(state=State.DEAD), 10)[0].row[5] == b"\xff\x00"
        store.redrive([id_of(fresh)], T, b'{"outcome":"redriven"}')
        assert kept(store, id_of(fresh)).history == [{"outcome": "redriven"}]

    def test_counts(self, store: Store) -> None:
        """Counts tell every state by kind, and what is scheduled and due before the time given."""
        assert store.counts(T) == Counts()
        events = _mixture(store)
        counted = store.counts(T + 5)
        for state in (State.SCHEDULED, State.CLAIMED, State.PARKED):
            kinds = [event.kind for event in events if event.state is state]
            assert getattr(counted, state.value) == {
                kind: kinds.count(kind) for kind in sorted(set(kinds))
            }
        assert sum(counted.dead.values()) == 10
        assert counted.overdue == sum(
            event.state is State.SCHEDULED and event.row[0] < T + 5 for event in events
        )

    def test_migrating_again(self, store: Store) -> None:
        """Tables that are current need no steps, and keep what they hold."""
        event_id = in_state(store, "scheduled")
        assert store.migrate() == []
        assert kept(store, event_id).state is State.SCHEDULED

    def test_a_good_store_has_no_errors(self, store: Store) -> None:
        """A check of a fresh store finds no error, and changes nothing."""
        event_id = in_state(store, "scheduled")
        before = kept(store, event_id).row
        findings = store.check()
        assert findings
        assert {finding.level for finding in findings} <= {"ok", "warning"}
        assert kept(store, event_id).row == before

    def test_closing_twice(self, store: Store) -> None:
        """A store can be closed twice."""
        store.close()
        store.close()

"""An event, its place and its id."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import from_micros
from duetime.errors import CorruptPayload
from duetime.event import (
    PARKING,
    TAIL_BITS,
    Event,
    Place,
    State,
    id_of,
    is_made_id,
    make_id,
    place_of,
)
from tests.unit.node.stand import NOW, row

shards = st.integers(0, 2**12 - 1)
dues = st.integers(0, 2**60 - 1)
tails = st.integers(0, 2**TAIL_BITS - 1)


@given(shards, dues, tails)
def test_an_id_carries_its_place(shard: int, due_at: int, tail: int) -> None:
    """From a made id its first place can be read, exactly."""
    name = make_id(shard, due_at, tail)
    assert is_made_id(name)
    assert len(name) == 34
    assert place_of(name) == Place(shard, due_at, tail)
    assert id_of(row(due_at, tail, shard)) == name


@given(st.tuples(dues, shards, tails), st.tuples(dues, shards, tails))
def test_made_ids_sort_by_due_time(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    """Ids sort as (due time, shard, tail) does."""
    names = [make_id(shard, due_at, tail) for due_at, shard, tail in (a, b)]
    assert (names[0] < names[1]) == (a < b)


@pytest.mark.parametrize(
    "text", ["", "e", "order-7", "E" + "0" * 33, "e" + "0" * 32, "e" + "0" * 34, "e" + "g" * 33]
)
def test_other_ids_carry_no_place(text: str) -> None:
    """Only the exact form of a made id is read as a place."""
    assert not is_made_id(text)
    assert place_of(text) is None


def test_a_name_goes_before_the_place() -> None:
    """An event that has a name is called by it."""
    assert Event(row(name="order-7")).id == "order-7"


def test_an_event_shows_its_row() -> None:
    """Each property tells what the row holds."""
    event = Event(
        row(kind="a.b", payload=b'{"x":[1,null]}', attempt=3, failures=2, crashes=1, claim=77)
    )
    assert (event.kind, event.payload) == ("a.b", {"x": [1, None]})
    assert (event.attempt, event.failures, event.crashes) == (3, 2, 1)
    assert event.token == (77, 3)
    assert event.due_at == event.created_at == from_micros(NOW)
    assert event.due_at.tzinfo is UTC
    assert event.created


def test_the_payload_is_decoded_once() -> None:
    """Asked twice, the payload is the same object."""
    event = Event(row(payload=b"[1]"))
    assert event.payload is event.payload


def test_a_corrupt_payload_is_named() -> None:
    """A payload that is not JSON raises CorruptPayload with the event's id, each time."""
    event = Event(row(name="n1", payload=b"{oops"))
    for _ in range(2):
        with pytest.raises(CorruptPayload, match="n1"):
            _ = event.payload


def test_the_history_tells_the_last_error() -> None:
    """The last error is the newest entry that has one."""
    history = b'[{"attempt":1,"error":"a"},{"attempt":2,"error":"b"},{"attempt":3}]'
    assert Event(row(history=history)).last_error == "b"
    assert Event(row()).last_error is None
    assert Event(row()).history == []


@pytest.mark.parametrize("history", [b"{", b"1", b"null", b'["text"]', b"\xff"])
def test_a_corrupt_history_is_empty(history: bytes) -> None:
    """A history that is no list of entries stops nobody who lists events."""
    event = Event(row(history=history))
    assert event.history == []
    assert event.last_error is None


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Event(row()), State.SCHEDULED),
        (Event(row(claim=1)), State.CLAIMED),
        (Event(row(shard=PARKING)), State.PARKED),
        (Event(row(shard=PARKING, claim=1)), State.CLAIMED),
        (Event(row(), died_at=5), State.DEAD),
    ],
)
def test_the_state_is_read_from_the_row(event: Event, state: State) -> None:
    """A claim, the parking shard, or neither: that is the state, unless it is said to be dead."""
    assert event.state is state


def test_equal_means_the_same_attempt() -> None:
    """Two objects are equal when they are the same attempt of the same event."""
    first, again, later = Event(row(attempt=1)), Event(row(attempt=1)), Event(row(attempt=2))
    other: Any = "e"
    assert first == again
    assert hash(first) == hash(again) == hash(later)
    assert first != later
    assert first != other


def test_repr_hides_the_payload() -> None:
    """The payload may be secret and is not shown; what tells events apart is."""
    text = repr(Event(row(name="n1", kind="k1", payload=b'"secret"', attempt=4)))
    assert "secret" not in text
    assert "n1" in text
    assert "k1" in text
    assert datetime.fromtimestamp(NOW / 1e6, UTC).isoformat() in text

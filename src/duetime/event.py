"""An event, its id and its place: what every other module passes around."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from duetime import codec
from duetime.clock import from_micros
from duetime.errors import CorruptPayload

__all__ = [
    "ATTEMPT",
    "CLAIM",
    "CRASHES",
    "CREATED_AT",
    "DUE_AT",
    "FAILURES",
    "HISTORY",
    "KIND",
    "NAME",
    "PARKING",
    "PAYLOAD",
    "SHARD",
    "TAIL",
    "TAIL_BITS",
    "Event",
    "Place",
    "Row",
    "State",
    "history_of",
    "id_of",
    "is_made_id",
    "make_id",
    "place_of",
]

# One event as it travels between store and handler: a plain tuple, because a hundred thousand of
# them are held, sorted and counted at once. The constants below are its columns, in order.
Row = tuple[int, int, int, str | None, str, bytes, int, int, int, int, int, bytes | None]
DUE_AT: Final = 0  # µs since 1970 UTC: when it is to fire
TAIL: Final = 1  # 0 ≤ tail < 2**60: tells events of one shard and microsecond apart
SHARD: Final = 2  # which slice of the table; PARKING for an event of a kind nobody here knows
NAME: Final = (
    3  # its id where that is not its place (given by the caller, or moved since); else None
)
KIND: Final = 4  # selects the handler
PAYLOAD: Final = 5  # JSON bytes
ATTEMPT: Final = 6  # how often it was claimed to run; with the claim number the fencing token
FAILURES: Final = (
    7  # how many attempts ended in failure or Retry since it was scheduled or redriven
)
CRASHES: Final = 8  # how many attempts ended with the death of their node
CLAIM: Final = 9  # 0, or the number of the claim that holds it
CREATED_AT: Final = 10  # µs since 1970 UTC by the store's clock
HISTORY: Final = 11  # JSON bytes: a list of past attempts, or None while there is nothing to tell

PARKING: Final = -1  # the shard of parked events
TAIL_BITS: Final = 60
_DUE_BITS = 60
_SHARD_BITS = 12
_MADE = re.compile(r"e[0-9a-f]{33}")


class Place(NamedTuple):
    """Where an event lies in the table: the primary key."""

    shard: int
    due_at: int
    tail: int


class State(StrEnum):
    """Where an event is in its life; done and cancelled events are no longer kept."""

    SCHEDULED = "scheduled"
    CLAIMED = "claimed"
    PARKED = "parked"
    DEAD = "dead"


def make_id(shard: int, due_at: int, tail: int) -> str:
    """Return the id of an event first stored at this place: 'e' and 33 hexadecimal digits.

    The due time leads, so ids sort by it; then 12 bits of shard and 60 bits of tail.
    """
    return f"e{due_at:015x}{shard:03x}{tail:015x}"


def is_made_id(event_id: str) -> bool:
    """Tell whether an id has the form of those that Duetime makes."""
    return _MADE.fullmatch(event_id) is not None


def place_of(event_id: str) -> Place | None:
    """Return the first place that an id of our making carries, or None for another id."""
    if _MADE.fullmatch(event_id) is None:
        return None
    return Place(int(event_id[16:19], 16), int(event_id[1:16], 16), int(event_id[19:], 16))


def id_of(row: Row) -> str:
    """Return the id of a row: its name, or else the encoding of its place."""
    return row[3] or f"e{row[0]:015x}{row[2]:03x}{row[1]:015x}"


def history_of(data: bytes | None) -> list[dict[str, Any]]:
    """Return the entries of a stored history; what is not one is left out, never an error."""
    try:
        kept = codec.decode(data) if data else []
    except ValueError:
        return []
    return [entry for entry in kept if isinstance(entry, dict)] if isinstance(kept, list) else []


class Event(msgspec.Struct, eq=False, gc=False):
    """Something that is to happen at a time: what `schedule` returns and a handler receives.

    Wraps a row and decodes on demand, so that handing an event to a handler costs a fraction of
    a microsecond. A struct, because one is made for every event that is fired.
    """

    row: Row  # as it is stored, for stores and stages
    created: bool = True  # False where a schedule met an event that had its id already
    died_at: int | None = None  # µs since 1970 UTC, where it is dead
    reason: str | None = None  # why it is dead
    decoded: Any = msgspec.UNSET  # the payload, once it was asked for

    @property
    def id(self) -> str:
        """The event's name: made by Duetime, or given by the caller."""
        return id_of(self.row)

    @property
    def kind(self) -> str:
        """Selects the handler."""
        return self.row[4]

    @property
    def payload(self) -> Any:
        """The JSON value that the event carries, decoded at first use."""
        if self.decoded is not msgspec.UNSET:
            return self.decoded
        try:
            payload = codec.decode(self.row[5])
        except ValueError as error:
            raise CorruptPayload(f"The payload of {self.id} is not JSON ({error}).") from None
        self.decoded = payload
        return payload

    @property
    def due_at(self) -> datetime:
        """When it is to fire, in UTC."""
        return from_micros(self.row[0])

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 at the first; 0 while it was never claimed."""
        return self.row[6]

    @property
    def failures(self) -> int:
        """How many attempts ended in failure or Retry since it was scheduled or redriven."""
        return self.row[7]

    @property
    def crashes(self) -> int:
        """How many attempts ended with the death of their node."""
        return self.row[8]

    @property
    def token(self) -> tuple[int, int]:
        """The fencing token (claim number, attempt): it grows with every attempt of an event."""
        return (self.row[9], self.row[6])

    @property
    def created_at(self) -> datetime:
        """When it was scheduled, by the store's clock, in UTC."""
        return from_micros(self.row[10])

    @property
    def history(self) -> list[dict[str, Any]]:
        """What came of earlier attempts, oldest first (the newest are kept): dicts with keys
        `at` (RFC 3339), `attempt`, `outcome` and, where there was one, `error`.
        """
        return history_of(self.row[11])

    @property
    def last_error(self) -> str | None:
        """The newest error in the history, or None."""
        return next((h["error"] for h in reversed(self.history) if "error" in h), None)

    @property
    def state(self) -> State:
        """Where it is in its life, at the time it was read."""
        if self.died_at is not None:
            return State.DEAD
        if self.row[9]:
            return State.CLAIMED
        return State.PARKED if self.row[2] == PARKING else State.SCHEDULED

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same attempt of the same event."""
        return isinstance(other, Event) and self.id == other.id and self.attempt == other.attempt

    def __hash__(self) -> int:
        """Hash by id."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Show everything but the payload, which may be secret."""
        return f"Event({', '.join(f'{name}={text}' for name, text in self._shown())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where rich prints it."""
        return [*self._shown()]

    def _shown(self) -> Iterator[tuple[str, str]]:
        yield "id", repr(self.id)
        yield "kind", repr(self.kind)
        yield "due_at", self.due_at.isoformat()
        yield "state", self.state.value
        yield "attempt", str(self.attempt)

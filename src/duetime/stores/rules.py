"""What every store decides in the same way: home shards, names, notes, and what a death keeps."""

from __future__ import annotations

from duetime.errors import InvalidInput, StoreError
from duetime.event import PARKING, Event, Row, State, id_of
from duetime.stores.contract import Answer, Death

__all__ = [
    "DEAD_SHARD",
    "dead_row",
    "home",
    "name_after",
    "place_taken",
    "redriven",
    "refusal",
    "unfit",
    "with_note",
]

DEAD_SHARD = -2  # the shard that the names row of a dead event shows


def home(shard: int, tail: int, shards: int) -> int:
    """Return the shard where a moved event goes: its own, or one by its tail if it was parked.

    The tail is random, so those that leave the parking shard together spread evenly.
    """
    return tail % shards if shard == PARKING else shard


def name_after(row: Row, shard: int, due_at: int) -> str | None:
    """Return the name a row has after a move: its id, unless the id still is its place."""
    if row[3] is None and row[2] == shard and row[0] == due_at:
        return None
    return id_of(row)


def with_note(history: bytes | None, note: bytes) -> bytes:
    """Return a history (JSON list or nothing) with one more JSON object at its end.

    A history that is not a list gives way to the note: a corrupt row must not stop a redrive.
    """
    kept = (history or b"").strip()
    if not (kept.startswith(b"[") and kept.endswith(b"]")) or not kept[1:-1].strip():
        return b"[" + note + b"]"
    return kept[:-1] + b"," + note + b"]"


def dead_row(death: Death) -> Row:
    """Return the row that is kept of an event given up: it bears its id as name and no claim."""
    due_at, tail, shard, _, kind, payload, attempt, _, crashes, _, created_at, _ = death.row
    head = (due_at, tail, shard, id_of(death.row), kind, payload)
    return (*head, attempt, death.failures, crashes, 0, created_at, death.history)


def redriven(row: Row, due_at: int, note: bytes, shards: int) -> Row:
    """Return the row of a dead event that is scheduled again."""
    _, tail, shard, name, kind, payload, attempt, _, _, _, created_at, history = row
    head = (due_at, tail, home(shard, tail, shards), name, kind, payload)
    return (*head, attempt, 0, 0, 0, created_at, with_note(history, note))


def refusal(found: Event | None) -> Answer | None:
    """Return why an event cannot be taken back or moved, or None when it can."""
    if found is None:
        return Answer.UNKNOWN
    if found.state is State.DEAD:
        return Answer.DEAD
    return Answer.IN_FLIGHT if found.state is State.CLAIMED else None


def place_taken() -> StoreError:
    """Return the error for a named row at the place of another event: tails must be random."""
    return StoreError(
        "Another event lies at the same shard, due time and tail: draw the tail at random.",
        code="place_taken",
    )


def unfit(reason: str) -> InvalidInput:
    """Return the error for a connection whose transaction cannot be shared; `reason` advises."""
    return InvalidInput(f"within: {reason}", code="within_invalid", field="within")

"""What the promises are told with: rows, claim numbers, and events in every state of their life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from duetime.event import PARKING, Event, Row, State, id_of
from duetime.stores.contract import Death, Move, Settlement, Store

__all__ = [
    "ALIVE",
    "NODE",
    "SECOND",
    "STATES",
    "T",
    "buried",
    "claim_all",
    "everywhere",
    "in_state",
    "kept",
    "move",
    "number",
    "row",
]

T = 1_800_000_000_000_000  # a moment in 2027; no promise depends on the present
SECOND = 1_000_000
NODE = 7
_GOLDEN = 0x9E37_79B9_7F4A_7C1

_serial = count(1)
_ticks = count(1)


def row(
    due_at: int = T,
    *,
    shard: int = 0,
    tail: int | None = None,
    name: str | None = None,
    kind: str = "mail",
    payload: bytes = b'{"to":"a@example.org"}',
    attempt: int = 0,
    failures: int = 0,
    crashes: int = 0,
    claim: int = 0,
    history: bytes | None = None,
) -> Row:
    """Return a row to insert; tails are spread and never repeat unless given.

    In the parking shard a row has a name: no id carries that shard.
    """
    tail = next(_serial) * _GOLDEN % 2**60 if tail is None else tail
    name = f"parked-{tail}" if shard == PARKING and name is None else name
    head = (due_at, tail, shard, name, kind, payload)
    return (*head, attempt, failures, crashes, claim, T - SECOND, history)


def number(node: int = NODE) -> int:
    """Return a claim number that was never used."""
    return node << 32 | next(_ticks)


def everywhere(store: Store) -> Sequence[int]:
    """Return all shards, the parking one too."""
    return range(PARKING, store.shards)


def claim_all(store: Store, high: int = T + SECOND, node: int = NODE) -> list[Row]:
    """Claim whatever is due, crashed or not."""
    return store.claim(number(node), everywhere(store), 0, high, 100_000, crashes=(0, 1000))


def move(held: Row, due_at: int | None = None, shard: int | None = None) -> Move:
    """Return the move of a claimed row that changes no more than its place."""
    shard = held[2] if shard is None else shard
    due_at = held[0] if due_at is None else due_at
    return Move(held, shard, due_at, held[5], held[6], held[7], held[8], held[11])


def buried(store: Store, held: Row, died_at: int = T, reason: str = "gave up") -> None:
    """Let a claimed event die."""
    store.settle(Settlement(deaths=[Death(held, died_at, reason, held[7] + 1, held[11])]))


def kept(store: Store, event_id: str) -> Event:
    """Return an event that must be kept."""
    (event,) = store.get([event_id])
    assert event is not None, f"{event_id} is lost"
    assert event.id == event_id
    return event


def _scheduled(store: Store, name: str | None) -> str:
    fresh = row(name=name)
    assert store.insert([fresh]) == [None]
    return id_of(fresh)


def _claimed(store: Store, name: str | None) -> str:
    event_id = _scheduled(store, name)
    assert [id_of(held) for held in claim_all(store)] == [event_id]
    return event_id


def _moved(store: Store, name: str | None) -> str:
    event_id = _claimed(store, name)
    held = kept(store, event_id).row
    assert store.settle(Settlement(moves=[move(held, held[0] + SECOND // 2)])).moves == 1
    return event_id


def _parked(store: Store, name: str | None) -> str:
    event_id = _claimed(store, name)
    held = kept(store, event_id).row
    assert store.settle(Settlement(moves=[move(held, shard=PARKING)])).moves == 1
    return event_id


def _dead(store: Store, name: str | None) -> str:
    event_id = _claimed(store, name)
    buried(store, kept(store, event_id).row)
    return event_id


def _reclaimed(store: Store, name: str | None) -> str:
    event_id = _moved(store, name)
    assert [id_of(held) for held in claim_all(store)] == [event_id]
    return event_id


def _redriven(store: Store, name: str | None) -> str:
    event_id = _dead(store, name)
    store.redrive([event_id], T, b"{}")
    return event_id


# How to bring an event about, and the state it then is in; each with a made id and a given one.
STATES: dict[str, tuple[Callable[[Store, str | None], str], State]] = {
    "scheduled": (_scheduled, State.SCHEDULED),
    "moved": (_moved, State.SCHEDULED),
    "redriven": (_redriven, State.SCHEDULED),
    "parked": (_parked, State.PARKED),
    "claimed": (_claimed, State.CLAIMED),
    "reclaimed": (_reclaimed, State.CLAIMED),
    "dead": (_dead, State.DEAD),
}
ALIVE = [way for way, (_, state) in STATES.items() if state is not State.DEAD]


def in_state(store: Store, way: str, name: str | None = None) -> str:
    """Make one event, bring it into this state, and return its id."""
    make, state = STATES[way]
    event_id = make(store, name)
    assert kept(store, event_id).state is state
    return event_id

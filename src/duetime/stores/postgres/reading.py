"""What the PostgreSQL store reads: events by their ids, pages and counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from duetime.event import PARKING, TAIL_BITS, Event, Row, State, place_of
from duetime.stores.contract import Counts, Filter
from duetime.stores.postgres.arrays import bigints, smallints, texts
from duetime.stores.postgres.session import Session

__all__ = ["Statements", "copy", "counts", "find", "lookup"]

Statements = Mapping[str, bytes]
_NEVER = 2**62  # later than every due time
_NO_TAIL, _LAST_TAIL = -1, 2**TAIL_BITS
_CLAIMED = {State.CLAIMED: True, State.SCHEDULED: False, State.PARKED: False, None: None}
_NOWHERE = (None, None, None)


def lookup(db: Session, sql: Statements, ids: Sequence[str]) -> dict[str, Event]:
    """Return the events that have these ids."""
    wanted = list(dict.fromkeys(ids))
    places = [place_of(event_id) or _NOWHERE for event_id in wanted]
    parameters = {
        "ids": texts(wanted),
        "shards": smallints(place[0] for place in places),
        "due_at": bigints(place[1] for place in places),
        "tails": bigints(place[2] for place in places),
    }
    found = map(_event, db.rows(sql["read"], parameters)) if wanted else ()
    return {event.id: event for event in found}


def _event(columns: tuple[Any, ...]) -> Event:
    """Return the event of a row, or of a dead one with what death added."""
    row = cast(Row, columns[:12])
    died_at, reason = columns[12:]
    if died_at is None:
        return Event(row)
    return Event(row, died_at=died_at, reason=reason)


def copy(event: Event | None) -> Event | None:
    """Return another object for the same event: callers may set `created`."""
    if event is None or event.died_at is None:
        return None if event is None else Event(event.row)
    return Event(event.row, died_at=event.died_at, reason=event.reason)


def find(
    db: Session,
    sql: Statements,
    wanted: Filter,
    limit: int,
    after: Event | None,
    shards: int,
) -> list[Event]:
    """Return a page of events in the order of the contract."""
    low = -_NEVER if wanted.due_from is None else wanted.due_from
    high = _NEVER if wanted.due_until is None else wanted.due_until - 1
    if limit <= 0:
        return []
    bounds: dict[str, Any] = {"high": high, "kind": wanted.kind, "limit": limit}
    if wanted.state is State.DEAD:
        died_at, name = (after.died_at or 0, after.id) if after else (-_NEVER, "")
        bounds |= {"died_at": died_at, "name": name, "low": low}
        return [_event(columns) for columns in db.rows(sql["find_dead"], bounds)]
    last = (after.row[0], after.row[2], after.row[1]) if after else (-_NEVER, PARKING, _NO_TAIL)
    among: Sequence[int] = range(PARKING, shards)
    if wanted.state is not None and wanted.state is not State.CLAIMED:
        among = (PARKING,) if wanted.state is State.PARKED else range(shards)
    starts = [max((low, _NO_TAIL), _behind(last, shard)) for shard in among]
    bounds |= {
        "shards": smallints(among),
        "lows": bigints(start[0] for start in starts),
        "tails": bigints(start[1] for start in starts),
        "claimed": _CLAIMED[wanted.state],
    }
    return [Event(cast(Row, columns)) for columns in db.rows(sql["find"], bounds)]


def _behind(last: tuple[int, int, int], shard: int) -> tuple[int, int]:
    """Return the (due_at, tail) behind which a shard goes on after the last event of a page."""
    due_at, last_shard, tail = last
    if shard == last_shard:
        return due_at, tail
    return due_at, _LAST_TAIL if shard < last_shard else _NO_TAIL


def counts(db: Session, sql: Statements, now: int) -> Counts:
    """Count events by state and kind."""
    by_state: dict[str, dict[str, int]] = defaultdict(dict)
    overdue = 0
    for kind, state, number, before in db.rows(sql["count_events"], {"now": now}):
        by_state[state][kind] = number
        overdue += before if state == State.SCHEDULED else 0
    return Counts(
        scheduled=by_state[State.SCHEDULED],
        claimed=by_state[State.CLAIMED],
        parked=by_state[State.PARKED],
        dead=dict(cast(list[tuple[str, int]], db.rows(sql["count_dead"]))),
        overdue=overdue,
    )

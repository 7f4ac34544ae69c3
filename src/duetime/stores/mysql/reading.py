"""What the MySQL store reads: events by their ids, pages and counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from duetime.event import PARKING, TAIL_BITS, Event, Place, Row, State, id_of, place_of
from duetime.stores.contract import Counts, Filter
from duetime.stores.mysql.literals import MOST, places, render
from duetime.stores.mysql.session import Session

__all__ = ["copy", "counts", "find", "lookup", "row_of"]

_NEVER = 2**62  # later than every due time
_SHARDS_AT_ONCE, _PLACES_AT_ONCE = 64, 20_000  # of one statement
_NO_TAIL, _LAST_TAIL = -1, 2**TAIL_BITS
_CLAIMED = {State.CLAIMED: 1, State.SCHEDULED: 0, State.PARKED: 0, None: None}


def row_of(columns: Sequence[Any]) -> Row:
    """Return a Row from columns as the server gives them: texts as bytes."""
    name, kind = columns[3:5]
    head = (*columns[:3], name.decode() if name is not None else None, kind.decode())
    return cast(Row, (*head, *columns[5:12]))


def lookup(db: Session, sql: Mapping[str, str], ids: Sequence[str]) -> dict[str, Event]:
    """Return the events that have these ids, each a fresh object.

    First at the places that the ids carry, then where `names` says: an event that leaves its first
    place gets its name in the same transaction, so it is seen in one of the two.
    """
    found: dict[str, Event] = {}
    first = {event_id: place for event_id in ids if (place := place_of(event_id)) is not None}
    within = [(event_id, place) for event_id, place in first.items() if _is_possible(place)]
    for start in range(0, len(within), MOST):
        some = dict(within[start : start + MOST])
        for columns in db.rows(render(sql["read_at"], places=places(some.values()))):
            row = row_of(columns)
            if id_of(row) in some:
                found[id_of(row)] = Event(row)
    rest = [event_id for event_id in dict.fromkeys(ids) if event_id not in found]
    for start in range(0, len(rest), MOST):
        for columns in db.rows(render(sql["read_named"], names=rest[start : start + MOST])):
            event = _event(columns)
            found[event.id] = event
    return found


def copy(event: Event | None) -> Event | None:
    """Return another object for the same event: callers may set `created`."""
    if event is None or event.died_at is None:
        return None if event is None else Event(event.row)
    return Event(event.row, died_at=event.died_at, reason=event.reason)


def _is_possible(place: Place) -> bool:
    """Tell whether a place can be in the table: an id of the made form may carry any."""
    return place.shard < 2**15


def _event(columns: Sequence[Any]) -> Event:
    """Return the event of a row, or of a dead one with what death added."""
    row = row_of(columns)
    died_at, reason = columns[12:14]
    if died_at is None:
        return Event(row)
    return Event(row, died_at=died_at, reason=reason.decode(errors="replace"))


def find(
    db: Session,
    sql: Mapping[str, str],
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
    if wanted.state is State.DEAD:
        died_at, name = (after.died_at or 0, after.id) if after else (-_NEVER, "")
        text = render(
            sql["find_dead"],
            died_at=died_at,
            name=name,
            low=low,
            high=high,
            kind=wanted.kind,
            limit=limit,
        )
        return [_event(columns) for columns in db.rows(text)]
    last = (after.row[0], after.row[2], after.row[1]) if after else (-_NEVER, PARKING, _NO_TAIL)
    return [Event(row) for row in _page(db, sql, wanted, limit, (low, high), last, shards)]


def _page(
    db: Session,
    sql: Mapping[str, str],
    wanted: Filter,
    limit: int,
    due: tuple[int, int],
    last: tuple[int, int, int],
    shards: int,
) -> list[Row]:
    low, high = due
    among: Sequence[int] = range(PARKING, shards)
    if wanted.state is not None and wanted.state is not State.CLAIMED:
        among = (PARKING,) if wanted.state is State.PARKED else range(shards)
    page: list[tuple[int, int, int]] = []
    at_once = max(1, min(_SHARDS_AT_ONCE, _PLACES_AT_ONCE // limit))
    for first in range(0, len(among), at_once):
        parts = []
        for shard in among[first : first + at_once]:
            start, tail = max((low, _NO_TAIL), _behind(last, shard))
            bounds = {"shard": shard, "low": start, "tail": tail, "high": high, "limit": limit}
            claimed = _CLAIMED[wanted.state]
            parts.append(render(sql["find"], **bounds, kind=wanted.kind, claimed=claimed))
        found = db.column(" UNION ALL ".join(f"({part})" for part in parts))
        for each in found:
            due_at, shard_, tail_ = map(int, each.split(b"\x1f"))
            page.append((due_at, shard_, tail_))
        page = sorted(page)[:limit]
        high = page[-1][0] if len(page) == limit else high
    return _rows_at(db, sql, page)


def _rows_at(
    db: Session, sql: Mapping[str, str], page: Sequence[tuple[int, int, int]]
) -> list[Row]:
    """Return the rows at these (due_at, shard, tail), in order."""
    rows: list[Row] = []
    for start in range(0, len(page), MOST):
        some = places((s, d, t) for d, s, t in page[start : start + MOST])
        rows += map(row_of, db.rows(render(sql["read_at"], places=some)))
    return sorted(rows, key=_order)


def _behind(last: tuple[int, int, int], shard: int) -> tuple[int, int]:
    """Return the (due_at, tail) behind which a shard goes on after the last event of a page."""
    due_at, last_shard, tail = last
    if shard == last_shard:
        return due_at, tail
    return due_at, _LAST_TAIL if shard < last_shard else _NO_TAIL


def _order(row: Row) -> tuple[int, int, int]:
    return (row[0], row[2], row[1])


def counts(db: Session, sql: Mapping[str, str], now: int) -> Counts:
    """Count events by state and kind."""
    by_state: dict[str, dict[str, int]] = defaultdict(dict)
    overdue = 0
    for kind, state, number, before in db.rows(render(sql["count_events"], now=now)):
        name = state.decode() if isinstance(state, bytes) else state
        by_state[name][kind.decode()] = number
        overdue += before if name == State.SCHEDULED else 0
    dead = {kind.decode(): number for kind, number in db.rows(sql["count_dead"])}
    return Counts(
        scheduled=by_state[State.SCHEDULED],
        claimed=by_state[State.CLAIMED],
        parked=by_state[State.PARKED],
        dead=dead,
        overdue=overdue,
    )

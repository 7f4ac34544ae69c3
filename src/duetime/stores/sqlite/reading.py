"""What the SQLite store reads: one event by its id, the soonest, pages and counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from duetime.event import PARKING, TAIL_BITS, Event, Row, State, id_of, place_of
from duetime.stores.contract import Counts, Filter
from duetime.stores.rules import DEAD_SHARD
from duetime.stores.sqlite.driver import Connection

__all__ = ["counts", "find", "lookup"]

_NEVER = 2**62  # later than every due time
_NO_TAIL, _LAST_TAIL = -1, 2**TAIL_BITS
_CLAIMED = {State.CLAIMED: 1, State.SCHEDULED: 0, State.PARKED: 0, None: None}


def lookup(db: Connection, sql: Mapping[str, str], event_id: str) -> Event | None:
    """Return the event with this id: at the place that the id carries, or where `names` says."""
    place = place_of(event_id)
    row: Row | None = db.first(sql["read_at"], place) if place else None
    if row is not None and id_of(row) == event_id:
        return Event(row)
    place = db.first(sql["read_name"], (event_id,))
    if place is None:
        return None
    if place[0] == DEAD_SHARD:
        dead = db.first(sql["read_dead"], (event_id,))
        return _dead(dead) if dead is not None else None
    row = db.first(sql["read_at"], place)
    return Event(row) if row is not None else None


def find(
    db: Connection,
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
        behind = (after.died_at or 0, after.id) if after else (-_NEVER, "")
        found = db.rows(sql["find_dead"], (*behind, low, high, wanted.kind, limit))
        return [_dead(dead) for dead in found]
    last = (after.row[0], after.row[2], after.row[1]) if after else (-_NEVER, PARKING, _NO_TAIL)
    return [Event(row) for row in _page(db, sql, wanted, limit, (low, high), last, shards)]


def _page(
    db: Connection,
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
    page: list[Row] = []
    for shard in among:
        start = max((low, _NO_TAIL), _behind(last, shard))
        bounds = (shard, *start, high, wanted.kind, _CLAIMED[wanted.state], limit)
        found: list[Row] = db.rows(sql["find"], bounds)
        if found:
            page = sorted([*page, *found], key=_order)[:limit]
            high = page[-1][0] if len(page) == limit else high
    return page


def _behind(last: tuple[int, int, int], shard: int) -> tuple[int, int]:
    """Return the (due_at, tail) behind which a shard goes on after the last event of a page."""
    due_at, last_shard, tail = last
    if shard == last_shard:
        return due_at, tail
    return due_at, _LAST_TAIL if shard < last_shard else _NO_TAIL


def _order(row: Row) -> tuple[int, int, int]:
    return (row[0], row[2], row[1])


def counts(db: Connection, sql: Mapping[str, str], now: int) -> Counts:
    """Count events by state and kind."""
    by_state: dict[str, dict[str, int]] = defaultdict(dict)
    overdue = 0
    for kind, state, number, before in db.rows(sql["count_events"], (now,)):
        by_state[state][kind] = number
        overdue += before if state == State.SCHEDULED else 0
    by_state[State.DEAD] = dict(db.rows(sql["count_dead"]))
    return Counts(
        scheduled=by_state[State.SCHEDULED],
        claimed=by_state[State.CLAIMED],
        parked=by_state[State.PARKED],
        dead=by_state[State.DEAD],
        overdue=overdue,
    )


def _dead(columns: tuple[Any, ...]) -> Event:
    """Return the event of a dead row: the columns of a Row, then what death added."""
    row = cast(Row, columns[:-2])
    return Event(row, died_at=columns[-2], reason=columns[-1])

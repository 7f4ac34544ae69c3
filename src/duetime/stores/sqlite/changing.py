"""What the SQLite store changes inside a transaction: inserts, cancels, moves, settlements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

from duetime.event import Event, Row, id_of, place_of
from duetime.stores import rules
from duetime.stores.contract import Answer, Death, Move, Range, Settled, Settlement
from duetime.stores.sqlite.claiming import listed
from duetime.stores.sqlite.driver import Connection
from duetime.stores.sqlite.reading import lookup

__all__ = ["cancel", "insert", "insert_one", "redrive", "reschedule", "settle"]

Statements = Mapping[str, str]
_by_place = itemgetter(2, 0, 1)
_AFTER_HEX = "g"  # sorts behind every id that continues with hexadecimal digits


def insert(db: Connection, sql: Statements, rows: Sequence[Row]) -> list[Event | None]:
    """Store new events; for each: None when it is stored, or the event that has its id."""
    answers: list[Event | None] = [None] * len(rows)
    fresh = [row for row in rows if row[3] is None]
    if len(fresh) < len(rows):
        for index in _insert_new_names(db, sql, rows):
            answers[index] = found = lookup(db, sql, id_of(rows[index]))
            if found is not None:
                found.created = False
    if fresh:
        fresh = _not_moved(db, sql, fresh)
        fresh.sort(key=_by_place)
        db.change_many(sql["insert"], fresh)
    return answers


def insert_one(db: Connection, sql: Statements, row: Row) -> list[Event | None]:
    """Store one new event that has no name, in one statement."""
    db.change(sql["insert_one"], (*row, id_of(row)))
    return [None]


def _insert_new_names(db: Connection, sql: Statements, rows: Sequence[Row]) -> list[int]:
    """Insert the named rows whose name is new; return the indexes of the others."""
    names = {row[3]: index for index, row in reversed(list(enumerate(rows))) if row[3] is not None}
    taken = _taken(db, sql, list(names))
    fresh = {index for name, index in names.items() if name not in taken}
    _insert_named(db, sql, [rows[index] for index in fresh])
    return [i for i, row in enumerate(rows) if row[3] is not None and i not in fresh]


def _insert_named(db: Connection, sql: Statements, rows: list[Row]) -> None:
    rows.sort(key=_by_place)
    if db.change_many(sql["insert"], rows) != len(rows):
        raise rules.place_taken()
    db.change_many(sql["put_name"], [(row[3], row[2], row[0], row[1]) for row in rows])


def _not_moved(db: Connection, sql: Statements, rows: list[Row]) -> list[Row]:
    """Leave out rows whose event is kept elsewhere: an insert that is asked again after a move.

    Ids begin with their due time, so one seek tells whether any name can be among them.
    """
    low, high = min(row[0] for row in rows), max(row[0] for row in rows)
    bounds = (f"e{low:015x}", f"e{high:015x}{_AFTER_HEX}")
    if db.first(sql["any_name_between"], bounds) is None:
        return rows
    ids = [id_of(row) for row in rows]
    kept = {name for (name,) in db.rows(sql["names_among"], (listed(ids),))}
    return [row for row, event_id in zip(rows, ids, strict=True) if event_id not in kept]


def _taken(db: Connection, sql: Statements, names: list[str]) -> set[str]:
    """Return which of these names belong to a kept event, wherever it is in its life."""
    taken = {name for (name,) in db.rows(sql["names_among"], (listed(names),))}
    return taken | {name for name in names if place_of(name) and lookup(db, sql, name)}


def cancel(db: Connection, sql: Statements, ids: Sequence[str]) -> list[Answer]:
    """Delete unclaimed events; for each that cannot be deleted, say why.

    Most often all of them can be, by their places: that is tried at once, in half the time.
    """
    places = [place for event_id in ids if (place := place_of(event_id))]
    if len(places) == len(ids) > 1:
        db.run("SAVEPOINT duetime_all")
        if db.change_many(sql["cancel_at"], sorted(places)) == len(ids):
            db.run("RELEASE duetime_all")
            return [Answer.CANCELLED] * len(ids)
        db.run("ROLLBACK TO duetime_all; RELEASE duetime_all")
    return [_cancel(db, sql, event_id) for event_id in ids]


def _cancel(db: Connection, sql: Statements, event_id: str) -> Answer:
    """Delete one unclaimed event, or say why not."""
    place = place_of(event_id)
    if place is not None and db.change(sql["cancel_at"], place):
        return Answer.CANCELLED
    found = lookup(db, sql, event_id)
    refused = rules.refusal(found)
    if refused is not None or found is None:
        return refused or Answer.UNKNOWN
    due_at, tail, shard = found.row[:3]
    db.change(sql["drop_at"], (shard, due_at, tail, 0))
    db.change(sql["drop_name"], (event_id,))
    return Answer.CANCELLED


def reschedule(db: Connection, sql: Statements, event_id: str, due_at: int, shards: int) -> Answer:
    """Move one unclaimed event, or say why not."""
    found = lookup(db, sql, event_id)
    refused = rules.refusal(found)
    if refused is not None or found is None:
        return refused or Answer.UNKNOWN
    old_due_at, tail, old_shard = found.row[:3]
    shard = rules.home(old_shard, tail, shards)
    name = rules.name_after(found.row, shard, due_at)
    db.change(sql["reschedule_at"], (old_shard, old_due_at, tail, shard, due_at, name))
    if name is not None:
        db.change(sql["put_name"], (name, shard, due_at, tail))
    return Answer.RESCHEDULED


def redrive(
    db: Connection, sql: Statements, event_id: str, due_at: int, note: bytes, shards: int
) -> Answer:
    """Schedule one dead event again, or say what it is instead of dead."""
    found = lookup(db, sql, event_id)
    refused = rules.refusal(found)
    if found is None or refused is not Answer.DEAD:
        return refused or Answer.SCHEDULED
    row = rules.redriven(found.row, due_at, note, shards)
    db.change(sql["unbury"], (event_id,))
    _insert_named(db, sql, [row])
    return Answer.REDRIVEN


def settle(db: Connection, sql: Statements, settlement: Settlement) -> Settled:
    """Write moves, deaths, done and ranges, in this order, each where its claim still holds."""
    moves = sum(_move(db, sql, move) for move in settlement.moves)
    deaths = sum(_bury(db, sql, death) for death in settlement.deaths)
    done = _finish(db, sql, settlement.done) if settlement.done else 0
    ranges = sum(_clear(db, sql, range_) for range_ in settlement.ranges)
    return Settled(ranges, done, moves, deaths)


def _move(db: Connection, sql: Statements, move: Move) -> int:
    row, shard, due_at = move[:3]
    name = rules.name_after(row, shard, due_at)
    changed = db.change(sql["settle_move"], (row[2], row[0], row[1], row[9], *move[1:], name))
    if changed and (shard, due_at) != (row[2], row[0]):
        db.change(sql["put_name"], (name, shard, due_at, row[1]))
    return changed


def _bury(db: Connection, sql: Statements, death: Death) -> int:
    held = death.row
    if not db.change(sql["settle_row"], (held[2], held[0], held[1], held[9])):
        return 0
    row = rules.dead_row(death)
    db.change(sql["bury"], (*row[:9], *row[10:], death.died_at, death.reason))
    db.change(sql["put_name"], (row[3], rules.DEAD_SHARD, 0, 0))
    return 1


def _finish(db: Connection, sql: Statements, rows: Sequence[Row]) -> int:
    places = sorted((row[2], row[0], row[1], row[9]) for row in rows)
    done = db.change_many(sql["settle_row"], places)
    named = [(row[3], row[2], row[0], row[1]) for row in rows if row[3] is not None]
    if named:
        db.change_many(sql["drop_name_at"], named)
    return done


def _clear(db: Connection, sql: Statements, range_: Range) -> int:
    bounds = (listed(range_.shards), range_.low, range_.high, range_.claim)
    return db.change(sql["settle_range"], bounds)

"""What callers change in the MySQL store: inserts, cancels, moves and redrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import pymysql

from duetime.event import Event, Place, Row, id_of, place_of
from duetime.stores import rules
from duetime.stores.contract import Answer
from duetime.stores.mysql import driver
from duetime.stores.mysql.connection import BusyError, DuplicateError
from duetime.stores.mysql.literals import (
    MOST,
    Rendered,
    event_rows,
    names_table,
    places,
    render,
    tuples,
)
from duetime.stores.mysql.reading import copy, lookup
from duetime.stores.mysql.session import Session

__all__ = ["cancel", "insert", "insert_rows", "put_names", "redrive", "reschedule", "room"]

Statements = Mapping[str, str]
_by_place = itemgetter(2, 0, 1)
_AFTER_HEX = "g"  # sorts behind every id that continues with hexadecimal digits
_LARGEST = 4 << 20  # bytes of one INSERT


def insert(
    db: Session, sql: Statements, rows: Sequence[Row], *, careful: bool
) -> list[Event | None]:
    """Store new events; for each: None when it is stored, or the event that has its id.

    Names are inserted without being looked for first, and rows as if none were moved. If that
    was wrong DuplicateError comes of it, and the whole is to be done again with `careful`.
    """
    if len(rows) == 1 and rows[0][3] is None:
        (row,) = event_rows(rows, 0)
        db.execute(render(sql["insert_one"], row=type(row)(row[1:-1]), name=id_of(rows[0])))
        return [None]
    named = [row for row in rows if row[3] is not None]
    if not named:
        _insert_fresh(db, sql, list(rows), careful=careful)
        return [None] * len(rows)
    with db.transaction():
        answers = _insert_named(db, sql, rows, careful=careful)
        fresh = [row for row in rows if row[3] is None]
        if fresh:
            _insert_fresh(db, sql, fresh, careful=careful, within=True)
    return answers


def _insert_fresh(
    db: Session, sql: Statements, rows: list[Row], *, careful: bool, within: bool = False
) -> None:
    """Insert rows without names, all that were not inserted before.

    An insert that is asked again may be of an event that has moved meanwhile and is kept under its
    id as name. Whether there can be any such name is asked by the statement itself, which then
    refuses its first row: DuplicateError comes of it, and with `careful` each id is looked up.
    """
    question = _question(sql, rows)
    if careful:
        rows = _not_moved(db, sql, rows)
    rows.sort(key=_by_place)
    parts = list(event_rows(rows, room(db)))
    if parts and not careful:
        due_at, rest = parts[0][1:].split(",", 1)
        parts[0] = type(parts[0])(f"(IF(EXISTS({question}),NULL,{due_at}),{rest}")
    try:
        if len(parts) <= 1 or within:
            _insert_parts(db, sql, parts)
        else:
            with db.transaction():
                _insert_parts(db, sql, parts)
    except pymysql.MySQLError as error:
        if not careful and driver.judge(error)[1] is driver.Verdict.BUSY:
            raise DuplicateError from error  # somebody holds such a name: each id is looked up
        raise


def _question(sql: Statements, rows: Sequence[Row]) -> str:
    """Return the SELECT that tells whether any name can be among these rows' ids.

    Ids begin with their due time, so it is one seek.
    """
    low, high = min(row[0] for row in rows), max(row[0] for row in rows)
    bounds = {"low": f"e{low:015x}", "high": f"e{high:015x}{_AFTER_HEX}"}
    return render(sql["any_name_between"], **bounds)


def _insert_parts(db: Session, sql: Statements, parts: Sequence[Rendered]) -> None:
    for part in parts:
        db.execute(render(sql["insert"], rows=part))


def room(db: Session) -> int:
    """Return how many bytes of rows one INSERT may have, if it has more than one row."""
    return min(_LARGEST, db.packet // 2)


def insert_rows(db: Session, sql: Statements, rows: list[Row]) -> None:
    """Insert rows whose places must be free, inside a transaction."""
    rows.sort(key=_by_place)
    for part in event_rows(rows, room(db)):
        db.execute(render(sql["insert_named"], rows=part))


def _insert_named(
    db: Session, sql: Statements, rows: Sequence[Row], *, careful: bool
) -> list[Event | None]:
    """Insert the rows whose name is new, the first of each; answer for the others."""
    first: dict[str, Row] = {}
    for row in rows:
        if row[3] is not None:
            first.setdefault(row[3], row)
    asked = list(first) if careful else [name for name in first if place_of(name)]
    taken = lookup(db, sql, asked) if asked else {}
    new = [row for name, row in first.items() if name not in taken]
    if new:
        names = sorted((id_of(row), row[2], row[0], row[1]) for row in new)
        for start in range(0, len(names), MOST):
            db.execute(render(sql["new_names"], rows=tuples(names[start : start + MOST])))
        insert_rows(db, sql, new)
    fresh = {name: row for name, row in first.items() if name not in taken}
    return [_existing(row, first, taken, fresh) for row in rows]


def _existing(
    row: Row, first: Mapping[str, Row], taken: Mapping[str, Event], fresh: dict[str, Row]
) -> Event | None:
    """Return the event that was there before this row, or None; the first of a name is new."""
    if row[3] is None or fresh.pop(row[3], None) is not None:
        return None
    event = copy(taken.get(row[3])) or Event(first[row[3]])
    event.created = False
    return event


def _not_moved(db: Session, sql: Statements, rows: list[Row]) -> list[Row]:
    """Leave out rows whose event is kept elsewhere: an insert that is asked again after a move."""
    ids = [id_of(row) for row in rows]
    kept: set[str] = set()
    for start in range(0, len(ids), MOST):
        some = render(sql["names_among"], names=ids[start : start + MOST])
        kept |= {name.decode() for (name,) in db.rows(some)}
    return [row for row, event_id in zip(rows, ids, strict=True) if event_id not in kept]


def cancel(db: Session, sql: Statements, ids: Sequence[str]) -> list[Answer]:
    """Delete unclaimed events, or say why not.

    The quick way is for ids that are places, all still there: one statement, no read. Otherwise
    the events are read and deleted as they were read; what changed in between is BusyError, and
    the whole is done again.
    """
    if _cancel_plain(db, sql, ids):
        return [Answer.CANCELLED] * len(ids)
    with db.transaction():
        found = lookup(db, sql, ids)
        free = {name: event.row for name, event in found.items() if not rules.refusal(event)}
        _take_all(db, sql, list(free.values()))
        _drop_names(db, sql, [name for name, row in free.items() if row[3] is not None])
    answers = []
    for event_id in ids:
        answers.append(rules.refusal(found.get(event_id)) or Answer.CANCELLED)
        if answers[-1] is Answer.CANCELLED:
            del found[event_id]  # named again in the same call: it is gone
    return answers


def _cancel_plain(db: Session, sql: Statements, ids: Sequence[str]) -> bool:
    """Delete events by the places that their ids carry; tell whether every one went."""
    if len(ids) == 1:
        place = place_of(ids[0])
        return place is not None and _cancel_at(db, sql, place) == 1
    asked = [place for event_id in ids if (place := place_of(event_id)) is not None]
    if not ids or len(asked) < len(ids) or len(set(asked)) < len(asked):
        return False
    try:
        with db.transaction():
            for start in range(0, len(asked), MOST):
                some = asked[start : start + MOST]
                text = render(sql["cancel_plain"], places=places(some))
                if db.execute(text) != len(some):
                    raise _NotAllError
    except _NotAllError:
        return False
    return True


class _NotAllError(Exception):
    """Fewer rows were there than asked for: roll back."""


def _cancel_at(db: Session, sql: Statements, place: Place) -> int:
    return db.execute(render(sql["cancel_at"], **place._asdict()))


def _take_all(db: Session, sql: Statements, rows: Sequence[Row]) -> None:
    """Delete rows that nobody has claimed since they were read, or raise BusyError."""
    for start in range(0, len(rows), MOST):
        some = [(row[2], row[0], row[1]) for row in rows[start : start + MOST]]
        if db.execute(render(sql["drop_at"], places=places(some), claim=0)) != len(some):
            raise BusyError


def _drop_names(db: Session, sql: Statements, names: list[str]) -> None:
    for start in range(0, len(names), MOST):
        db.execute(render(sql["drop_name"], names=names_table(names[start : start + MOST])))


def put_names(
    db: Session, sql: Statements, rows: Sequence[tuple[str | None, int, int, int]]
) -> None:
    """Let these names lead to these places (shard, due_at, tail)."""
    ordered = sorted(rows, key=itemgetter(0))
    for start in range(0, len(ordered), MOST):
        db.execute(render(sql["put_name"], rows=tuples(ordered[start : start + MOST])))


def reschedule(
    db: Session, sql: Statements, moves: Sequence[tuple[str, int]], shards: int
) -> list[Answer]:
    """Move unclaimed events one after the other, or say why not."""
    answers = []
    with db.transaction():
        found = lookup(db, sql, [event_id for event_id, _ in moves])
        for event_id, due_at in moves:
            event = found.get(event_id)
            refused = rules.refusal(event)
            if refused is None and event is not None:
                found[event_id] = _move(db, sql, event, due_at, shards)
            answers.append(refused or Answer.RESCHEDULED)
    return answers


def _move(db: Session, sql: Statements, event: Event, due_at: int, shards: int) -> Event:
    row = event.row
    shard = rules.home(row[2], row[1], shards)
    name = rules.name_after(row, shard, due_at)
    text = render(
        sql["reschedule_at"],
        shard=row[2],
        due_at=row[0],
        tail=row[1],
        new_shard=shard,
        new_due_at=due_at,
        name=name,
    )
    if db.execute(text) != 1:
        raise BusyError
    if name is not None:
        put_names(db, sql, [(name, shard, due_at, row[1])])
    return Event((due_at, row[1], shard, name, *row[4:]))


def redrive(
    db: Session, sql: Statements, ids: Sequence[str], due_at: int, note: bytes, shards: int
) -> list[Answer]:
    """Schedule dead events again, or say what they are instead of dead."""
    answers = []
    with db.transaction():
        found = lookup(db, sql, ids)
        for event_id in ids:
            event = found.get(event_id)
            refused = rules.refusal(event)
            if event is None or refused is not Answer.DEAD:
                answers.append(refused or Answer.SCHEDULED)
                continue
            row = rules.redriven(event.row, due_at, note, shards)
            if db.execute(render(sql["unbury"], name=event_id)) != 1:
                raise BusyError
            insert_rows(db, sql, [row])
            put_names(db, sql, [(event_id, row[2], row[0], row[1])])
            found[event_id] = Event(row)
            answers.append(Answer.REDRIVEN)
    return answers

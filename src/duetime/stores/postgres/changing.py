"""What callers change in the PostgreSQL store: inserts, cancels, moves and redrives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, cast

import psycopg

from duetime.event import Event, Place, Row, id_of, place_of
from duetime.stores import rules
from duetime.stores.contract import Answer
from duetime.stores.postgres.arrays import bigints, columns, smallints, texts
from duetime.stores.postgres.connection import BusyError
from duetime.stores.postgres.reading import Statements, copy, lookup
from duetime.stores.postgres.session import Session

__all__ = ["cancel", "insert", "redrive", "reschedule"]

_by_place = itemgetter(2, 0, 1)
_AFTER_HEX = "g"  # sorts behind every id that continues with hexadecimal digits
_ROUNDS = 5  # how often events are looked at again that change while they are looked at


def insert(db: Session, sql: Statements, rows: Sequence[Row]) -> list[Event | None]:
    """Store new events; for each: None when it is stored, or the event that has its id."""
    fresh = sorted((row for row in rows if row[3] is None), key=_by_place)
    if len(fresh) == len(rows):
        _insert_fresh(db, sql, fresh)
        return [None] * len(rows)
    if len(rows) == 1:
        return _insert_named(db, sql, rows)
    with db.transaction():
        answers = _insert_named(db, sql, rows)
        if fresh:
            db.execute(sql["insert_again"], columns(fresh))
    return answers


def _insert_fresh(db: Session, sql: Statements, rows: list[Row]) -> None:
    """Insert rows without names; those whose events are kept, here or elsewhere, are left out."""
    if len(rows) == 1:
        db.execute(sql["insert_one"], (*rows[0], id_of(rows[0])))
        return
    # Ids begin with their due time, so one seek tells whether any name can be among them.
    low, high = min(row[0] for row in rows), max(row[0] for row in rows)
    bounds = {"low": f"e{low:015x}", "high": f"e{high:015x}{_AFTER_HEX}"}
    if not db.rows(sql["any_name_between"], bounds):
        try:
            db.copy(sql["insert"], rows)
        except psycopg.errors.UniqueViolation:
            pass  # asked again
        else:
            return
    db.execute(sql["insert_again"], columns(rows))


def _insert_named(db: Session, sql: Statements, rows: Sequence[Row]) -> list[Event | None]:
    """Insert the rows whose name is new, the first of each; answer for the others."""
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        if row[3] is not None:
            first.setdefault(row[3], index)
    # A name may be the id of an event without a name: only a look at its place can tell.
    taken = lookup(db, sql, [name for name in first if place_of(name)])
    left = first.keys() - taken.keys()
    for _ in range(_ROUNDS):
        if not left:
            break
        some = sorted((rows[first[name]] for name in left), key=_by_place)
        left -= {name for (name,) in db.changed(sql["insert_named"], columns(some))}
        taken |= lookup(db, sql, list(left))
        left -= taken.keys()  # who is neither stored nor found has ended meanwhile: once more
    if left:
        raise BusyError
    return [_existing(rows, index, first, taken) for index in range(len(rows))]


def _existing(
    rows: Sequence[Row], index: int, first: dict[str, int], taken: dict[str, Event]
) -> Event | None:
    """Return the event that was there before this row, or None."""
    name = rows[index][3]
    if name is None:
        return None
    event = copy(taken.get(name))
    if event is None:
        if first[name] == index:
            return None
        event = Event(rows[first[name]])
    event.created = False
    return event


def cancel(db: Session, sql: Statements, ids: Sequence[str]) -> list[Answer]:
    """Delete unclaimed events, or say why not; all that can be, or none."""
    if len(ids) == 1:
        return _cancel(db, sql, ids)
    with db.transaction():
        return _cancel(db, sql, ids)


def _cancel(db: Session, sql: Statements, ids: Sequence[str]) -> list[Answer]:
    answers: dict[str, Answer] = {}
    left = list(dict.fromkeys(ids))
    for _ in range(_ROUNDS):
        for take in (_cancel_at, _cancel_named):
            gone = take(db, sql, left)
            answers |= dict.fromkeys(gone, Answer.CANCELLED)
            left = [event_id for event_id in left if event_id not in gone]
        answers |= _refusals(left, lookup(db, sql, left))
        left = [event_id for event_id in left if event_id not in answers]
        if not left:
            return list(_one_by_one(ids, answers))
    raise BusyError


def _one_by_one(ids: Sequence[str], answers: dict[str, Answer]) -> Iterator[Answer]:
    """Give the answers in order: who is taken back a second time is not there any more."""
    for event_id in ids:
        yield answers[event_id]
        if answers[event_id] is Answer.CANCELLED:
            answers[event_id] = Answer.UNKNOWN


def _cancel_at(db: Session, sql: Statements, ids: Sequence[str]) -> set[str]:
    places = {place: event_id for event_id in ids if (place := place_of(event_id)) is not None}
    if not places:
        return set()
    gone = db.changed(sql["cancel_at"], _places(list(places)))
    return {places[Place(shard, due_at, tail)] for due_at, shard, tail in gone}


def _cancel_named(db: Session, sql: Statements, ids: Sequence[str]) -> set[str]:
    gone = db.changed(sql["cancel_named"], {"ids": texts(ids)}) if ids else ()
    return {name for (name,) in gone}


def _refusals(ids: Sequence[str], found: dict[str, Event]) -> dict[str, Answer]:
    """Return why events cannot be taken back or moved; those that can are left out."""
    answers = {event_id: rules.refusal(found.get(event_id)) for event_id in ids}
    return {event_id: answer for event_id, answer in answers.items() if answer is not None}


def reschedule(
    db: Session, sql: Statements, moves: Sequence[tuple[str, int]], shards: int
) -> list[Answer]:
    """Move unclaimed events, or say why not."""
    if len(moves) == 1:
        return list(_reschedule(db, sql, dict(moves), shards).values())
    answers: list[Answer] = []
    with db.transaction():
        for some in _without_repeats(moves):
            found = _reschedule(db, sql, dict(some), shards)
            answers += [found[event_id] for event_id, _ in some]
    return answers


def _without_repeats(moves: Sequence[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Cut a list into parts none of which has an id twice."""
    part: dict[str, Any] = {}
    for event_id, item in moves:
        if event_id in part:
            yield list(part.items())
            part = {}
        part[event_id] = item
    yield list(part.items())


def _reschedule(
    db: Session, sql: Statements, moves: dict[str, int], shards: int
) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    left = list(moves)
    for _ in range(_ROUNDS):
        found = lookup(db, sql, left)
        answers |= _refusals(left, found)
        targets: dict[Place, str] = {}
        rows: list[Row] = []
        for event_id in (each for each in left if each not in answers):
            row = found[event_id].row
            rows.append(row)
            shard = rules.home(row[2], row[1], shards)
            targets[Place(shard, moves[event_id], row[1])] = event_id
        if rows:
            moved = db.changed(sql["reschedule_at"], _moves(rows, list(targets)))
            ids = (targets[Place(shard, due_at, tail)] for due_at, tail, shard in moved)
            answers |= dict.fromkeys(ids, Answer.RESCHEDULED)
        left = [event_id for event_id in left if event_id not in answers]
        if not left:
            return {event_id: answers[event_id] for event_id in moves}
    raise BusyError


def _places(places: Sequence[Place]) -> dict[str, Any]:
    shards, due_at, tails = zip(*places, strict=True)
    return {"shards": smallints(shards), "due_at": bigints(due_at), "tails": bigints(tails)}


def _moves(rows: list[Row], targets: list[Place]) -> dict[str, Any]:
    names = [
        rules.name_after(row, to.shard, to.due_at) for row, to in zip(rows, targets, strict=True)
    ]
    return _places([Place(row[2], row[0], row[1]) for row in rows]) | {
        "names": texts(row[3] for row in rows),
        "to_shards": smallints(to.shard for to in targets),
        "to_due_at": bigints(to.due_at for to in targets),
        "to_names": texts(names),
    }


def redrive(
    db: Session, sql: Statements, ids: Sequence[str], due_at: int, note: bytes, shards: int
) -> list[Answer]:
    """Schedule dead events again, or say what they are instead of dead."""
    answers: list[Answer] = []
    with db.transaction():
        for some in _without_repeats([(event_id, None) for event_id in ids]):
            part = [event_id for event_id, _ in some]
            dead = cast(list[Row], db.changed(sql["unbury"], {"ids": texts(part)}))
            if dead:
                rows = [rules.redriven(row, due_at, note, shards) for row in dead]
                db.execute(sql["put_again"], columns(rows))
            redriven = {id_of(row) for row in dead}
            rest = [event_id for event_id in part if event_id not in redriven]
            refused = _refusals(rest, lookup(db, sql, rest))
            if Answer.DEAD in refused.values():
                raise BusyError
            found = dict.fromkeys(redriven, Answer.REDRIVEN) | refused
            answers += [found.get(event_id, Answer.SCHEDULED) for event_id in part]
    return answers

"""Outcomes, each part of a settlement one statement however many rows it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from duetime.event import Row, id_of
from duetime.stores import rules
from duetime.stores.contract import Death, Move, Range, Settled, Settlement
from duetime.stores.postgres.arrays import Array, bigints, blobs, integers, smallints, texts
from duetime.stores.postgres.reading import Statements
from duetime.stores.postgres.session import Session

__all__ = ["settle"]

T = TypeVar("T")


def settle(db: Session, sql: Statements, settlement: Settlement) -> Settled:
    """Write moves, deaths, done and ranges, in this order, each where its claim still holds."""
    parts = [bool(settlement.moves), bool(settlement.deaths), bool(settlement.done)]
    if sum(parts) + len(settlement.ranges) <= 1:
        return _settle(db, sql, settlement)
    with db.transaction():
        return _settle(db, sql, settlement)


def _settle(db: Session, sql: Statements, settlement: Settlement) -> Settled:
    moves = _move(db, sql, settlement.moves) if settlement.moves else 0
    deaths = _bury(db, sql, settlement.deaths) if settlement.deaths else 0
    done = _finish(db, sql, settlement.done) if settlement.done else 0
    ranges = sum(_clear(db, sql, range_) for range_ in settlement.ranges)
    return Settled(ranges, done, moves, deaths)


def _move(db: Session, sql: Statements, moves: Sequence[Move]) -> int:
    moves = _first_of_each(moves, lambda move: move.row)
    parameters = _held(move.row for move in moves) | {
        "to_shards": smallints(move.shard for move in moves),
        "to_due_at": bigints(move.due_at for move in moves),
        "payloads": blobs(move.payload for move in moves),
        "attempts": integers(move.attempt for move in moves),
        "failures": integers(move.failures for move in moves),
        "crashes": integers(move.crashes for move in moves),
        "histories": blobs(move.history for move in moves),
        "to_names": texts(rules.name_after(move.row, move.shard, move.due_at) for move in moves),
    }
    return _count(db, sql["settle_move"], parameters)


def _bury(db: Session, sql: Statements, deaths: Sequence[Death]) -> int:
    deaths = _first_of_each(deaths, lambda death: death.row)
    parameters = _held(death.row for death in deaths) | {
        "names": texts(id_of(death.row) for death in deaths),
        "failures": integers(death.failures for death in deaths),
        "histories": blobs(death.history for death in deaths),
        "died_at": bigints(death.died_at for death in deaths),
        # The one character that a text cannot hold here; what an exception said may hold it.
        "reasons": texts(death.reason.replace("\0", "\u2400") for death in deaths),
    }
    return _count(db, sql["bury"], parameters)


def _finish(db: Session, sql: Statements, rows: Sequence[Row]) -> int:
    return _count(db, sql["settle_row"], _held(rows))


def _clear(db: Session, sql: Statements, range_: Range) -> int:
    bounds = {
        "shards": smallints(range_.shards),
        "low": range_.low,
        "high": range_.high,
        "number": range_.claim,
    }
    return db.execute(sql["settle_range"], bounds)


def _first_of_each(items: Sequence[T], row_of: Callable[[T], Row]) -> list[T]:
    """Leave out what would change a row again: after the first its claim no longer holds."""
    first: dict[tuple[int, int, int, int], T] = {}
    for item in items:
        row = row_of(item)
        first.setdefault((row[2], row[0], row[1], row[9]), item)
    return list(first.values())


def _held(rows: Iterable[Row]) -> dict[str, Array]:
    """Return places and claims as parameters."""
    rows = list(rows)
    return {
        "shards": smallints(row[2] for row in rows),
        "due_at": bigints(row[0] for row in rows),
        "tails": bigints(row[1] for row in rows),
        "claims": bigints(row[9] for row in rows),
    }


def _count(db: Session, statement: bytes, parameters: dict[str, Array]) -> int:
    return int(db.changed(statement, parameters)[0][0])

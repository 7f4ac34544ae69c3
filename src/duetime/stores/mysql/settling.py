"""How outcomes are written: what moves, dies or is done, each only where its claim still holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from duetime.event import Row, id_of
from duetime.stores import rules
from duetime.stores.contract import Death, Move, Range, Settled, Settlement
from duetime.stores.mysql.changing import insert_rows, put_names, room
from duetime.stores.mysql.literals import MOST, names_table, places, render, value_rows
from duetime.stores.mysql.session import Session

__all__ = ["Lost", "rescue", "rescue_by_places", "settle"]

Statements = Mapping[str, str]


class Lost(NamedTuple):
    """What a node that is gone has claimed."""

    shards: Sequence[int]
    number: int
    high: int
    suspects: int

    @property
    def bounds(self) -> dict[str, int]:
        """The numbers of its claims."""
        return {"first": self.number << 32, "last": (self.number << 32) | 0xFFFF_FFFF}


def rescue(db: Session, sql: Statements, lost: Lost) -> int:
    """Free claims in one statement, which waits for any row that somebody else holds."""
    shards, _, high, suspects = lost
    return db.execute(
        render(sql["rescue"], shards=shards, high=high, suspects=suspects, **lost.bounds)
    )


def rescue_by_places(db: Session, sql: Statements, lost: Lost) -> int:
    """Free those claims that nobody else holds."""
    freed = 0
    with db.transaction():
        free = db.rows(
            render(sql["rescue_pick"], shards=lost.shards, high=lost.high, **lost.bounds)
        )
        for start in range(0, len(free), MOST):
            some = places((s, d, t) for s, d, t in free[start : start + MOST])
            freed += db.execute(
                render(sql["rescue_at"], places=some, suspects=lost.suspects, **lost.bounds)
            )
    return freed


def settle(db: Session, sql: Statements, settlement: Settlement, *, by_places: bool) -> Settled:
    """Write moves, deaths, done and ranges, in this order, each where its claim still holds.

    With `by_places` no range is deleted as one, so that a row of somebody else's in the middle of
    it is not waited for.
    """
    ranges = settlement.ranges
    others = bool(settlement.moves or settlement.deaths or settlement.done)
    if not (ranges or others):
        return Settled(0, 0, 0, 0)
    if len(ranges) == 1 and not others and not by_places:
        return Settled(_clear(db, sql, ranges[0]), 0, 0, 0)
    clear = _clear_by_places if by_places else _clear
    with db.transaction():
        moves = _move(db, sql, settlement.moves)
        deaths = _bury(db, sql, settlement.deaths)
        done = _finish(db, sql, settlement.done)
        cleared = sum(clear(db, sql, each) for each in ranges)
    return Settled(cleared, done, moves, deaths)


def _held(db: Session, sql: Statements, rows: Sequence[Row]) -> set[tuple[int, int, int, int]]:
    """Lock these rows; return (shard, due_at, tail, claim) of those that still bear a claim."""
    found: set[tuple[int, int, int, int]] = set()
    ordered = sorted({_place(row) for row in rows})
    for start in range(0, len(ordered), MOST):
        some = places(ordered[start : start + MOST])
        found.update((s, d, t, c) for s, d, t, c in db.rows(render(sql["held"], places=some)))
    return found


def _take(db: Session, sql: Statements, rows: Sequence[Row]) -> None:
    ordered = sorted(_place(row) for row in rows)
    for start in range(0, len(ordered), MOST):
        db.execute(render(sql["take_at"], places=places(ordered[start : start + MOST])))


def _move(db: Session, sql: Statements, moves: Sequence[Move]) -> int:
    """Delete moved rows and insert them as they are to be: the number of statements is fixed."""
    if not moves:
        return 0
    held = _held(db, sql, [move.row for move in moves])
    kept: list[Move] = []
    for move in moves:
        key = (*_place(move.row), move.row[9])
        if key in held:
            held.discard(key)  # named twice: the first counts
            kept.append(move)
    if not kept:
        return 0
    _take(db, sql, [move.row for move in kept])
    rows = [_moved(move) for move in kept]
    away = [
        (row[3], row[2], row[0], row[1])
        for row, move in zip(rows, kept, strict=True)
        if (row[2], row[0]) != (move.row[2], move.row[0])
    ]
    insert_rows(db, sql, rows)
    put_names(db, sql, away)
    return len(kept)


def _moved(move: Move) -> Row:
    row, shard, due_at = move[:3]
    name = rules.name_after(row, shard, due_at)
    head = (due_at, row[1], shard, name, row[4], move.payload)
    return (*head, move.attempt, move.failures, move.crashes, 0, row[10], move.history)


def _bury(db: Session, sql: Statements, deaths: Sequence[Death]) -> int:
    if not deaths:
        return 0
    held = _held(db, sql, [death.row for death in deaths])
    kept: list[Death] = []
    for death in deaths:
        key = (*_place(death.row), death.row[9])
        if key in held:
            held.discard(key)
            kept.append(death)
    if not kept:
        return 0
    _take(db, sql, [death.row for death in kept])
    for part in value_rows(map(_dead, kept), room(db)):
        db.execute(render(sql["bury"], rows=part))
    put_names(db, sql, [(id_of(death.row), rules.DEAD_SHARD, 0, 0) for death in kept])
    return len(kept)


def _dead(death: Death) -> tuple[int | bytes | str | None, ...]:
    row = rules.dead_row(death)
    reason = death.reason.encode(errors="replace")
    return (*row[:9], *row[10:], death.died_at, reason)


def _finish(db: Session, sql: Statements, rows: Sequence[Row]) -> int:
    """Delete done rows and their names."""
    by_claim: dict[int, dict[tuple[int, int, int], Row]] = defaultdict(dict)
    for row in rows:
        by_claim[row[9]][_place(row)] = row
    done = 0
    for number, some in sorted(by_claim.items()):
        ordered = sorted(some)
        for start in range(0, len(ordered), MOST):
            part = ordered[start : start + MOST]
            text = render(sql["settle_row"], places=places(part), number=number)
            went = db.execute(text)
            done += went
            named = [some[place] for place in part if some[place][3] is not None]
            if named:
                _drop_names(db, sql, named, all_went=went == len(part))
    return done


def _drop_names(db: Session, sql: Statements, rows: Sequence[Row], *, all_went: bool) -> None:
    if all_went:
        db.execute(render(sql["drop_name"], names=names_table(map(id_of, rows))))
        return
    for row in rows:
        text = render(
            sql["drop_name_at"], name=id_of(row), shard=row[2], due_at=row[0], tail=row[1]
        )
        db.execute(text)


def _clear(db: Session, sql: Statements, range_: Range) -> int:
    if not range_.shards:
        return 0
    return db.execute(render(sql["settle_range"], **_bounds(range_)))


def _clear_by_places(db: Session, sql: Statements, range_: Range) -> int:
    if not range_.shards:
        return 0
    found = db.rows(render(sql["range_places"], **_bounds(range_)))
    cleared = 0
    for start in range(0, len(found), MOST):
        some = places((s, d, t) for s, d, t in found[start : start + MOST])
        cleared += db.execute(render(sql["settle_row"], places=some, number=range_.claim))
    return cleared


def _bounds(range_: Range) -> dict[str, int | tuple[int, ...]]:
    return {
        "shards": range_.shards,
        "low": range_.low,
        "high": range_.high,
        "number": range_.claim,
    }


def _place(row: Row) -> tuple[int, int, int]:
    return (row[2], row[0], row[1])

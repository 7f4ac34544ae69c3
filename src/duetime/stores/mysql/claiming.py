"""Claims by range: pick and lock, mark by one statement, and never wait for somebody else's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple, cast

from duetime.event import DUE_AT, SHARD, TAIL, TAIL_BITS, Row
from duetime.stores.contract import Due, Kinds, owner_of
from duetime.stores.mysql.connection import BusyError
from duetime.stores.mysql.literals import MOST, Value, places, render
from duetime.stores.mysql.reading import row_of
from duetime.stores.mysql.session import Session

__all__ = ["Latest", "Wanted"]

_LAST_TAIL = 2**TAIL_BITS
_NOBODY = b"\0"  # no kind: what a list without members holds
_SEPARATOR = b"\x1f"
_FIELDS = 11  # of a picked row
_SHARDS_AT_ONCE = 64  # parts of one UNION ALL
_MOST_HELD = 100  # rows to claim around in one statement


class Latest:
    """The latest claim number of each node, which tells whether a claim is asked for again."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def seen(self, number: int) -> bool:
        """Note a number; tell whether it or a later one of its node was noted before."""
        node = owner_of(number)
        latest = self._numbers.get(node, 0)
        self._numbers[node] = max(number, latest)
        return number <= latest


class _Kinds(dict[bytes, str]):
    """Kinds by their bytes: each is decoded once, and all its events share one string."""

    def __missing__(self, data: bytes) -> str:
        if len(self) >= 10_000:
            self.clear()
        kind = self[data] = data.decode()
        return kind


_kinds = _Kinds()


class _Part(NamedTuple):
    """Where a pick looks: these shards, up to a due time and a tail."""

    shards: tuple[int, ...]
    high: int
    tail: int


class Wanted:
    """What one call of `claim` or `peek` asks for."""

    def __init__(
        self,
        sql: Mapping[str, str],
        number: int,
        shards: Sequence[int],
        low: int,
        high: int,
        kinds: Kinds,
        crashes: tuple[int, int],
    ) -> None:
        """Make the parameters that all statements of the claim family share."""
        self._sql = sql
        self._number = number
        self._shards = tuple(shards)
        self._low, self._high = low, high
        self._fixed: dict[str, Value] = {
            "number": number,
            "low": low,
            "least": crashes[0],
            "most": crashes[1],
            "all": kinds.only is None and not kinds.without,
            "any": kinds.only is None,
            "only": kinds.only or (_NOBODY,),
            "without": kinds.without or (_NOBODY,),
        }

    @property
    def is_narrow(self) -> bool:
        """Whether only one shard is asked for."""
        return len(self._shards) == 1

    # --- looking -------------------------------------------------------------------------------

    def peek(self, db: Session, limit: int) -> list[Due]:
        """Return the soonest of these rows.

        In one statement where there are few; where there are more than the limit, each shard is
        read only up to the last due time that can still be among the soonest.
        """
        if limit <= 0 or not self._shards:
            return []
        some = limit if len(self._shards) == 1 else limit + 1
        found = db.column(self._text("peek", shards=self._shards, high=self._high, limit=some))
        if len(found) <= limit:
            return _soonest(found, limit)
        soonest: list[Due] = []
        high = self._high
        for start in range(0, len(self._shards), _SHARDS_AT_ONCE):
            found = db.column(
                " UNION ALL ".join(
                    f"({self._text('peek_shard', shard=shard, high=high, limit=limit)})"
                    for shard in self._shards[start : start + _SHARDS_AT_ONCE]
                )
            )
            soonest = sorted([*soonest, *_soonest(found, limit)], key=itemgetter(DUE_AT))[:limit]
            high = soonest[-1].due_at if len(soonest) == limit else high
        return soonest

    def count(self, db: Session, limit: int) -> int:
        """Return how many rows may be claimed, counting no further than `limit`."""
        text = self._text("claim_count", shards=self._shards, high=self._high, limit=limit)
        return int(db.rows(text)[0][0])

    # --- claiming ------------------------------------------------------------------------------

    def claim(self, db: Session, limit: int, *, fits: bool, repeated: bool) -> list[Row]:
        """Claim up to `limit` rows inside a transaction and return them by due time.

        With `fits`, one statement may take what there is. A number that is asked for again may
        bear rows anywhere in the range, so the whole range is read.
        """
        rows: list[Row] = []
        for shards in [self._shards] if fits else [(shard,) for shard in self._shards]:
            if len(rows) < limit:
                rows += self._take(db, shards, limit - len(rows))
        if repeated:
            rows = self._claimed(db, _Part(self._shards, self._high, _LAST_TAIL))
        rows.sort()
        return rows

    def _take(self, db: Session, shards: tuple[int, ...], limit: int) -> list[Row]:
        """Pick and mark rows of these shards, at most `limit`; several only if all of them fit."""
        text = self._text("claim_pick", shards=shards, high=self._high, limit=limit)
        picked = db.column(text if db.skips_locked else text.replace(" SKIP LOCKED", ""))
        _, *seen = picked.pop().split(_SEPARATOR)
        if not picked:
            return []
        rows = self._parsed(picked) or self._read(db, picked)
        part = _Part(shards, self._high, _LAST_TAIL)
        if len(shards) == 1 and len(picked) == limit:
            part = _Part(shards, rows[-1][DUE_AT], rows[-1][TAIL])
        if [len(rows), sum(row[TAIL] for row in rows)] == list(map(int, seen)):
            marked = db.execute(self._text("claim", **_bounds(part)))
        else:
            marked = self._claim_around(db, part, rows)
        if marked > limit:
            raise BusyError
        return rows if marked == len(rows) else self._claimed(db, part)

    def _claim_around(self, db: Session, part: _Part, rows: list[Row]) -> int:
        """Mark the range without the rows that somebody else holds, or that came after the pick."""
        seen = db.rows(self._text("claim_places", **_bounds(part)))
        mine = {(row[SHARD], row[DUE_AT], row[TAIL]) for row in rows}
        held = sorted(place for place in seen if place not in mine)
        if not held:
            return db.execute(self._text("claim", **_bounds(part)))
        if len(held) > _MOST_HELD:
            return sum(self._claim_one(db, place) for place in sorted(mine))
        return db.execute(self._text("claim_around", held=places(held), **_bounds(part)))

    def _claim_one(self, db: Session, place: tuple[int, int, int]) -> int:
        """Mark one row that was picked."""
        shard, due_at, tail = place
        text = render(
            self._sql["claim_one"], shard=shard, due_at=due_at, tail=tail, number=self._number
        )
        return db.execute(text)

    def _claimed(self, db: Session, part: _Part) -> list[Row]:
        text = self._text("claimed", shards=part.shards, high=part.high)
        return [row_of(columns) for columns in db.rows(text)]

    def _read(self, db: Session, picked: list[bytes]) -> list[Row]:
        """Return picked rows by their places: a payload of theirs holds the separator."""
        found: list[Row] = []
        for start in range(0, len(picked), MOST):
            heads = (data.split(_SEPARATOR, 3) for data in picked[start : start + MOST])
            some = [(int(shard), int(due_at), int(tail)) for due_at, tail, shard, _ in heads]
            rows = map(row_of, db.rows(render(self._sql["read_at"], places=places(some))))
            found += [(*row[:6], row[6] + 1, *row[7:9], self._number, *row[10:]) for row in rows]
        return sorted(found, key=itemgetter(SHARD, DUE_AT, TAIL))

    def _parsed(self, picked: list[bytes]) -> list[Row]:
        """Return picked rows as they are once marked; nothing if a separator is in the way."""
        fields = b"".join(picked).split(_SEPARATOR)
        if len(fields) != len(picked) * _FIELDS + 1:
            return []
        del fields[-1]
        columns = [fields[start::_FIELDS] for start in range(_FIELDS)]
        due_at, tail, shard, names, kinds, payloads, attempts = columns[:7]
        failures, crashes, created, histories = columns[7:]
        rows = zip(
            map(int, due_at),
            map(int, tail),
            map(int, shard),
            [name.decode() if name else None for name in names],
            map(_kinds.__getitem__, kinds),
            payloads,
            [int(attempt) + 1 for attempt in attempts],
            map(int, failures),
            map(int, crashes),
            [self._number] * len(picked),
            map(int, created),
            [history[1:] if history else None for history in histories],
            strict=True,
        )
        return cast(list[Row], list(rows))

    # --- statements ----------------------------------------------------------------------------

    def _text(self, name: str, **bounds: Value) -> str:
        return render(self._sql[name], **self._fixed, **bounds)


def _bounds(part: _Part) -> dict[str, Value]:
    return {"shards": part.shards, "high": part.high, "tail": part.tail}


def _soonest(found: list[bytes], limit: int) -> list[Due]:
    """Return what `peek` read, in order."""
    pairs = (each.split(_SEPARATOR, 1) for each in found)
    return sorted((Due(int(at), _kinds[kind]) for at, kind in pairs), key=itemgetter(0))[:limit]

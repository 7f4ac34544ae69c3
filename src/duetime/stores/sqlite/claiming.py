"""Claims by range: never more rows than the limit, and one statement wherever all of them fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from duetime.event import DUE_AT, Row
from duetime.stores.contract import Due, Kinds, owner_of
from duetime.stores.sqlite.driver import Connection

__all__ = ["Latest", "Wanted", "listed"]


_due_at = itemgetter(DUE_AT)


def listed(values: Sequence[int] | Sequence[str]) -> str:
    """Return values as a JSON list for `json_each`."""
    return json.dumps(list(values))


class Latest:
    """The latest claim number of each node, and whether that claim took as much as it might.

    The number tells whether a claim is asked for again. After a full claim there most likely is
    more: counting first would only be work, and one more wait for the interpreter.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._full: dict[int, bool] = {}

    def seen(self, number: int) -> bool:
        """Note a number; tell whether it or a later one of its node was noted before."""
        node = owner_of(number)
        latest = self._numbers.get(node, 0)
        self._numbers[node] = max(number, latest)
        return number <= latest

    def was_full(self, number: int) -> bool:
        """Tell whether the claim before of the node of this number was full."""
        return self._full.get(owner_of(number), False)

    def ended(self, number: int, *, full: bool) -> None:
        """Note whether a claim was full."""
        self._full[owner_of(number)] = full


class Wanted:
    """What one call of `claim` asks for."""

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
        """Choose the statements with or without kinds, and make their parameters."""
        self._sql = sql
        self._number = number
        self._shards = shards
        self._low, self._high = low, high
        self._crashes = crashes
        self._suffix = ""
        self._kinds: tuple[str | None, ...] = ()
        if kinds.only is not None or kinds.without:
            only = None if kinds.only is None else listed(kinds.only)
            self._suffix, self._kinds = "_kinds", (only, listed(kinds.without))

    def count(self, db: Connection, limit: int) -> int:
        """Return how many rows may be claimed, counting no further than `limit`."""
        asked = self._asked("claim_count", listed(self._shards), self._high, limit)
        found = db.first(*asked)
        return int(found[0]) if found else 0

    def peek(self, db: Connection, limit: int) -> list[Due]:
        """Return the soonest of these rows.

        One statement where the limit takes them all, as it does whenever a node idles or keeps
        up. Else each shard is read only as far as it can still hold one of the soonest.
        """
        if limit <= 0:
            return []
        some = self._asked("peek_shards", listed(self._shards), self._high, limit + 1)
        soonest = db.rows(*some)
        if len(soonest) > limit:
            soonest = []
            high = self._high
            for shard in self._shards:
                soonest += db.rows(*self._asked("peek", shard, high, limit))
                soonest.sort(key=_due_at)
                if len(soonest) >= limit:
                    del soonest[limit:]
                    high = soonest[-1][0]
        return list(map(Due._make, sorted(soonest, key=_due_at)))

    def mark(
        self, db: Connection, limit: int, *, repeated: bool, more: bool
    ) -> list[tuple[str, int]]:
        """Claim up to `limit` rows; return where they lie: shards, and up to which due time.

        A number that is asked for again may bear rows anywhere in the range; a new one has rows
        only where they were just claimed. `more` says that more than the limit is expected.
        """
        # Of one shard the boundary tells the same as a count, for a third of its time.
        counts = len(self._shards) > 1 and not more
        if counts and 0 < self.count(db, limit + 1) <= limit:
            db.change(*self._asked("claim", listed(self._shards), self._high, self._number))
            return [(listed(self._shards), self._high)]
        parts = self._by_shard(db, limit)
        return [(listed(self._shards), self._high)] if repeated else parts

    def read(self, db: Connection, parts: list[tuple[str, int]]) -> list[Row]:
        """Return the rows that bear the number, by due time."""
        rows: list[Row] = []
        for shards, high in parts:
            rows += db.rows(self._sql["claimed"], (shards, self._low, high, self._number))
        rows.sort()
        return rows

    def _by_shard(self, db: Connection, limit: int) -> list[tuple[str, int]]:
        """Fill the limit shard after shard; return where rows were claimed, up to which time."""
        parts = []
        left = limit
        for shard in self._shards:
            if left <= 0:
                break
            boundary = db.first(*self._asked("claim_boundary", shard, self._high, left))
            if boundary is None:
                high = self._high
                asked = self._asked("claim", listed([shard]), high, self._number)
            else:
                high, tail = boundary
                asked = self._asked("claim_until", shard, high, self._number, tail)
            left -= db.change(*asked)
            parts.append((listed([shard]), high))
        return parts

    def _asked(
        self, name: str, shards: str | int, high: int, number: int, *tail: int
    ) -> tuple[str, tuple[Any, ...]]:
        """Return a statement of the claim family, which number their parameters alike."""
        bounds = (shards, self._low, high, *self._crashes, number)
        return self._sql[name + self._suffix], (*bounds, *self._kinds, *tail)

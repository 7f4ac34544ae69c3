"""Claims: one statement that picks, locks and marks, and never waits for somebody else's row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from duetime.event import Row
from duetime.stores.contract import Due, Kinds, owner_of
from duetime.stores.postgres.arrays import smallints, texts
from duetime.stores.postgres.reading import Statements
from duetime.stores.postgres.session import Session

__all__ = ["Latest", "Wanted"]


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


class Wanted:
    """What one call of `claim` or `peek` asks for."""

    def __init__(
        self,
        sql: Statements,
        number: int,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds,
        crashes: tuple[int, int] = (0, 0),
    ) -> None:
        """Make the parameters that the statements share."""
        self._sql = sql
        self._parameters: dict[str, Any] = {
            "number": number,
            "shards": smallints(shards),
            "low": low,
            "high": high,
            "limit": limit,
            "only": None if kinds.only is None else texts(kinds.only),
            "without": texts(kinds.without),
            "least": crashes[0],
            "most": crashes[1],
        }

    def peek(self, db: Session) -> list[Due]:
        """Return the soonest of these rows."""
        return [Due(*due) for due in db.rows(self._sql["peek"], self._parameters)]

    def claim(self, db: Session) -> list[Row]:
        """Claim these rows and return them by due time."""
        statement = self._sql["claim" if db.has_ctid else "claim_by_key"]
        return sorted(cast(list[Row], db.changed(statement, self._parameters)))

    def claimed(self, db: Session) -> list[Row]:
        """Return all rows that bear the number, whichever call has claimed them."""
        return sorted(cast(list[Row], db.rows(self._sql["claimed"], self._parameters)))

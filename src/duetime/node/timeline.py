"""The claimed events that a node holds, soonest first."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort

from duetime.event import DUE_AT, Row

__all__ = ["Timeline"]

# Up to here inserting one by one beats sorting: each insertion moves pointers in C, while a sort
# compares every neighbour once even if the list is in order.
_FEW = 64


class Timeline:
    """A sorted list with a moving head: adding, taking and peeking are mostly C."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._head = 0

    def add(self, rows: list[Row]) -> bool:
        """Hold more rows (sorted by due time); return whether the soonest of all is among them."""
        if not rows:
            return False
        with self._lock:
            mine = self._rows
            soonest = self._head >= len(mine) or rows[0] < mine[self._head]
            if self._head >= len(mine) or rows[0] >= mine[-1]:
                mine.extend(rows)
            elif len(rows) <= _FEW:
                for row in rows:
                    insort(mine, row, lo=self._head)
            else:
                mine.extend(rows)
                del mine[: self._head]
                self._head = 0
                mine.sort()
            return soonest

    def take(self, now: int, most: int) -> list[Row]:
        """Let go of at most so many rows due at or before `now` and return them, soonest first."""
        with self._lock:
            end = bisect_left(self._rows, (now + 1,), self._head)
            end = min(end, self._head + most)
            taken = self._rows[self._head : end]
            self._head = end
            if self._head >= len(self._rows):
                self._rows.clear()
                self._head = 0
            elif self._head > 10_000 and self._head * 2 > len(self._rows):
                del self._rows[: self._head]
                self._head = 0
            return taken

    def next(self) -> int | None:
        """Return the soonest due time, or None when nothing is held."""
        with self._lock:
            if self._head < len(self._rows):
                return self._rows[self._head][DUE_AT]
            return None

    def clear(self) -> list[Row]:
        """Let go of everything and return it."""
        with self._lock:
            rows = self._rows[self._head :]
            self._rows = []
            self._head = 0
            return rows

    def __len__(self) -> int:
        """Count the rows held."""
        return len(self._rows) - self._head

"""The claimed events that a node holds, soonest first."""

from __future__ import annotations

import threading
from bisect import bisect_left
from heapq import heappop, heappush, heapreplace

from duetime.event import DUE_AT, Row

__all__ = ["Timeline"]


class Timeline:
    """A heap of claims, each a sorted list of rows of which the first ones were taken already.

    One sorted list of all rows was slower where it matters: merging a claim into 100,000 rows of
    one instant took 10 ms in one step of C, during which nothing else could be fired.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: list[tuple[Row, int, list[Row]]] = []  # the first row held, its index, all
        self._held = 0

    def add(self, rows: list[Row]) -> bool:
        """Hold more rows (sorted by due time); return whether the soonest of all is among them."""
        if not rows:
            return False
        with self._lock:
            soonest = not self._claims or rows[0] < self._claims[0][0]
            heappush(self._claims, (rows[0], 0, rows))
            self._held += len(rows)
            return soonest

    def take(self, now: int, most: int) -> list[Row]:
        """Let go of at most so many rows due at or before `now` and return them, soonest first.

        Where more are due, those of the claims that begin first are taken, claim by claim.
        """
        claims = self._claims
        taken: list[Row] = []
        several = False
        with self._lock:
            while claims and claims[0][0][DUE_AT] <= now and len(taken) < most:
                _, start, rows = claims[0]
                end = bisect_left(rows, (now + 1,), start)
                end = min(end, start + most - len(taken))
                several = several or bool(taken)
                taken += rows[start:end]
                if end < len(rows):
                    heapreplace(claims, (rows[end], end, rows))
                else:
                    heappop(claims)
            self._held -= len(taken)
        if several and len(taken) < most:
            taken.sort()
        return taken

    def next(self) -> int | None:
        """Return the soonest due time, or None when nothing is held."""
        with self._lock:
            return self._claims[0][0][DUE_AT] if self._claims else None

    def clear(self) -> list[Row]:
        """Let go of everything and return it."""
        with self._lock:
            held = sorted(row for _, start, rows in self._claims for row in rows[start:])
            self._claims.clear()
            self._held = 0
            return held

    def __len__(self) -> int:
        """Count the rows held."""
        return self._held

"""What a process counts while it runs: plain integers, added up where the thing happens."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

__all__ = ["Lateness", "Tally"]

_STEPS = 16  # buckets per doubling: a quantile is read within 6 % of its true value
_BUCKETS = 44 * _STEPS
_LAST = _BUCKETS - 1
_ASIDE = 1_000  # values not yet sorted in, about


class Tally(msgspec.Struct):
    """Counters since the process began; each is written by one stage only."""

    scheduled: int = 0  # events stored by this process
    existed: int = 0  # schedules that met an event of the same id
    cancelled: int = 0
    rescheduled: int = 0
    redriven: int = 0
    claimed: int = 0  # rows claimed, those stored as claimed included
    claims: int = 0  # claim statements that took something
    fired: int = 0  # handed to a handler, pulled ones included
    done: int = 0  # settled as done
    retried: int = 0  # settled to run again
    failed: int = 0  # attempts that raised
    dead: int = 0  # settled as given up
    parked: int = 0  # settled as waiting for a node that knows their kind
    given_back: int = 0  # claims released without an attempt
    stale: int = 0  # results refused because the claim was no longer ours
    resent: int = 0  # settlements sent again after a lost answer
    rescued: int = 0  # claims of dead nodes freed
    dropped: int = 0  # held events let go because this node could not beat
    errors: int = 0  # error reports of any level
    saves: int = 0  # store transactions for schedule and cancel


class Lateness:
    """A histogram of fired minus due in µs, with logarithmic buckets.

    Values are put aside when they come and sorted into buckets a thousand at a time, or when
    someone reads: at the instant of a spike every microsecond per event counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aside: list[int] = []
        self._buckets = [0] * _BUCKETS
        self._count = 0
        self._maximum = 0
        self._minimum = 0

    def add(self, values: Sequence[int]) -> None:
        """Count lateness values in µs."""
        with self._lock:
            self._aside.extend(values)
            if len(self._aside) > _ASIDE:
                self._sort_in()

    @property
    def count(self) -> int:
        """How many values were added."""
        with self._lock:
            self._sort_in()
            return self._count

    @property
    def maximum(self) -> int:
        """The largest value in µs; 0 if there is none."""
        with self._lock:
            self._sort_in()
            return self._maximum

    @property
    def minimum(self) -> int:
        """The smallest value in µs; 0 if there is none."""
        with self._lock:
            self._sort_in()
            return self._minimum

    def quantile(self, share: float) -> int:
        """Return the lateness in µs that this share of the events does not exceed; 0 if none."""
        with self._lock:
            self._sort_in()
            rank, seen = share * self._count, 0
            for index, count in enumerate(self._buckets):
                seen += count
                if count and seen >= rank:
                    return min(_upper(index), self._maximum)
            return self._maximum

    def _sort_in(self) -> None:
        values, self._aside = self._aside, []
        if not values:
            return
        values.sort()
        # Most of them are late alike: bucket by bucket takes 10 to 300 ns each, one by one 600.
        start, count = 0, len(values)
        while start < count:
            index = _bucket(values[start])
            end = bisect_right(values, _upper(index), start) if index < _LAST else count
            self._buckets[index] += end - start
            start = end
        self._minimum = min(self._minimum, values[0]) if self._count else values[0]
        self._maximum = max(self._maximum, values[-1])
        self._count += count


def _bucket(value: int) -> int:
    if value < _STEPS:
        return max(value, 0)
    shift = value.bit_length() - 5
    return min(_LAST, (shift + 1) * _STEPS + (value >> shift) - _STEPS)


def _upper(index: int) -> int:
    if index < _STEPS:
        return index
    shift = index // _STEPS - 1
    return ((index % _STEPS + _STEPS + 1) << shift) - 1

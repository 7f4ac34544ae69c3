"""What a process counts while it runs: plain integers, added up where the thing happens."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = ["Lateness", "Tally"]

_STEPS = 16  # buckets per doubling: a quantile is read within 6 % of its true value
_BUCKETS = 44 * _STEPS


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
    """A histogram of fired minus due in µs, with logarithmic buckets."""

    __slots__ = ("_buckets", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0
        self.maximum = 0
        self.minimum = 0

    def add(self, values: Iterable[int]) -> None:
        """Count lateness values in µs."""
        buckets = self._buckets
        top = low = None
        for value in values:
            buckets[_bucket(value)] += 1
            self.count += 1
            self.total += value
            if top is None or value > top:
                top = value
            if low is None or value < low:
                low = value
        if top is not None and low is not None:
            self.minimum = low if self.count == 1 else min(self.minimum, low)
            self.maximum = max(self.maximum, top)

    def quantile(self, share: float) -> int:
        """Return the lateness in µs that this share of the events does not exceed; 0 if none."""
        rank, seen = share * self.count, 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= rank:
                return min(_upper(index), self.maximum)
        return self.maximum

    def copy(self) -> Lateness:
        """Return a copy that no longer changes."""
        twin = Lateness()
        twin._buckets = self._buckets[:]
        twin.count, twin.total = self.count, self.total
        twin.maximum, twin.minimum = self.maximum, self.minimum
        return twin


def _bucket(value: int) -> int:
    if value < _STEPS:
        return max(value, 0)
    shift = value.bit_length() - 5
    return min(_BUCKETS - 1, (shift + 1) * _STEPS + (value >> shift) - _STEPS)


def _upper(index: int) -> int:
    if index < _STEPS:
        return index
    shift = index // _STEPS - 1
    return ((index % _STEPS + _STEPS + 1) << shift) - 1

"""How long to wait before an attempt is made again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from duetime.clock import MICROS
from duetime.inputs import backoff as check_backoff

__all__ = ["Backoff"]


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter: a random time between 0 and a growing bound.

    Full jitter spreads the retries of events that failed together over the whole bound
    (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    retries: int | None = 18  # attempts after the first; None: never give up
    first: float = 1.0  # seconds: the bound before the first retry
    factor: float = 2.0  # by how much the bound grows with each failure
    maximum: float = 600.0  # seconds: the largest bound
    jitter: bool = True  # False waits for exactly the bound

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense: InvalidInput `backoff_range`, `retries_range`."""
        check_backoff(self.retries, self.first, self.factor, self.maximum)

    def exhausted(self, failures: int) -> bool:
        """Tell whether an event with so many failed attempts is to be given up."""
        return self.retries is not None and failures > self.retries

    def delay(self, failures: int, random: Callable[[], float]) -> int:
        """Return the µs to wait after the `failures`-th failure; `random` gives [0, 1)."""
        try:
            bound = min(self.maximum, self.first * self.factor ** max(0, failures - 1))
        except OverflowError:
            bound = self.maximum
        return int(bound * (random() if self.jitter else 1.0) * MICROS)

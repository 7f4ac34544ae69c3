"""Adds up the figures of each period and tells the observers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from duetime.clock import MICROS
from duetime.node.lanes import Lanes
from duetime.node.settler import Settler
from duetime.node.timeline import Timeline
from duetime.observer import Observers, Statistics
from duetime.tally import Lateness, Tally

__all__ = ["Reporter"]


class Reporter:
    """The stage that reports every `every` µs (0: never)."""

    wake: Callable[[], None]

    def __init__(
        self,
        lanes: Lanes,
        timeline: Timeline,
        settler: Settler,
        observers: Observers,
        tally: Tally,
        lateness: Lateness,
        every: int,
    ) -> None:
        self._lanes = lanes
        self._timeline = timeline
        self._settler = settler
        self._observers = observers
        self._tally = tally
        self._lateness = lateness
        self._every = every
        self._last = msgspec.structs.replace(tally)
        self._last_at = 0
        self.wake = lambda: None

    def step(self, now: int) -> int | None:
        """Report if a period is over; return when the next one ends."""
        if not self._every:
            self._last_at = self._last_at or now  # figures asked for count from here
            return None
        if self._last_at:
            self._observers.statistics(self.figures(now))
        self._last = msgspec.structs.replace(self._tally)
        self._last_at = now
        return now + self._every

    def figures(self, now: int, waiting: int | None = None) -> Statistics:
        """Return the figures since the last report."""
        tally = msgspec.structs.replace(self._tally)
        seconds = max(now - self._last_at, 1) / MICROS

        def rate(name: str) -> float:
            return float(getattr(tally, name) - getattr(self._last, name)) / seconds

        lateness = self._lateness
        return Statistics(
            at=now,
            waiting=waiting,
            creating_rate=rate("scheduled"),
            cancelling_rate=rate("cancelled"),
            firing_rate=rate("fired"),
            held=len(self._timeline),
            claiming_rate=rate("claimed"),
            queued=self._lanes.queued(),
            settling=self._settler.waiting(),
            settling_rate=rate("done") + rate("retried") + rate("dead"),
            lateness_p50=lateness.quantile(0.5),
            lateness_p99=lateness.quantile(0.99),
            lateness_max=lateness.maximum,
            tally=tally,
        )

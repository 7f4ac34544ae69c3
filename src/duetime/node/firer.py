"""Takes events off the timeline the moment they are due and hands them to the runner."""

from __future__ import annotations

from collections.abc import Callable

from duetime.clock import MICROS, StoreClock
from duetime.node.fence import Fence
from duetime.node.runner import Runner
from duetime.node.timeline import Timeline

__all__ = ["Firer"]

_FENCED_PAUSE = MICROS // 20
# Of many events at one instant the first ones run while the others are still being handed over:
# 100,000 handed over at once made the first 25 ms late.
_AT_ONCE = 4096


class Firer:
    """The stage whose punctuality is the product: it sleeps until the soonest due time."""

    wake: Callable[[], None]

    def __init__(self, timeline: Timeline, runner: Runner, fence: Fence, clock: StoreClock) -> None:
        self._timeline = timeline
        self._runner = runner
        self._fence = fence
        self._clock = clock
        self.stopped = False
        self.wake = lambda: None

    def step(self, now: int) -> int | None:
        """Hand over what is due at `now`; return the next due time."""
        if self.stopped:
            return None
        if not self._fence.is_open(self._clock.boot()):
            return now + _FENCED_PAUSE
        rows = self._timeline.take(now, _AT_ONCE)
        if rows:
            self._runner.hand(rows, now)
        tend = self._runner.tend(now)
        due = self._timeline.next()
        if tend is None or (due is not None and due < tend):
            return due
        return tend

"""How each destination fares: its limit, its line and its circuit. Pure: time is passed in.

A destination (scheme, host, port) that nobody has heard from may have a few calls at once; each
good answer allows one more, up to the limit, and each bad one halves them. So a silent receiver
holds few of the node's slots, and one that comes back is not run over. When several calls in a row
have failed, the circuit opens: nothing is sent but, after a pause, one probe at a time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from duetime.clock import MICROS
from duetime.webhook.policy import Limits

__all__ = ["Destination", "Destinations", "Held"]

T = TypeVar("T")
_FIRST = 4  # calls at once to a destination of which nothing is known
_MOST = 10_000  # destinations that are remembered
_WEIGHT = 0.2  # of the newest answer in the pace
_LONGEST_WAIT = 600 * MICROS  # µs: until a call that found no room comes again, at most


class Held(NamedTuple):
    """Not now."""

    is_open: bool  # the circuit is open; else there was no room
    wait: int  # µs: not sooner than after this


class Destination(Generic[T]):
    """What is known of one destination."""

    __slots__ = (
        "failures",
        "horizon",
        "in_flight",
        "line",
        "moved_at",
        "open_until",
        "origin",
        "pace",
        "pause",
        "probing",
        "window",
    )

    def __init__(self, origin: str, window: int) -> None:
        self.origin = origin
        self.in_flight = 0
        self.window = window  # calls at once, at the moment
        self.line: deque[tuple[int, T]] = deque()  # (since when, who) waits for a turn
        self.failures = 0  # in a row
        self.open_until: int | None = None  # µs of the boot clock; None: the circuit is closed
        self.pause = 0.0  # seconds: how long the circuit was opened for
        self.probing = False
        self.pace = 0.0  # µs per answer, smoothed
        self.moved_at = 0  # when a call last came to its end, or began while none ran
        self.horizon = 0  # until when the calls that were sent away take to be through

    def is_idle(self) -> bool:
        """Tell whether it may be forgotten: a circuit that is lost costs a few calls."""
        return not self.in_flight and not self.line


class Destinations(Generic[T]):
    """All destinations; used by one thread."""

    def __init__(self, limits: Limits, random: Callable[[], float]) -> None:
        self._limits = limits
        self._random = random
        self._patience = int(limits.patience * MICROS)
        self._by_origin: OrderedDict[str, Destination[T]] = OrderedDict()
        self._waiting: dict[str, Destination[T]] = {}  # those with a line

    def get(self, origin: str) -> Destination[T]:
        """Return what is known of a destination."""
        found = self._by_origin.get(origin)
        if found is None:
            found = self._by_origin[origin] = Destination(origin, min(_FIRST, self._limits.at_once))
            self._forget()
        self._by_origin.move_to_end(origin)
        return found

    def enter(self, place: Destination[T], who: T, now: int) -> bool | Held:
        """Tell whether a call may begin: yes; no, it waits in line; or it is sent away."""
        if place.open_until is not None:
            return self._probe(place, now)
        if place.in_flight < place.window:
            self._begin(place, now)
            return True
        pace = max(place.pace, float(now - place.moved_at))
        if (len(place.line) + 1) * pace / place.window > self._patience:
            return self._send_away(place, now, pace)
        place.line.append((now, who))
        self._waiting[place.origin] = place
        return False

    def leave(
        self, place: Destination[T], now: int, took: int, *, well: bool, asked: int = 0
    ) -> bool | None:
        """Note that a call ended. `asked`: µs for which the receiver wants to be left alone.

        Returns True when the circuit opened by it, False when it closed, None otherwise.
        """
        place.in_flight -= 1
        place.moved_at = now
        place.pace = took if place.pace == 0.0 else place.pace + _WEIGHT * (took - place.pace)
        was_open, probe = place.open_until is not None, place.probing
        if well:
            place.failures = 0
            place.window = min(self._limits.at_once, place.window + 1)
            if not was_open:
                return None
            place.open_until, place.probing, place.pause = None, False, 0.0
            return False
        place.failures += 1
        place.window = max(1, place.window // 2)
        if was_open and not probe:
            return None  # one of those that were under way when it opened
        if not was_open and place.failures < self._limits.failures:
            return None
        self._open(place, now, asked)
        return None if was_open else True

    def release(self, place: Destination[T]) -> None:
        """Note that a call was given up by its caller: it tells nothing of the receiver."""
        place.in_flight -= 1
        if place.in_flight == 0:
            place.probing = False

    def next_in_line(self, place: Destination[T], now: int) -> T | None:
        """Return who may begin now, or None."""
        if not place.line or place.open_until is not None or place.in_flight >= place.window:
            return None
        _, who = place.line.popleft()
        if not place.line:
            self._waiting.pop(place.origin, None)
        self._begin(place, now)
        return who

    def sent_away(self, now: int) -> list[tuple[T, Held]]:
        """Return those who have waited in line for too long, or whose circuit has opened."""
        found = []
        for place in list(self._waiting.values()):
            while place.line and (
                place.open_until is not None or now - place.line[0][0] >= self._patience
            ):
                _, who = place.line.popleft()
                if place.open_until is None:
                    pace = max(place.pace, float(now - place.moved_at))
                    found.append((who, self._send_away(place, now, pace)))
                else:
                    found.append((who, self._closed_until(place, now)))
            if not place.line:
                del self._waiting[place.origin]
        return found

    def look_again(self, now: int) -> int | None:
        """Return in how many µs `sent_away` may find somebody, or None."""
        if not self._waiting:
            return None
        oldest = min(place.line[0][0] for place in self._waiting.values())
        return max(0, oldest + self._patience - now)

    def open_circuits(self) -> list[str]:
        """Return the destinations that are left alone."""
        return [d.origin for d in self._by_origin.values() if d.open_until is not None]

    def _begin(self, place: Destination[T], now: int) -> None:
        if place.in_flight == 0:
            place.moved_at = now
        place.in_flight += 1

    def _probe(self, place: Destination[T], now: int) -> bool | Held:
        assert place.open_until is not None
        # Those that were under way when it opened are waited for: they tell as much as a probe.
        if now < place.open_until or place.probing or place.in_flight:
            return self._closed_until(place, now)
        place.probing = True
        self._begin(place, now)
        return True

    def _closed_until(self, place: Destination[T], now: int) -> Held:
        """Send away until a time after the probe, spread over a pause."""
        assert place.open_until is not None
        pause = place.pause * MICROS
        return Held(True, int(max(0, place.open_until - now) + pause * self._random()))

    def _open(self, place: Destination[T], now: int, asked: int) -> None:
        limits = self._limits
        place.pause = min(limits.longest_pause, 2 * place.pause if place.pause else limits.pause)
        # Jittered, so that nodes that lost the same receiver do not probe it together.
        micros = place.pause * MICROS * (0.75 + 0.5 * self._random())
        asked = min(asked, int(limits.longest_pause * MICROS))
        place.open_until = now + max(int(micros), asked)
        place.probing = False
        place.window = 1

    def _send_away(self, place: Destination[T], now: int, pace: float) -> Held:
        """Tell one that found no room to come when those sent away before it are through."""
        # One that is well soon has its whole limit: too early costs another claim, too late idles.
        share = max(1, int(pace / (place.window if place.failures else self._limits.at_once)))
        place.horizon = max(place.horizon, now + self._patience) + share
        wait = min(_LONGEST_WAIT, place.horizon - now)
        return Held(False, int(wait * (1 + 0.25 * self._random())))

    def _forget(self) -> None:
        """Let go of the longest unused that hold nothing, beyond the number remembered."""
        for _ in range(min(16, len(self._by_origin) - _MOST)):
            origin, place = next(iter(self._by_origin.items()))
            if place.is_idle():
                del self._by_origin[origin]
            else:
                self._by_origin.move_to_end(origin)

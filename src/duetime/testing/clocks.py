"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from duetime.clock import MICROS, from_micros, to_micros

__all__ = ["FakeClock"]

_START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """A boot clock and a wall clock for tests; only `advance` and `set_wall` move them."""

    def __init__(self, start: datetime = _START, boot: int = 1000 * MICROS) -> None:
        """Begin with the wall clock at an aware datetime and the boot clock at so many µs."""
        self._wall = to_micros(start)
        self._boot = boot

    def boot(self) -> int:
        """Return the boot clock in µs."""
        return self._boot

    def wall(self) -> int:
        """Return the wall clock in µs since 1970 UTC."""
        return self._wall

    def now(self) -> datetime:
        """Return the wall clock as an aware datetime."""
        return from_micros(self._wall)

    def advance(self, by: timedelta | int) -> None:
        """Let time pass on both clocks: a timedelta, or µs. It never runs backwards."""
        micros = by // timedelta(microseconds=1) if isinstance(by, timedelta) else by
        if micros < 0:
            raise ValueError("Time does not run backwards; set_wall() steps the wall clock alone.")
        self._boot += micros
        self._wall += micros

    def set_wall(self, moment: datetime) -> None:
        """Step the wall clock alone, as an operator or a time server does."""
        self._wall = to_micros(moment)

"""The only module that knows the time: instants are µs since 1970 UTC, durations µs.

Durations are measured on the boot clock, which runs on while the machine sleeps and never steps.
Instants are the store's: its clock is measured once per beat as an offset to the boot clock.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["MICROS", "Clock", "StoreClock", "SystemClock", "from_micros", "to_micros"]

MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What a machine knows of time, in µs."""

    def boot(self) -> int:
        """Return µs since some fixed moment; it never steps, and runs on during suspend."""

    def wall(self) -> int:
        """Return this machine's idea of µs since 1970 UTC; it may step."""


class SystemClock:
    """The clock of the operating system."""

    def boot(self) -> int:
        """Return the boot clock in µs (Linux CLOCK_BOOTTIME, elsewhere the monotonic clock)."""
        return time.clock_gettime_ns(_BOOT) // 1000

    def wall(self) -> int:
        """Return the wall clock in µs since 1970 UTC."""
        return time.time_ns() // 1000

    def sleep(self, micros: int) -> None:
        """Let this thread wait for so many µs, or a little longer."""
        time.sleep(micros / MICROS)


class StoreClock:
    """The store's time, carried forward on the boot clock between two measurements."""

    __slots__ = ("boot", "offset")

    def __init__(self, clock: Clock, offset: int = 0) -> None:
        self.boot = clock.boot  # the boot clock in µs, itself: asked for once per event
        self.offset = offset

    def now(self) -> int:
        """Return the store's time in µs since 1970 UTC."""
        return self.boot() + self.offset

    def measure(self, store_now: int, sent: int, received: int) -> int:
        """Correct the offset by one answer of the store, asked and heard at these boot times.

        Returns by how much (µs) this clock moved: a lot, where the store's clock was set.
        The store read its clock somewhere between the two. An offset that fits this window stays
        (so that a slow answer does not make the clock wobble); otherwise the earliest that fits
        is taken, so that this clock never runs ahead of the store's and nothing fires early.
        """
        earliest, latest = store_now - received, store_now - sent
        before = self.offset
        if not earliest <= before <= latest:
            self.offset = earliest
        return self.offset - before


def to_micros(moment: datetime) -> int:
    """Return an aware datetime as µs since 1970 UTC (exact: datetimes hold whole µs)."""
    return (moment - _EPOCH) // _MICRO


def from_micros(micros: int) -> datetime:
    """Return µs since 1970 UTC as an aware datetime in UTC.

    What is before year 1 or after 9999 (a corrupt row) is shown as the first or last moment.
    """
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return _FIRST if micros < 0 else _LAST

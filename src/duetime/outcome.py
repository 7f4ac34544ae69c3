"""What came of an attempt: Done, Retry or Dead."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

__all__ = ["UNCHANGED", "Dead", "Done", "Outcome", "Retry"]

UNCHANGED: Any = msgspec.UNSET


class Done(msgspec.Struct, frozen=True):
    """It is done: the event leaves the table. Returning None means the same."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Again: at a time, after a delay, or (with neither) by the kind's backoff.

    It counts against the kind's retries, unless `counted` is false: for what was not even tried,
    because what it needs was busy. `payload`, where given, replaces the event's payload; `error`
    is a text for the history (without it, one that is not counted leaves no entry there).
    """

    at: datetime | None = None
    after: timedelta | float | None = None  # timedelta, or seconds
    payload: Any = UNCHANGED
    error: str | None = None
    counted: bool = True


class Dead(msgspec.Struct, frozen=True):
    """Given up: the event is kept among the dead with this reason, and can be redriven."""

    reason: str = "the handler gave it up"


Outcome = Done | Retry | Dead

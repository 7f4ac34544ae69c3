"""Duetime: fire this event at time T, from your own database, to the millisecond, for certain."""

import typing

from duetime.clock import Clock, SystemClock
from duetime.config import Settings
from duetime.errors import (
    AnswerLost,
    ConfigError,
    CorruptPayload,
    DuetimeError,
    InvalidInput,
    LifecycleError,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)
from duetime.event import Event, State
from duetime.observer import ErrorReport, Level, LogObserver, Observer, Statistics
from duetime.outcome import Dead, Done, Outcome, Retry
from duetime.pull import Claim, Claims
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.contract import Answer, Counts, Member, Store

if typing.TYPE_CHECKING:
    from duetime.aio import AsyncScheduler

__all__ = [
    "Answer",
    "AnswerLost",
    "AsyncScheduler",
    "Backoff",
    "Claim",
    "Claims",
    "Clock",
    "ConfigError",
    "CorruptPayload",
    "Counts",
    "Dead",
    "Done",
    "DuetimeError",
    "ErrorReport",
    "Event",
    "InvalidInput",
    "Level",
    "LifecycleError",
    "LogObserver",
    "Member",
    "Observer",
    "Outcome",
    "Retry",
    "Scheduler",
    "SchemaError",
    "Settings",
    "State",
    "Statistics",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StoreUnsupported",
    "SystemClock",
]


def __getattr__(name: str) -> type:
    """Import AsyncScheduler when it is first used: asyncio takes as long as all the rest."""
    if name != "AsyncScheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from duetime.aio import AsyncScheduler  # noqa: PLC0415 - see above

    globals()[name] = AsyncScheduler
    return AsyncScheduler


def __dir__() -> list[str]:
    """Return the public names, whether they were used already or not."""
    return sorted({*globals(), *__all__})

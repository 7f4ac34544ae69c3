"""Duetime: fire this event at time T, from your own database, to the millisecond, for certain."""

from duetime.aio import AsyncScheduler
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

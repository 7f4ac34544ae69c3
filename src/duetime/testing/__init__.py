"""What Duetime's own tests are built on, shipped for yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duetime.testing.clocks import FakeClock
from duetime.testing.faulty_store import Fault, FaultyStore, Fortune
from duetime.testing.manual import ManualScheduler

if TYPE_CHECKING:
    from duetime.testing.store_suite import StoreSuite, WithinSuite

__all__ = [
    "FakeClock",
    "Fault",
    "FaultyStore",
    "Fortune",
    "ManualScheduler",
    "StoreSuite",
    "WithinSuite",
]


def __getattr__(name: str) -> Any:
    """Import the suites when they are asked for: they alone need pytest."""
    if name in ("StoreSuite", "WithinSuite"):
        from duetime.testing import store_suite  # noqa: PLC0415 - needs pytest

        return getattr(store_suite, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

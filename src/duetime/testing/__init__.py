"""What Duetime's own tests are built on, shipped for yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duetime.testing.clocks import FakeClock
from duetime.testing.faulty_store import Fault, FaultyStore, Fortune
from duetime.testing.manual import ManualScheduler

if TYPE_CHECKING:
    from duetime.testing.store_suite import StoreSuite

__all__ = ["FakeClock", "Fault", "FaultyStore", "Fortune", "ManualScheduler", "StoreSuite"]


def __getattr__(name: str) -> Any:
    """Import the suite when it is asked for: it alone needs pytest."""
    if name == "StoreSuite":
        from duetime.testing.store_suite import StoreSuite  # noqa: PLC0415 - needs pytest

        return StoreSuite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The list of benchmarks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import (
    cancel,
    create,
    drain,
    growth,
    handover,
    imports,
    lateness,
    spike,
    waiting,
)
from benchmarks.stand import Stand

__all__ = ["BENCHMARKS", "ON_DEMAND"]

BENCHMARKS: dict[str, Callable[[Stand], None]] = {
    "create": create.run,
    "drain": drain.run,
    "lateness": lateness.run,
    "spike": spike.run,
    "cancel": cancel.run,
    "waiting": waiting.run,
    "growth": growth.run,
    "handover": handover.run,
    "imports": imports.run,
}

# What takes too long for an ordinary run: filling tables with millions of events.
ON_DEMAND = {"growth"}

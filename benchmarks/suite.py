"""The list of benchmarks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import cancel, drain, handover, imports, lateness, schedule, spike, waiting
from benchmarks.stand import Stand

__all__ = ["BENCHMARKS"]

BENCHMARKS: dict[str, Callable[[Stand], None]] = {
    "lateness": lateness.run,
    "schedule": schedule.run,
    "drain": drain.run,
    "spike": spike.run,
    "cancel": cancel.run,
    "handover": handover.run,
    "waiting": waiting.run,
    "imports": imports.run,
}

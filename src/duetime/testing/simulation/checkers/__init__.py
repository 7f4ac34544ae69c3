"""One checker per promise; each knows only what the oracle saw, never what a node believes."""

from __future__ import annotations

from duetime.testing.simulation.checkers.answers import Answers, Counters, Duplicates, NothingLost
from duetime.testing.simulation.checkers.claims import (
    Fenced,
    Idling,
    LegalMoves,
    NeverEarly,
    NotLate,
    OneClaim,
)
from duetime.testing.simulation.checkers.nodes import Beating, Deaths, Memory
from duetime.testing.simulation.checkers.outcomes import Attempts, Payloads, StaleResults
from duetime.testing.simulation.oracle import Checker

__all__ = ["CHECKERS"]

CHECKERS: tuple[type[Checker], ...] = (
    LegalMoves,
    NeverEarly,
    NotLate,
    OneClaim,
    Idling,
    Payloads,
    Fenced,
    StaleResults,
    Deaths,
    Beating,
    Answers,
    Attempts,
    NothingLost,
    Duplicates,
    Counters,
    Memory,
)

"""A store whose calls fail on a plan: refused, or their answers lost before or after the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from duetime.errors import AnswerLost, StoreUnavailable
from duetime.event import Event, Row
from duetime.stores.contract import (
    ALL_KINDS,
    Answer,
    Changes,
    Counts,
    Due,
    Filter,
    Finding,
    Kinds,
    Roll,
    Settled,
    Settlement,
    Store,
)

__all__ = ["Fault", "FaultyStore", "Fortune"]

T = TypeVar("T")


class Fault(StrEnum):
    """What goes wrong with one call."""

    NONE = "none"
    REFUSED = "refused"  # StoreUnavailable: it surely did not happen
    LOST_BEFORE = "lost_before"  # AnswerLost, and it did not happen
    LOST_AFTER = "lost_after"  # AnswerLost, and it did happen


class Fortune(NamedTuple):
    """What befalls one call: a fault, and how long it takes (µs; nobody sleeps here)."""

    fault: Fault = Fault.NONE
    delay: int = 0


class FaultyStore:
    """Another store behind a bad connection.

    `plan(call)` is asked before each call, with the method's name, what befalls it; `on_delay`
    is told of its delay, so that a simulation can move its clock. Reads have no answer to lose:
    where the plan loses one, they are refused. `migrate`, `check` and `close` never fail.
    """

    def __init__(
        self,
        inner: Store,
        plan: Callable[[str], Fortune],
        on_delay: Callable[[int], None] | None = None,
    ) -> None:
        """Wrap a store."""
        self.inner = inner
        self.shards = inner.shards
        self._plan = plan
        self._on_delay = on_delay

    def _change(self, call: str, apply: Callable[[], T]) -> T:
        """Make a change, or fail as planned."""
        fault = self._meet(call)
        if fault is Fault.REFUSED:
            raise StoreUnavailable(f"{call} was refused on purpose.")
        if fault is Fault.LOST_BEFORE:
            raise AnswerLost(f"The answer to {call} was lost on purpose.")
        answer = apply()
        if fault is Fault.LOST_AFTER:
            raise AnswerLost(f"The answer to {call} was lost on purpose.")
        return answer

    def _read(self, call: str, ask: Callable[[], T]) -> T:
        """Read, or fail as planned."""
        if self._meet(call) is not Fault.NONE:
            raise StoreUnavailable(f"{call} was refused on purpose.")
        return ask()

    def _meet(self, call: str) -> Fault:
        fortune = self._plan(call)
        if fortune.delay and self._on_delay is not None:
            self._on_delay(fortune.delay)
        return fortune.fault

    def migrate(self) -> list[str]:
        """Pass on."""
        steps = self.inner.migrate()
        self.shards = self.inner.shards
        return steps

    def check(self) -> list[Finding]:
        """Pass on."""
        return self.inner.check()

    def time(self) -> int:
        """Read the clock, or fail as planned."""
        return self._read("time", self.inner.time)

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Insert, or fail as planned."""
        return self._change("insert", lambda: self.inner.insert(rows))

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Cancel, or fail as planned."""
        return self._change("cancel", lambda: self.inner.cancel(ids))

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Reschedule, or fail as planned."""
        return self._change("reschedule", lambda: self.inner.reschedule(moves))

    def within(self, connection: object) -> Changes:
        """Pass on: what fails there fails in the caller's transaction."""
        return self.inner.within(connection)

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Redrive, or fail as planned."""
        return self._change("redrive", lambda: self.inner.redrive(ids, due_at, note))

    def peek(
        self,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Due]:
        """Peek, or fail as planned."""
        return self._read("peek", lambda: self.inner.peek(shards, low, high, limit, kinds, crashes))

    def claim(
        self,
        number: int,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Row]:
        """Claim, or fail as planned."""
        return self._change(
            "claim",
            lambda: self.inner.claim(number, shards, low, high, limit, kinds, crashes),
        )

    def settle(self, settlement: Settlement) -> Settled:
        """Settle, or fail as planned."""
        return self._change("settle", lambda: self.inner.settle(settlement))

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Beat, or fail as planned."""
        return self._change("beat", lambda: self.inner.beat(node, number, info))

    def strike(self, number: int, counter: int | None) -> bool:
        """Strike, or fail as planned."""
        return self._change("strike", lambda: self.inner.strike(number, counter))

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Read the owners, or fail as planned."""
        return self._read("owners", lambda: self.inner.owners(shards, high))

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Rescue, or fail as planned."""
        return self._change("rescue", lambda: self.inner.rescue(shards, number, high, suspects))

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Get, or fail as planned."""
        return self._read("get", lambda: self.inner.get(ids))

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Find, or fail as planned."""
        return self._read("find", lambda: self.inner.find(wanted, limit, after))

    def counts(self, now: int) -> Counts:
        """Count, or fail as planned."""
        return self._read("counts", lambda: self.inner.counts(now))

    def close(self) -> None:
        """Pass on."""
        self.inner.close()

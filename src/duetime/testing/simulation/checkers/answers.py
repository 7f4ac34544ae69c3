"""What callers were told, and whether all adds up in the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from duetime.event import (
    CLAIM,
    DUE_AT,
)
from duetime.testing.simulation.oracle import (
    Call,
    Change,
    Checker,
    Oracle,
    Start,
    state_of,
)
from duetime.testing.simulation.world import World

__all__ = ["Answers", "Counters", "Duplicates", "NothingLost"]


_GOOD = {"cancel": "cancelled", "reschedule": "rescheduled", "redrive": "redriven"}


class Answers(Checker):
    """C1, C2, C3, D2, R7: answers tell the truth, and a refusal leaves nothing behind."""

    def called(self, call: Call) -> None:
        """See that each answer of the store fits the state that it found."""
        if call.name == "claim":
            number, _, low, high, limit = call.arguments[:5]
            if (
                sum(row[CLAIM] == number for row in call.result) > limit
                and number not in self._asked
            ):
                self.world.fail(
                    "X8", f"{len(call.result)} rows were claimed for a limit of {limit}"
                )
            self._asked.add(number)
            if any(not low <= row[DUE_AT] <= high for row in call.result):
                self.world.fail("X8", "a row outside the range was claimed")
            return
        good = _GOOD.get(call.name)
        if good is None or call.process.operation is None:
            return
        ids = [one[0] if call.name == "reschedule" else one for one in call.arguments[0]]
        for event_id, answer in zip(ids, call.result, strict=True):
            if answer == good:
                call.process.operation.granted = True
                continue
            life = self.oracle.lives.get(event_id)
            found = "unknown" if life is None else state_of(life.row, dead=life.end == "dead")
            truth = {"claimed": "in_flight", "absent": "unknown"}.get(found, found)
            if call.name == "redrive" and found == "parked":
                truth = "scheduled"
            if answer != truth:
                self.world.fail("C2", f"{call.name} of {event_id} answered {answer}; it is {found}")

    def __init__(self, world: World, oracle: Oracle) -> None:
        super().__init__(world, oracle)
        self._asked: set[int] = set()

    def answered(self, operation: Any) -> None:
        """Compare the answer with what the call changed."""
        changed = bool(operation.changes)
        name = f"{operation.call} {operation.number} of {operation.target or operation.wish}"
        if operation.outcome == "refused" and changed:
            self.world.fail("D2", f"{name} was refused, yet it changed the store")
        if operation.call == "schedule":
            if len(set(operation.changes)) > 1:
                self.world.fail("D2", f"{name} stored {len(set(operation.changes))} events")
            return
        good = _GOOD.get(operation.call)
        if operation.outcome == good and not changed and not operation.granted:
            self.world.fail("C1", f"{name} was answered {good}, yet nothing changed")
        if changed and operation.outcome not in (good, "lost"):
            self.world.fail("C1", f"{name} was answered {operation.outcome}, yet it changed")


class NothingLost(Checker):
    """D1, D5, O1: in the end everything acknowledged is done, cancelled or dead, and adds up."""

    def rested(self) -> None:
        """Count."""
        ends = Counter[str]()
        for life in self.oracle.all_lives():
            ends[life.end or "open"] += 1
            done = any(run.outcome == "done" for run in life.runs)
            if life.end == "done" and not done:
                self.world.fail("D1", f"{life.event_id} is gone, and never ran to its end")
            if life.end is None:
                self.world.fail("D1", f"{life.event_id} is still {life.row}")
        rows, dead = self.oracle.store.glance()
        if len(rows) or len(dead) != ends["dead"]:
            self.world.fail("D5", f"{len(rows)} rows and {len(dead)} dead are kept; {ends}")
        known = {life.event_id for life in self.oracle.all_lives()}
        for operation in self.oracle.operations:
            if operation.outcome == "stored" and operation.target not in known:
                self.world.fail("D1", f"{operation.target} was acknowledged and never stored")


class Duplicates(Checker):
    """D1: an event runs to its end once; more often only for a reason that can be named."""

    def rested(self) -> None:
        """Look for a second done without a crash, a pause or a lost answer."""
        if self.oracle.calm:
            for life in self.oracle.all_lives():
                if sum(run.outcome == "done" for run in life.runs) > 1:
                    self.world.fail("D1", f"{life.event_id} ran to its end twice, without a reason")


class Counters(Checker):
    """O1: where every answer arrives, what the processes count is what happened."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        super().__init__(world, oracle)
        self._seen = Counter[str]()

    def changed(self, change: Change) -> None:
        """Count what happened."""
        if change.call == "insert":
            self._seen["scheduled"] += 1
        if change.becomes == "claimed":
            self._seen["claimed"] += 1
        elif change.call == "settle":
            becomes = {"absent": "done", "dead": "dead"}.get(change.becomes, "moved")
            self._seen[becomes] += 1
        elif change.call in ("cancel", "redrive"):
            self._seen[{"cancel": "cancelled", "redrive": "redriven"}[change.call]] += 1

    def started(self, _start: Start) -> None:
        """Count it."""
        self._seen["fired"] += 1

    def rested(self) -> None:
        """Compare with the tallies."""
        if not self.oracle.calm:
            return
        told = Counter[str]()
        for tally in self.oracle.tallies:
            for name in ("scheduled", "claimed", "done", "dead", "cancelled", "redriven", "fired"):
                told[name] += getattr(tally, name)
            told["moved"] += tally.retried + tally.parked + tally.given_back
        if any(operation.outcome == "pending" for operation in self.oracle.operations):
            told["scheduled"] = self._seen["scheduled"]  # its process stopped before it heard
        if +told != +self._seen:
            self.world.fail("O1", f"the processes counted {dict(told)}; it was {dict(self._seen)}")

"""How nodes live, die, and hold."""

from __future__ import annotations

from duetime.event import (
    CLAIM,
    CRASHES,
)
from duetime.stores.contract import owner_of
from duetime.testing.simulation.oracle import (
    Call,
    Change,
    Checker,
)

__all__ = ["Beating", "Deaths", "Memory"]


class Deaths(Checker):
    """T4, X7, L7: only nodes that do not beat are held for dead, and only they are robbed."""

    def called(self, call: Call) -> None:
        """Look at who is struck off."""
        if call.name != "strike" or not call.result:
            return
        number, counter = call.arguments
        _, beaten = self.oracle.roll.get(number, ("", 0))
        silent = self.world.now - beaten
        if counter is not None and silent < self.oracle.lease:
            text = f"node {number} was held for dead after {silent} µs of {self.oracle.lease}"
            self.world.fail("T4", text)
        if counter is None and self.oracle.reachable:
            for life in self.oracle.lives.values():
                if owner_of(life.row[CLAIM]) == number:
                    self.world.fail(
                        "L7", f"{call.process.name} left, and still holds {life.event_id}"
                    )

    def changed(self, change: Change) -> None:
        """See that only the dead are robbed."""
        if change.call != "rescue" or change.before is None or change.after is None:
            return
        number = change.arguments[1]
        owner = owner_of(change.before[CLAIM])
        if owner != number or owner in self.oracle.roll:
            self.world.fail(
                "X7", f"{change.life.event_id} was taken from node {owner}, which lives"
            )
        change.life.crashes += change.after[CRASHES] > change.before[CRASHES]


class Beating(Checker):
    """L7: a node that can beat does, to the end of a graceful stop: nobody takes what it runs."""

    def called(self, call: Call) -> None:
        """See that a node that others strike off had tried to beat."""
        if call.name != "strike" or not call.result or call.arguments[1] is None:
            return
        for machine in self.oracle.machines:
            if machine.number == call.arguments[0] and machine.neglects_to_beat():
                self.world.fail("L7", f"{machine.name} was held for dead: it did not try to beat")


class Memory(Checker):
    """L4: a node holds no more than it may, and nothing when there is nothing."""

    def rested(self) -> None:
        """Look into the nodes that are alive."""
        for machine in self.oracle.machines:
            left = machine.leftovers()
            if left:
                self.world.fail("L4", f"{machine.name} still holds {left}")

"""Who may start what, and when."""

from __future__ import annotations

from itertools import pairwise

from duetime.event import (
    CLAIM,
    DUE_AT,
    KIND,
    id_of,
)
from duetime.stores.contract import owner_of
from duetime.testing.simulation.oracle import (
    Call,
    Change,
    Checker,
    Oracle,
    Process,
    Start,
)
from duetime.testing.simulation.world import EPOCH, World

__all__ = ["Fenced", "Idling", "LegalMoves", "NeverEarly", "NotLate", "OneClaim"]

_LEGAL = {
    ("absent", "scheduled"): ("insert",),
    ("absent", "claimed"): ("insert",),
    ("scheduled", "claimed"): ("claim",),
    ("parked", "claimed"): ("claim",),
    ("claimed", "absent"): ("settle",),
    ("claimed", "scheduled"): ("settle", "rescue"),
    ("claimed", "parked"): ("settle", "rescue"),
    ("claimed", "dead"): ("settle",),
    ("scheduled", "absent"): ("cancel",),
    ("parked", "absent"): ("cancel",),
    ("scheduled", "scheduled"): ("reschedule",),
    ("parked", "scheduled"): ("reschedule",),
    ("dead", "scheduled"): ("redrive",),
}


class LegalMoves(Checker):
    """G3: every change of state is in the list, and made by the call that may make it."""

    def changed(self, change: Change) -> None:
        """Compare with the list; what names an event stays the same."""
        calls = _LEGAL.get((change.was, change.becomes), ())
        if change.call not in calls:
            self.world.fail(
                "G3", f"{change.call} moved {change.life.event_id} {change.was}→{change.becomes}"
            )
        before, after = change.before, change.after
        if before and after and (before[KIND], id_of(before)) != (after[KIND], id_of(after)):
            self.world.fail("G3", f"{change.call} renamed {change.life.event_id}")


class NeverEarly(Checker):
    """T1, C4: no handler starts before its due time, the newest one that was promised."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        super().__init__(world, oracle)
        self._steps = [(0, 0)]  # when the store's clock stepped, and to how far off

    def called(self, _call: Call) -> None:
        """Note the steps of the store's clock."""
        if self.world.store_step != self._steps[-1][1]:
            self._steps.append((self.world.now, self.world.store_step))

    def changed(self, change: Change) -> None:
        """Learn the newest promise."""
        life, after = change.life, change.after
        if after is None or change.becomes == "dead":
            return
        if change.call == "insert":
            wish = self.oracle.asked(life.wish)
            life.due = after[DUE_AT] if wish is None else wish
        elif change.call == "reschedule":
            asked = dict(change.arguments[0])
            life.due = asked.get(life.event_id, after[DUE_AT])
        elif after[DUE_AT] != (change.before or after)[DUE_AT]:
            life.due = after[DUE_AT]
        if change.becomes != "claimed":
            life.promised_at = self.world.now

    def started(self, start: Start) -> None:
        """Compare with the store's clock as late as the process may have read it."""
        if start.life is None:
            return
        sent, trip, off = self.oracle.clock_read.get(start.run.process.name, (0, 0, 0))
        now = self.world.now
        steps = [*self._steps, (now, self.world.store_step)]
        # What StoreClock.measure keeps may run ahead by as much as the answer took.
        latest = now + min(max(step for _, step in steps), off + trip)
        for (_, step), (ended, _) in pairwise([*steps, (now, 0)]):
            if ended >= sent:
                latest = max(latest, now + step)
            elif ended >= start.life.promised_at:  # it was due then, and waited for a worker since
                latest = max(latest, sent + trip + step)
        early = start.life.due - (EPOCH + latest)
        if early > 0:
            self.world.fail(
                "T1", f"{start.event.id} started {early} µs early on {start.run.process.name}"
            )


class NotLate(Checker):
    """T2, L3: where nothing goes wrong, an event starts soon after it is due."""

    def started(self, start: Start) -> None:
        """Compare with how long everything takes that can be before it."""
        if start.life is None or self.oracle.patience is None:
            return
        due = max(start.life.due - EPOCH, start.life.promised_at)
        late = self.world.now - due - self.oracle.patience
        if late > 0:
            where = f"{start.event.id} on {start.run.process.name}"
            self.world.fail("T2", f"{where} started {late} µs later than it had to")


class OneClaim(Checker):
    """X1, X6: a claim serves one start of an event, which holds it; node numbers are unique."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        super().__init__(world, oracle)
        self._claims: set[tuple[str, int]] = set()
        self._numbers: set[int] = set()

    def called(self, call: Call) -> None:
        """Look at who joins, and at how much was claimed."""
        if call.name == "beat" and call.arguments[1] == 0:
            if call.result.number in self._numbers:
                self.world.fail("X6", f"the node number {call.result.number} was given twice")
            self._numbers.add(call.result.number)
            ids = [member.id for member in call.result.members]
            if len(set(ids)) < len(ids) or self._is_taken(call.arguments[0], call.process):
                self.world.fail("X6", f"two nodes share the id {call.arguments[0]}")

    def _is_taken(self, node_id: str, process: Process) -> bool:
        owner = self.oracle.node_ids.setdefault(node_id, process)
        return owner is not process

    def changed(self, change: Change) -> None:
        """See that a claim number is never given twice for one event."""
        if change.becomes == "claimed" and change.after is not None:
            claim = (change.life.event_id, change.after[CLAIM])
            if claim in self._claims and change.call != "insert":
                self.world.fail("X1", f"{claim[0]} was claimed twice by one number")
            self._claims.add(claim)

    def started(self, start: Start) -> None:
        """See that the start holds its claim, alone, with a token that grew."""
        where = f"{start.event.id} on {start.run.process.name}"
        if start.life is None:
            self.world.fail("C1/D5", f"{where} started but is not kept: cancelled, done or dead")
            return
        if start.life.row[CLAIM] != start.run.claim:
            holder = owner_of(start.life.row[CLAIM])
            self.world.fail("X1", f"{where} started; its claim is held by node {holder}")
        if start.event.row[DUE_AT] != start.life.row[DUE_AT]:
            self.world.fail("C4", f"{where} started at a due time it no longer has")
        if any(other.claim == start.run.claim for other in start.life.runs):
            self.world.fail("X1", f"{where} started twice in one claim")
        # After a step back of the store's clock a rescue takes what had started for not yet due.
        grew = (
            all(other.attempt < start.run.attempt for other in start.life.runs)
            or self.oracle.stepped_back
        )
        if not grew or start.run.attempt < 1:
            self.world.fail("X1", f"{where}: its attempt {start.run.attempt} did not grow")
        if start.event.payload != start.life.payload:
            self.world.fail(
                "D1", f"{where} carries {start.event.payload} instead of {start.life.payload}"
            )


class Fenced(Checker):
    """X3: no handler starts on a node that could not beat for its lease less the margin."""

    def started(self, start: Start) -> None:
        """Compare with the last beat that was answered."""
        if self.world.now >= start.run.process.fenced_at:
            late = self.world.now - start.run.process.fenced_at
            self.world.fail(
                "X3", f"{start.event.id} started on {start.run.process.name} {late} µs too late"
            )
        if owner_of(start.run.claim) not in self.oracle.roll:
            text = f"{start.event.id} started on {start.run.process.name}, which was struck off"
            self.world.fail("X3", text)


class Idling(Checker):
    """L3, R5: events are claimed to be run, not to be passed to and fro."""

    _CLAIMS, _PARKS = 60, 6

    def changed(self, change: Change) -> None:
        """Count claims and parkings since the last start."""
        life = change.life
        life.claims += change.becomes == "claimed"
        life.parks += change.becomes == "parked"
        if life.claims > self._CLAIMS or life.parks > self._PARKS:
            text = f"{life.event_id} was claimed {life.claims} times without a start"
            self.world.fail("L3", f"{text}, and parked {life.parks} times")
            life.claims = life.parks = 0

    def started(self, start: Start) -> None:
        """Begin to count anew."""
        if start.life is not None:
            start.life.claims = start.life.parks = 0

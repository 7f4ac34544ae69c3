"""One checker per promise; each knows only what the oracle saw, never what a node believes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from duetime import codec
from duetime.clock import to_micros
from duetime.event import (
    ATTEMPT,
    CLAIM,
    CRASHES,
    DUE_AT,
    FAILURES,
    KIND,
    NAME,
    PARKING,
    PAYLOAD,
    SHARD,
    Event,
    Row,
    id_of,
)
from duetime.outcome import UNCHANGED, Retry
from duetime.stores.contract import Settlement, owner_of
from duetime.testing.simulation.oracle import Change, Checker, Life, Oracle, Process, Run, state_of
from duetime.testing.simulation.world import EPOCH, World

__all__ = ["CHECKERS"]

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

    def called(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
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
            asked = {event_id: due for event_id, due in change.arguments[0]}
            life.due = asked.get(life.event_id, after[DUE_AT])
        elif after[DUE_AT] != (change.before or after)[DUE_AT]:
            life.due = after[DUE_AT]
        if change.becomes != "claimed":
            life.promised_at = self.world.now

    def started(self, run: Run, life: Life | None, event: Event) -> None:
        """Compare with the store's clock as late as the process may have read it."""
        if life is None:
            return
        sent, trip, off = self.oracle.clock_read.get(run.process.name, (0, 0, 0))
        now = self.world.now
        steps = [*self._steps, (now, self.world.store_step)]
        # What StoreClock.measure keeps may run ahead by as much as the answer took.
        latest = now + min(max(step for _, step in steps), off + trip)
        for (_, step), (ended, _) in pairwise([*steps, (now, 0)]):
            if ended >= sent:
                latest = max(latest, now + step)
            elif ended >= life.promised_at:  # it was due then, and waited for a worker since
                latest = max(latest, sent + trip + step)
        early = life.due - (EPOCH + latest)
        if early > 0:
            self.world.fail("T1", f"{event.id} started {early} µs early on {run.process.name}")


class OneClaim(Checker):
    """X1, X6: a claim is used for one start of an event, which holds it; node numbers are unique."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        super().__init__(world, oracle)
        self._claims: set[tuple[str, int]] = set()
        self._starts: set[tuple[str, int]] = set()
        self._attempts: dict[int, int] = {}
        self._numbers: set[int] = set()
        self._ids: set[str] = set()

    def called(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
        """Look at who joins, and at how much was claimed."""
        if call == "beat" and arguments[1] == 0:
            if result.number in self._numbers:
                self.world.fail("X6", f"the node number {result.number} was given twice")
            self._numbers.add(result.number)
            ids = [member.id for member in result.members]
            if len(set(ids)) < len(ids) or self._is_taken(arguments[0], process):
                self.world.fail("X6", f"two nodes share the id {arguments[0]}")

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

    def started(self, run: Run, life: Life | None, event: Event) -> None:
        """See that the start holds its claim, alone, with a token that grew."""
        where = f"{event.id} on {run.process.name}"
        if life is None:
            self.world.fail("C1/D5", f"{where} started but is not kept: cancelled, done or dead")
            return
        if life.row[CLAIM] != run.claim:
            holder = owner_of(life.row[CLAIM])
            self.world.fail("X1", f"{where} started; its claim is held by node {holder}")
        if event.row[DUE_AT] != life.row[DUE_AT]:
            self.world.fail("C4", f"{where} started at a due time it no longer has")
        if any(other.claim == run.claim for other in life.runs):
            self.world.fail("X1", f"{where} started twice in one claim")
        # After a step back of the store's clock a rescue takes what had started for not yet due.
        grew = all(other.attempt < run.attempt for other in life.runs) or self.oracle.stepped_back
        if not grew or run.attempt < 1:
            self.world.fail("X1", f"{where}: its attempt {run.attempt} did not grow")
        if event.payload != life.payload:
            self.world.fail("D1", f"{where} carries {event.payload} instead of {life.payload}")


class Fenced(Checker):
    """X3: no handler starts on a node that could not beat for its lease less the margin."""

    def started(self, run: Run, life: Life | None, event: Event) -> None:
        """Compare with the last beat that was answered."""
        if self.world.now >= run.process.fenced_at:
            late = self.world.now - run.process.fenced_at
            self.world.fail("X3", f"{event.id} started on {run.process.name} {late} µs too late")
        if owner_of(run.claim) not in self.oracle.roll:
            text = f"{event.id} started on {run.process.name}, which was struck off the roll"
            self.world.fail("X3", text)


class StaleResults(Checker):
    """X2, D4: a settlement changes only what its own claims hold, and as the handlers said."""

    def changed(self, change: Change) -> None:
        """Compare what was written with what ran."""
        if change.call != "settle" or change.before is None:
            return
        life, claim = change.life, change.before[CLAIM]
        settlement: Settlement = change.arguments[0]
        if not _mentions(settlement, life.event_id, change.before):
            self.world.fail("X2", f"a stale settlement changed {life.event_id}")
        run = next((run for run in reversed(life.runs) if run.claim == claim), None)
        outcome = run.outcome if run is not None else "never started"
        if change.becomes == "absent" and outcome != "done":
            self.world.fail("D4", f"{life.event_id} was settled as done; its run: {outcome}")
        elif change.becomes == "dead":
            self._died(change, outcome)
        elif change.after is not None and change.becomes != "absent":
            self._moved(change, change.before, change.after, run, outcome)

    def _died(self, change: Change, outcome: str) -> None:
        before = change.before
        assert before is not None
        if before[CRASHES] >= self.oracle.settings.max_crashes and outcome == "never started":
            return
        exhausted = before[FAILURES] >= self.oracle.settings.retries
        if outcome == "dead" or (outcome in ("raised", "retry") and exhausted):
            return
        self.world.fail("R1", f"{change.life.event_id} was given up; its run: {outcome}")

    def _moved(
        self, change: Change, before: Row, after: Row, run: Run | None, outcome: str
    ) -> None:
        grew = after[FAILURES] - before[FAILURES]
        where = change.life.event_id
        if self.oracle.is_leaving(change.process) and outcome != "never started":
            # The grace time is over: what still ran was given back, and may have ended since.
            if not grew and after[DUE_AT] == before[DUE_AT]:
                return
        if outcome in ("raised", "retry"):
            if grew != 1 or after[ATTEMPT] != before[ATTEMPT]:
                self.world.fail("R1", f"{where}: a failure was not counted")
            assert run is not None
            self._asked(where, after, run)
        elif outcome == "never started":
            if grew or after[ATTEMPT] != before[ATTEMPT] - 1 or after[DUE_AT] != before[DUE_AT]:
                self.world.fail("R1", f"{where} was given back changed")
        elif grew or outcome != "interrupted":
            self.world.fail("X2", f"{where} was moved; its run: {outcome}")

    def _asked(self, where: str, after: Row, run: Run) -> None:
        if not isinstance(run.result, Retry):
            return
        at, payload = run.result.at, run.result.payload
        if at is not None and after[DUE_AT] < to_micros(at):
            self.world.fail("R3", f"{where} is retried earlier than its handler asked")
        if payload is not UNCHANGED:
            kept = codec.decode(after[PAYLOAD])
            if kept != payload:
                self.world.fail("R3", f"{where} lost the payload of its Retry: {kept}")

    def ended(self, run: Run, life: Life) -> None:
        """Remember the payload that the next run must get."""
        if isinstance(run.result, Retry) and run.result.payload is not UNCHANGED:
            self.oracle.next_payload[(run.event_id, run.claim)] = run.result.payload


def _mentions(settlement: Settlement, event_id: str, before: Row) -> bool:
    """Tell whether a settlement names an event under the claim that holds it."""
    claim = before[CLAIM]
    rows = [*settlement.done, *(m.row for m in settlement.moves), *(d.row for d in settlement.deaths)]
    if any(row[CLAIM] == claim and id_of(row) == event_id for row in rows):
        return True
    return before[NAME] is None and any(
        each.claim == claim and each.low <= before[DUE_AT] <= each.high
        and before[SHARD] in each.shards
        for each in settlement.ranges
    )


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

    def started(self, run: Run, life: Life | None, event: Event) -> None:
        """Begin to count anew."""
        if life is not None:
            life.claims = life.parks = 0


class Payloads(Checker):
    """D1: an event carries what it was given, through retries and redrives."""

    def changed(self, change: Change) -> None:
        """Learn what a Retry asked for; nothing else changes a payload."""
        before, after = change.before, change.after
        if before is None or after is None or before[PAYLOAD] == after[PAYLOAD]:
            return
        asked = self.oracle.next_payload.get((change.life.event_id, before[CLAIM]))
        kept = codec.decode(after[PAYLOAD])
        if kept != asked or change.call != "settle":
            self.world.fail("D1", f"{change.call} changed what {change.life.event_id} carries")
        change.life.payload = kept


class Deaths(Checker):
    """T4, X7, L7: only nodes that do not beat are held for dead, and only their claims are freed."""

    def called(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
        """Look at who is struck off."""
        if call != "strike" or not result:
            return
        number, counter = arguments
        _, beaten = self.oracle.roll.get(number, ("", 0))
        silent = self.world.now - beaten
        if counter is not None and silent < self.oracle.lease:
            text = f"node {number} was held for dead after {silent} µs of {self.oracle.lease}"
            self.world.fail("T4", text)
        if counter is None and self.oracle.reachable:
            for life in self.oracle.lives.values():
                if owner_of(life.row[CLAIM]) == number:
                    self.world.fail("L7", f"{process.name} left, and still holds {life.event_id}")

    def changed(self, change: Change) -> None:
        """See that only the dead are robbed."""
        if change.call != "rescue" or change.before is None or change.after is None:
            return
        number = change.arguments[1]
        owner = owner_of(change.before[CLAIM])
        if owner != number or owner in self.oracle.roll:
            self.world.fail("X7", f"{change.life.event_id} was taken from node {owner}, which lives")
        change.life.crashes += change.after[CRASHES] > change.before[CRASHES]


class Beating(Checker):
    """L7: a node that can beat does, to the end of a graceful stop: nobody takes what it runs."""

    def called(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
        """See that a node that others strike off had tried to beat."""
        if call != "strike" or not result or arguments[1] is None:
            return
        for machine in self.oracle.machines:
            if machine.number == arguments[0] and machine.neglects_to_beat():
                self.world.fail("L7", f"{machine.name} was held for dead: it did not try to beat")


class Answers(Checker):
    """C1, C2, C3, D2, R7: answers tell the truth, and a refusal leaves nothing behind."""

    _GOOD = {"cancel": "cancelled", "reschedule": "rescheduled", "redrive": "redriven"}

    def called(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
        """See that each answer of the store fits the state that it found."""
        if call == "claim":
            number, _, low, high, limit = arguments[:5]
            if sum(row[CLAIM] == number for row in result) > limit and number not in self._asked:
                self.world.fail("X8", f"{len(result)} rows were claimed for a limit of {limit}")
            self._asked.add(number)
            if any(not low <= row[DUE_AT] <= high for row in result):
                self.world.fail("X8", "a row outside the range was claimed")
            return
        good = self._GOOD.get(call)
        if good is None or process.operation is None:
            return
        ids = [one[0] if call == "reschedule" else one for one in arguments[0]]
        for event_id, answer in zip(ids, result, strict=True):
            if answer == good:
                process.operation.granted = True
                continue
            life = self.oracle.lives.get(event_id)
            found = "unknown" if life is None else state_of(life.row, dead=life.end == "dead")
            truth = {"claimed": "in_flight", "absent": "unknown"}.get(found, found)
            if call == "redrive" and found == "parked":
                truth = "scheduled"
            if answer != truth:
                self.world.fail("C2", f"{call} of {event_id} answered {answer}; it is {found}")

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
        good = self._GOOD.get(operation.call)
        if operation.outcome == good and not changed and not operation.granted:
            self.world.fail("C1", f"{name} was answered {good}, yet nothing changed")
        if changed and operation.outcome not in (good, "lost"):
            self.world.fail("C1", f"{name} was answered {operation.outcome}, yet it changed")


class Attempts(Checker):
    """R1, R2: failures and crashes are counted, and end in death, neither sooner nor later."""

    def started(self, run: Run, life: Life | None, event: Event) -> None:
        """See that nothing starts that should have been given up."""
        if life is None:
            return
        settings = self.oracle.settings
        if event.failures > settings.retries:
            self.world.fail("R1", f"{event.id} starts after {event.failures} failures")
        if self.oracle.kills(life.wish) and not self.oracle.stepped_back:
            deaths = sum(other.outcome == "killed" for other in life.runs)
            since = life.redriven
            if deaths - since >= settings.max_crashes:
                self.world.fail("R2", f"{event.id} starts though {deaths} nodes died of it")

    def changed(self, change: Change) -> None:
        """See that only what was with a dying node may die of it."""
        life = change.life
        if change.call == "redrive":
            life.redriven = sum(run.outcome == "killed" for run in life.runs)
            life.crashes = 0
        if change.becomes != "dead" or change.before is None:
            return
        if change.before[CRASHES] < self.oracle.settings.max_crashes:
            return
        if any(run.claim == change.before[CLAIM] for run in life.runs):
            return  # it ran once more, and ended by itself
        if life.crashes < self.oracle.settings.max_crashes:
            self.world.fail("R2", f"{life.event_id} died of {life.crashes} crashes")
        if self.oracle.poison_alone and not self.oracle.kills(life.wish):
            self.world.fail("R2", f"{life.event_id} harms nobody, and was given up as poison")


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

    def started(self, run: Run, life: Life | None, event: Event) -> None:
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
        if +told != +self._seen:
            self.world.fail("O1", f"the processes counted {dict(told)}; it was {dict(self._seen)}")


class Memory(Checker):
    """L4: a node holds no more than it may, and nothing when there is nothing."""

    def rested(self) -> None:
        """Look into the nodes that are alive."""
        for machine in self.oracle.machines:
            left = machine.leftovers()
            if left:
                self.world.fail("L4", f"{machine.name} still holds {left}")


CHECKERS: tuple[type[Checker], ...] = (
    LegalMoves,
    NeverEarly,
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

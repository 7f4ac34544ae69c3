"""What came of each run is what was written, no more and no less."""

from __future__ import annotations

from duetime import codec
from duetime.clock import to_micros
from duetime.event import (
    ATTEMPT,
    CLAIM,
    CRASHES,
    DUE_AT,
    FAILURES,
    NAME,
    PAYLOAD,
    SHARD,
    Row,
    id_of,
)
from duetime.outcome import UNCHANGED, Retry
from duetime.stores.contract import Settlement
from duetime.testing.simulation.oracle import (
    Change,
    Checker,
    Run,
    Start,
)

__all__ = ["Attempts", "Payloads", "StaleResults"]


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
        unchanged = not grew and after[DUE_AT] == before[DUE_AT]
        if unchanged and outcome != "never started" and self.oracle.is_leaving(change.process):
            return  # the grace time is over: what still ran was given back, and may have ended
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

    def ended(self, run: Run) -> None:
        """Remember the payload that the next run must get."""
        if isinstance(run.result, Retry) and run.result.payload is not UNCHANGED:
            self.oracle.next_payload[(run.event_id, run.claim)] = run.result.payload


def _mentions(settlement: Settlement, event_id: str, before: Row) -> bool:
    """Tell whether a settlement names an event under the claim that holds it."""
    claim = before[CLAIM]
    rows = [
        *settlement.done,
        *(m.row for m in settlement.moves),
        *(d.row for d in settlement.deaths),
    ]
    if any(row[CLAIM] == claim and id_of(row) == event_id for row in rows):
        return True
    return before[NAME] is None and any(
        each.claim == claim
        and each.low <= before[DUE_AT] <= each.high
        and before[SHARD] in each.shards
        for each in settlement.ranges
    )


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


class Attempts(Checker):
    """R1, R2: failures and crashes are counted, and end in death, neither sooner nor later."""

    def started(self, start: Start) -> None:
        """See that nothing starts that should have been given up."""
        if start.life is None:
            return
        settings = self.oracle.settings
        if start.event.failures > settings.retries:
            self.world.fail("R1", f"{start.event.id} starts after {start.event.failures} failures")
        if self.oracle.kills(start.life.wish) and not self.oracle.stepped_back:
            deaths = sum(other.outcome == "killed" for other in start.life.runs)
            since = start.life.redriven
            if deaths - since >= settings.max_crashes:
                self.world.fail("R2", f"{start.event.id} starts though {deaths} nodes died of it")

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

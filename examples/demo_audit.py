"""What really happened: every answer and every handler call of the demo, and whether it adds up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from duetime import Answer, Counts, Event
from duetime.tally import Tally

NEVER = timedelta(days=1)


class Call(NamedTuple):
    """One call of a handler, as the handler itself noted it."""

    id: str
    kind: str
    due_at: datetime
    started_at: datetime
    well: bool  # whether it ended well


class Move(NamedTuple):
    """One reschedule, and how it was answered."""

    answer: Answer
    old: datetime
    new: datetime


class Record:
    """The demo's own memory, kept beside Duetime and never read by it.

    Written by many threads: `append` and setting a key are one step each.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}  # of every event scheduled
        self.calls: list[Call] = []
        self.cancels: dict[str, Answer] = {}
        self.moves: dict[str, Move] = {}

    def scheduled(self, event: Event) -> None:
        """Note an event that was stored."""
        self.kinds[event.id] = event.kind

    def ran(self, event: Event) -> None:
        """Note a call that ends well."""
        self._note(event, well=True)

    def failed(self, event: Event) -> None:
        """Note a call that does not."""
        self._note(event, well=False)

    def _note(self, event: Event, *, well: bool) -> None:
        self.calls.append(Call(event.id, event.kind, event.due_at, datetime.now(UTC), well))

    def cancelled(self) -> set[str]:
        """Return the events that were cancelled, by the answers."""
        return {i for i, answer in self.cancels.items() if answer is Answer.CANCELLED}


class Check(NamedTuple):
    """One thing that must hold."""

    holds: bool
    text: str


class Sums(NamedTuple):
    """Where the events have gone, by the demo's own record; `left` by the store."""

    scheduled: int
    done: int
    cancelled: int
    dead: int
    left: int


class Audit(NamedTuple):
    """What the demo ends with."""

    sums: Sums
    checks: list[Check]

    @property
    def holds(self) -> bool:
        """Whether everything adds up."""
        return all(check.holds for check in self.checks)


def audit(record: Record, tally: Tally, counts: Counts, dead: set[str]) -> Audit:
    """Compare the record of the demo with Duetime's counters and with what the store holds."""
    well = Counter(call.id for call in record.calls if call.well)
    cancelled = record.cancelled()
    left = sum(sum(kinds.values()) for kinds in (counts.scheduled, counts.claimed, counts.parked))
    given_up = {i for i in dead if i not in well and i not in cancelled}
    sums = Sums(len(record.kinds), len(well), len(cancelled), len(given_up), left)
    return Audit(
        sums,
        [
            _adds_up(sums),
            _once(record, well, given_up, cancelled, left),
            _store_agrees(sums, tally, counts, dead),
            _cancels(record, cancelled),
            _moves(record),
            _retries(record, tally, len(given_up)),
            _never_early(record),
        ],
    )


def _adds_up(sums: Sums) -> Check:
    total = sums.done + sums.cancelled + sums.dead + sums.left
    text = (
        f"{sums.scheduled:,} scheduled = {sums.done:,} done + {sums.cancelled:,} cancelled + "
        f"{sums.dead:,} dead + {sums.left:,} left"
    )
    return Check(sums.scheduled == total, text)


def _once(
    record: Record, well: Counter[str], dead: set[str], cancelled: set[str], left: int
) -> Check:
    twice = sum(1 for calls in well.values() if calls > 1)
    ended = well.keys() | dead | cancelled
    nowhere = len(record.kinds.keys() - ended) - left
    alien = len(ended - record.kinds.keys())
    text = f"each came to one end, by our record of {len(record.calls):,} handler calls"
    if twice or nowhere or alien:
        text += f" ({twice:,} ended twice, {nowhere:,} nowhere, {alien:,} were never scheduled)"
    return Check(not (twice or nowhere or alien), text)


def _store_agrees(sums: Sums, tally: Tally, counts: Counts, dead: set[str]) -> Check:
    stored = sum(counts.dead.values())
    pairs = {
        "scheduled": (sums.scheduled, tally.scheduled),
        "done": (sums.done, tally.done),
        "cancelled": (sums.cancelled, tally.cancelled),
        "dead": (sums.dead, tally.dead),
        "dead in the store": (len(dead), stored),
    }
    wrong = [f"{name}: {a:,}, not {b:,}" for name, (a, b) in pairs.items() if a != b]
    text = f"store and counters say the same: {sums.left:,} waiting, {stored:,} dead and listed"
    return Check(not wrong, f"{text} ({'; '.join(wrong)})" if wrong else text)


def _cancels(record: Record, cancelled: set[str]) -> Check:
    ran = len(cancelled & {call.id for call in record.calls})
    late = len(record.cancels) - len(cancelled)
    text = f"{ran:,} of {len(cancelled):,} cancelled events ran"
    return Check(not ran, f"{text}; {late:,} cancels came too late and said so")


def _moves(record: Record) -> Check:
    moves = {i: move for i, move in record.moves.items() if move.answer is Answer.RESCHEDULED}
    moved = [(moves[call.id], call.due_at) for call in record.calls if call.id in moves]
    wrong = sum(1 for move, due_at in moved if due_at == move.old or due_at < move.new)
    late = len(record.moves) - len(moves)
    text = f"{wrong:,} of {len(moves):,} moved events ran at their old time"
    return Check(not wrong, f"{text}; {late:,} moves came too late and said so")


def _retries(record: Record, tally: Tally, dead: int) -> Check:
    failed = sum(1 for call in record.calls if not call.well)
    again = failed - dead
    text = f"{failed:,} attempts failed: {again:,} were made again, {dead:,} were the last"
    if again != tally.retried:
        text += f" (the counters say {tally.retried:,} again)"
    return Check(again == tally.retried, text)


def _never_early(record: Record) -> Check:
    soonest = min((call.started_at - call.due_at for call in record.calls), default=NEVER)
    early = sum(1 for call in record.calls if call.started_at < call.due_at)
    text = f"{early:,} handlers started early"
    if soonest < NEVER:
        text += f"; the most punctual {soonest.total_seconds() * 1000:.2f} ms after its due time"
    return Check(not early, text)

"""Judges a run by the log outside the database: what must hold whatever the fault was."""

from __future__ import annotations

from typing import NamedTuple

from tests.faults.table import Record
from tests.processes.fleet import Child, Fleet, wait_until
from tests.processes.oracle import Line, repeated

__all__ = ["Held", "Verdict", "finish", "judge", "waits"]

Held = dict[int, dict[str, int]]  # by process: the due times (µs) of what it held when it ended


class Verdict(NamedTuple):
    """What a run came to."""

    asked: set[str]
    runs: dict[str, list[Line]]
    lost: set[str]
    doubled: dict[str, list[Line]]
    total: dict[str, int]


def finish(fleet: Fleet, seconds: float = 60.0) -> None:
    """Stop those that schedule, let a fresh node run what is left, and wait until all is settled.

    The fresh node is the only one left.
    """
    fleet.start_ready(1)
    fleet.stop(*fleet.running()[:-1])
    settled(fleet, seconds)


def settled(fleet: Fleet, seconds: float = 60.0) -> None:
    """Wait until all that was acknowledged was run to an end and nothing waits."""

    def all_ended() -> bool:
        through = fleet.oracle.ids("ended") | cancelled(fleet)
        return fleet.oracle.ids("asked") <= through

    wait_until(lambda: all_ended() or fleet.empty(), seconds, "all is run")
    wait_until(fleet.empty, seconds, "all is settled")


def cancelled(fleet: Fleet) -> set[str]:
    return {line.id for line in fleet.oracle.lines("answer") if line.note == "cancelled"}


def judge(fleet: Fleet, record: Record, *, exact: bool = False, early: int = 0) -> Verdict:
    """Stop all, check what must always hold, and write down the sums.

    Nothing lost; nothing left; no attempt started twice; none begun before its time, nor after
    the result that stands; attempts bounded. With `exact` (no process was killed and no answer
    lost), the processes' own counters must add up, and nothing may have run twice. `early` is how
    far (µs) a node may err about the server's clock, where answers take long.
    """
    total = fleet.stop_all()
    asked, runs = fleet.oracle.ids("asked"), fleet.oracle.runs()
    dead = {event.id: event for event in fleet.dead()}
    ended = fleet.oracle.ids("ended")
    taken_back = cancelled(fleet)
    lost = asked - ended - taken_back - dead.keys()
    doubled = repeated(runs)
    record.lost, record.doubled = len(lost), len(doubled)
    record.refused = (record.refused or 0) + total.get("stale", 0)
    assert not lost, f"lost: {sorted(lost)[:5]}"
    assert fleet.empty(), f"left: {fleet.counts()}"
    assert not started_twice(runs)
    assert not taken_back & runs.keys(), "started though cancelled"
    assert not fleet.early(early)
    settings = fleet.scheduler.settings
    most = 1 + settings.retries + settings.max_crashes
    assert max((line.attempt for lines in runs.values() for line in lines), default=0) <= most
    for event_id, event in dead.items():
        if event.kind == "mark":
            assert event.reason == standing(runs[event_id]), "a late result stands"
    if exact:
        assert not doubled
        ours = fleet.scheduler.tally
        made = total["scheduled"] + ours.scheduled
        gone = total["done"] + total["dead"] + total["cancelled"] + ours.cancelled
        assert made == gone, f"{made} made, {gone} gone: {total}"
        assert total["rescued"] == total["stale"] == total["dropped"] == 0
    assert not fleet.oracle.lines("error")
    return Verdict(asked, runs, lost, doubled, total)


def started_twice(runs: dict[str, list[Line]]) -> list[str]:
    """Return the events of which one claim, or an attempt of one number, was started twice."""
    return [
        event_id
        for event_id, lines in runs.items()
        if min(len({line.claim for line in lines}), len({line.attempt for line in lines}))
        < len(lines)
    ]


def standing(runs: list[Line]) -> str:
    """Return what the handler `mark` of the newest attempt leaves in the store."""
    newest = max(runs, key=lambda line: line.attempt)
    return f"{newest.pid} {newest.attempt}"


def waits(fleet: Fleet, victims: list[Child], held: Held) -> list[float]:
    """Return for each killed process how long (s) the last event that it held had to wait.

    Counted from the kill, or from the due time where that came later, to the next start.
    """
    runs = fleet.oracle.runs()
    longest = []
    for victim in victims:
        late = [
            min(later) - max(victim.killed_at, due)
            for event_id, due in held[victim.pid].items()
            if (later := [line.at for line in runs[event_id] if line.at > victim.killed_at])
        ]
        longest.append(max(late, default=0) / 1e6)
    return longest

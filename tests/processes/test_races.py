"""Cancel and reschedule around the due time: what they answered is what happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes.fleet import SCALE, Fleet, scaled, wait_until
from tests.processes.oracle import by_id, repeated
from tests.processes.races import AROUND, around

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

RATE = 1_500  # events a second
LATER = 1.0


def spread(fleet: Fleet, count: int) -> dict[str, int]:
    """Schedule events at an even rate; return due times (µs) by id."""
    return fleet.schedule([{"kind": "note", "after": 3 + i / RATE} for i in range(count)])


def race(fleet: Fleet, role: str, count: int) -> tuple[dict[str, int], set[int]]:
    """Let a process that is a node, and one that is none, each act on half of the events.

    Returns the due times (µs) by id, and the processes that acted.
    """
    fleet.start_ready(1)
    due = spread(fleet, count)
    halves = list(due.items())[::2], list(due.items())[1::2]
    actors = [
        fleet.start(role, list=around(fleet, f"{i}.json", half), threads=24, is_node=i, later=LATER)
        for i, half in enumerate(halves)
    ]
    fleet.ready(*actors)
    assert min(due.values()) - fleet.oracle.lines("ready")[-1].at > 2 * AROUND, "too slow a start"
    wait_until(lambda: fleet.oracle.count("finished") == 2, 60, "all were acted on")
    wait_until(fleet.empty, 20, "all events are settled")
    return due, {actor.pid for actor in actors}


def told(fleet: Fleet, count: int, actors: set[int], good: str) -> set[str]:
    """Return the ids that got the good answer; both answers must occur in each process."""
    answers = by_id(fleet.oracle.lines("answer"))
    assert len(answers) == count
    print()
    for pid in actors:
        tally: dict[str, int] = {}
        for line in answers.values():
            if line.pid == pid:
                tally[line.note] = tally.get(line.note, 0) + 1
        print(f"process {pid}: {tally}")
        assert tally.keys() <= {good, "in_flight", "unknown"}
        assert tally.get(good, 0) > count / 200, "too few: this test was blind"
        assert tally.get("in_flight", 0) > 0
    return {line.id for line in answers.values() if line.note == good}


def test_no_cancelled_event_starts(launch: Callable[..., Fleet]) -> None:
    """Of 10,000 events cancelled within ± 50 ms of their due time, none starts that was cancelled.

    And every other one runs exactly once.
    """
    fleet = launch()
    count = scaled(10_000)
    due, actors = race(fleet, "cancel", count)
    cancelled = told(fleet, count, actors, "cancelled")
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    assert not cancelled & runs.keys()
    assert runs.keys() == due.keys() - cancelled
    assert not repeated(runs)
    assert not fleet.early()
    assert total["cancelled"] == len(cancelled)
    assert total["done"] == count - len(cancelled)


def test_no_moved_event_starts_at_its_old_time(launch: Callable[..., Fleet]) -> None:
    """Events moved within ± 50 ms of their due time start once: then, or at the new time."""
    fleet = launch()
    count = scaled(3_000)
    due, actors = race(fleet, "move", count)
    moved = told(fleet, count, actors, "rescheduled")
    fleet.stop_all()
    runs = fleet.oracle.runs()
    assert runs.keys() == due.keys()
    assert not repeated(runs)
    early = {
        event_id: line.at - due[event_id]
        for event_id, (line,) in runs.items()
        if line.at < due[event_id] + (LATER * 1e6 if event_id in moved else 0)
    }
    late = {
        event_id: line.at - due[event_id]
        for event_id, (line,) in runs.items()
        if event_id not in moved and line.at > due[event_id] + LATER * 1e6
    }
    assert not early
    assert not late

"""Many at once: one id from everywhere, cancels at the due time, fifty nodes in one moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.judge import judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Fleet, crowd, wait_until
from tests.processes.oracle import by_id, micros
from tests.processes.places import ServerPlace
from tests.processes.races import AROUND, around

pytestmark = pytest.mark.processes

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2, "beater": False}
# Where no node is to be held for dead: on a crowded machine one may get no processor for seconds.
PATIENT = {**USUAL, "lease": 20.0}


def patience(seconds: float) -> float:
    """Return how long (s) processes may take to start, on a machine that does much else."""
    return min(30.0, seconds * crowd())


@pytest.mark.timeout(300)
@pytest.mark.fault(42, "cancel at the due time ± 50 ms")
def test_no_cancelled_event_starts(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Of events cancelled within ± 50 ms of their due time, none starts that was cancelled."""
    fleet = launch(place, **PATIENT)
    count, rate = size(1_000, 10_000), size(400, 500)
    fleet.start_ready(1)
    due = fleet.schedule([{"kind": "note", "after": patience(5) + i / rate} for i in range(count)])
    halves = list(due.items())[::2], list(due.items())[1::2]
    actors = [
        fleet.start("cancel", list=around(fleet, f"{i}.json", half), threads=16, is_node=i)
        for i, half in enumerate(halves)
    ]
    fleet.ready(*actors)
    assert min(due.values()) - fleet.oracle.lines("ready")[-1].at > 2 * AROUND, "too slow a start"
    wait_until(lambda: fleet.oracle.count("finished") == 2, count / rate + 90, "all were acted on")
    wait_until(fleet.empty, 30, "all events are settled")
    answers = by_id(fleet.oracle.lines("answer"))
    taken = {line.id for line in answers.values() if line.note == "cancelled"}
    runs = judge(fleet, fault, exact=True).runs
    fault.seen, fault.refused = len(taken), len(answers) - len(taken)
    fault.note = f"{len(taken)} cancelled, {len(answers) - len(taken)} heard that it was too late"
    assert {line.note for line in answers.values()} <= {"cancelled", "in_flight", "unknown"}
    assert runs.keys() == due.keys() - taken
    assert len(taken) > count / 200
    assert any(line.note == "in_flight" for line in answers.values()), "this test was blind"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(41, "one id from 50 threads at once")
def test_a_storm_of_one_id_makes_one_event(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Fifty threads in five processes that schedule the same ids make one event of each."""
    fleet = launch(place, **USUAL)
    rounds = size(40, 200)
    begin = micros() + int(patience(6) * 1e6)
    actors = [
        fleet.start("storm", threads=10, rounds=rounds, begin=begin, pace=0.05) for _ in range(5)
    ]
    fleet.ready(*actors)
    assert micros() < begin, "too slow a start"
    wait_until(lambda: fleet.oracle.count("finished") == 5, rounds / 20 + 120, "all have asked")
    created: dict[str, int] = {}
    told: dict[str, set[str]] = {}
    for line in fleet.oracle.lines("stormed"):
        is_new, event = line.note.split(" ", 1)
        created[line.id] = created.get(line.id, 0) + (is_new == "True")
        told.setdefault(line.id, set()).add(event)
    asked = fleet.oracle.count("stormed")
    fault.seen, fault.refused = asked, asked - sum(created.values())
    assert asked == rounds * 50
    assert set(created.values()) == {1}
    assert {len(answers) for answers in told.values()} == {1}, "not all heard of the same"
    assert fleet.counts().scheduled == {"note": rounds}
    fleet.start_ready(1)
    wait_until(lambda: fleet.oracle.ids("ended") >= created.keys(), 60, "all are run")
    settled(fleet)
    judge(fleet, fault)
    fault.refused = asked - sum(created.values())
    fault.note = f"{rounds} ids, {asked} asked for them"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(44, "fifty nodes start together")
def test_fifty_nodes_start_together(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Fifty nodes that start in one moment share the events; idle, each asks the server little.

    Fifty processes would be more than the machine: ten nodes are threads of each of five.
    """
    fleet = launch(place, **USUAL)
    nodes = size(20, 50)
    children = [fleet.start("nodes", count=nodes // 5) for _ in range(5)]
    fleet.ready(*children)
    wait_until(lambda: len(place.rows("SELECT number FROM nodes")) == nodes, 60, "all are there")
    fault.seen = nodes
    joined = [int(line.note) for line in fleet.oracle.lines("joined")]
    count = size(2_000, 10_000)
    due = fleet.schedule([{"kind": "note", "after": 2 + i / 500} for i in range(count)])
    wait_until(lambda: fleet.oracle.count("ended") >= count, count / 500 + 60, "all are run")
    settled(fleet)
    before, since = queries(place), micros()
    wait_until(lambda: micros() - since > 6_000_000, 20, "an idle while")
    rate = (queries(place) - before) / ((micros() - since) / 1e6) / nodes
    total = judge(fleet, fault).total
    runs = fleet.oracle.runs()
    owners = {line.claim >> 32 for (line,) in runs.values()}
    fault.note = (
        f"{nodes} nodes as threads of 5 processes joined within {spread_of(joined):.1f} s; "
        f"{len(owners)} of them ran something; idle {rate:.1f} statements/s a node at poll 0.2 s"
    )
    assert runs.keys() == due.keys()
    assert max(map(len, runs.values())) == 1
    assert total["stale"] == 0
    # A beat (twice a second) is a write and a look at the clock, a poll (five a second) a look.
    assert rate <= 25


def spread_of(moments: list[int]) -> float:
    """Return the seconds between the first and the last."""
    return (max(moments) - min(moments)) / 1e6


def queries(place: ServerPlace) -> int:
    """Return how many statements or transactions the server has counted."""
    if place.kind == "postgresql":
        asked = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
        return int(place.rows(asked, place.database)[0][0])
    return int(place.rows("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

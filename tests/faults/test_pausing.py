"""Nodes that stand still for longer than their lease and go on: whatever they say then is late."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.faults.judge import judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Child, Fleet, wait_until
from tests.processes.oracle import micros
from tests.processes.places import ServerPlace

pytestmark = pytest.mark.processes

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
LEASE = 1.0
QUICK: dict[str, Any] = {"lease": LEASE, "beat": 0.15, "margin": 0.3, "poll": 0.1}
# A second run lasts so long that the late result of the first comes while it holds the event.
AGAIN = {"nap_again": 2.0 * LEASE}
LOAD: dict[str, Any] = {"feed": 40, "kind": "mark", "nap": 0.1, "spread": 0.3, "payload": AGAIN}


@pytest.mark.timeout(900)
@pytest.mark.fault(2, "nodes paused, SIGSTOP")
def test_a_late_result_changes_nothing(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """What a node says after it was held for dead is refused, and the second run's result stands.

    Every handler leaves in the store who ran it, so the store itself tells whose result stands.
    """
    fleet = launch(place, **QUICK, max_crashes=1000, beater=False)
    nodes = fleet.start_ready(size(4, 7), **LOAD)
    while fault.seen < size(4, 200):
        victims = random.sample(nodes, len(nodes) - 2)
        pause(fleet, victims)
        fault.seen += len(victims)
        wait_until(partial(all_fired, fleet, nodes, micros()), 60, "everyone fires again")
    fleet.start_ready(1)
    fleet.stop(*nodes)
    settled(fleet)
    verdict = judge(fleet, fault)
    late, dropped = verdict.total["stale"], verdict.total["dropped"]
    fault.note = (
        f"{len(verdict.asked)} events, {len(verdict.doubled)} run again, {late} late results "
        f"refused, 0 accepted, {dropped} not begun and let go"
    )
    assert late > 0, "no result came late: this test was blind"
    assert verdict.asked <= {event.id for event in fleet.dead()}


def pause(fleet: Fleet, victims: list[Child]) -> None:
    """Stop processes while they run handlers, for more than two leases, and let them go on."""
    goal = fleet.oracle.count("began") + random.randrange(5, 50)
    wait_until(lambda: fleet.oracle.count("began") >= goal, 60, "events are fired")
    for victim in victims:
        victim.signal(signal.SIGSTOP)
    since = micros()
    wait_until(lambda: micros() - since >= 2.5e6 * LEASE, 30, "more than two leases have passed")
    for victim in victims:
        victim.signal(signal.SIGCONT)


def all_fired(fleet: Fleet, nodes: list[Child], since: int) -> bool:
    """Tell whether each of these has started a handler since then."""
    return {node.pid for node in nodes} <= {
        line.pid for line in fleet.oracle.lines("began") if line.at > since
    }


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(4, "handler holds the interpreter")
def test_a_held_interpreter_is_survived(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """A handler that computes for two leases costs the lease where nobody beats for its node.

    Its late results are refused. With the process that stands by to beat, nothing runs twice.
    """
    fleet = launch(place, lease=2.0, beat=0.3, margin=0.5, poll=0.1, max_crashes=1000)
    alone = fleet.start_ready(2, settings={"beater": False})
    for _ in range(size(2, 6)):
        fleet.schedule([{"kind": "spin", "payload": {"seconds": 4.0}}])
        fleet.schedule([{"kind": "mark", "after": i / 100} for i in range(300)])
        settled(fleet)
        fault.seen += 1
    fleet.stop(*alone)
    unbeaten = fleet.oracle.runs()
    assert len(fleet.oracle.lines("tally")) == 2
    fleet.start_ready(2)
    for _ in range(size(1, 4)):
        fleet.schedule([{"kind": "spin", "payload": {"seconds": 4.0}}])
        fleet.schedule([{"kind": "mark", "after": i / 100} for i in range(300)])
        settled(fleet)
        fault.seen += 1
    verdict = judge(fleet, fault)
    beaten = {
        event_id: lines for event_id, lines in verdict.runs.items() if event_id not in unbeaten
    }
    fault.note = f"{verdict.total['stale']} late results refused without the beater, none with it"
    assert verdict.total["stale"] > 0, "no result came late: this test was blind"
    assert max(map(len, beaten.values())) == 1

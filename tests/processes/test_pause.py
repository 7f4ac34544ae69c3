"""Nodes that are stopped for longer than their lease and go on: whatever they say then is late."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes.fleet import SCALE, Child, Fleet, scaled, wait_until
from tests.processes.oracle import Line, micros

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

LEASE = 1.0
# A second run lasts so long that the late result of the first comes while it holds the event.
AGAIN = {"nap_again": 2.0 * LEASE}
LOAD: dict[str, Any] = {"feed": 60, "kind": "mark", "nap": 0.1, "spread": 0.3, "payload": AGAIN}


def pause(fleet: Fleet, victims: list[Child]) -> None:
    """Stop processes while they run handlers, for three leases, and let them go on."""
    goal = fleet.oracle.count("began") + random.randrange(5, 50)
    wait_until(lambda: fleet.oracle.count("began") >= goal, 30, "events are fired")
    for victim in victims:
        victim.signal(signal.SIGSTOP)
    # By the clock: who is stopped inside a write transaction keeps all the others waiting, too.
    since = micros()
    wait_until(lambda: micros() - since >= 3e6 * LEASE, 30, "three leases have passed")
    for victim in victims:
        victim.signal(signal.SIGCONT)


def test_a_late_result_changes_nothing(launch: Callable[..., Fleet]) -> None:
    """What a node says after it was held for dead is refused, and the second run's result stands.

    Every handler leaves in the store who ran it, so the store itself tells whose result stands.
    """
    fleet = launch(lease=LEASE, beat=0.15, margin=0.3, max_crashes=1000)
    fleet.scheduler.store.migrate()
    nodes = fleet.start_ready(5, **LOAD)
    for _ in range(scaled(5)):
        pause(fleet, random.sample(nodes, 3))
        wait_for_all(fleet, nodes)
    fleet.start_ready(1)
    fleet.stop(*nodes)
    asked = fleet.oracle.ids("asked")
    wait_until(fleet.empty, 60, "every event is settled")
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    dead = {event.id: event for event in fleet.dead()}
    wrong = {
        event_id: (event.reason, [(run.pid, run.attempt) for run in runs[event_id]])
        for event_id, event in dead.items()
        if event.reason != standing(runs[event_id])
    }
    again = sum(1 for lines in runs.values() if len(lines) > 1)
    late = total["stale"]
    print(
        f"\n{scaled(5) * 3} pauses of {3 * LEASE} s, {len(asked)} events, {again} run again; late "
        f"results refused: {late}, accepted: {len(wrong)}; not begun and let go: {total['dropped']}"
    )
    assert asked == dead.keys() & asked, "lost"
    assert not wrong
    assert not overlapping(runs)
    assert late >= scaled(5), "too few late results: this test was blind"
    assert again >= scaled(5)


def wait_for_all(fleet: Fleet, nodes: list[Child]) -> None:
    """Wait until every node has fired again."""
    since = micros()
    wait_until(
        lambda: (
            {node.pid for node in nodes}
            <= {line.pid for line in fleet.oracle.lines("began") if line.at > since}
        ),
        30,
        "everyone fires again",
    )


def standing(runs: list[Line]) -> str:
    """Return what the handler of the newest claim leaves in the store."""
    newest = max(runs, key=lambda line: line.attempt)
    return f"{newest.pid} {newest.attempt}"


def overlapping(runs: dict[str, list[Line]]) -> list[str]:
    """Return the events that were started twice under one claim."""
    return [
        event_id
        for event_id, lines in runs.items()
        if len({(line.claim, line.attempt) for line in lines}) < len(lines)
    ]

"""Nodes that are killed at any moment: nothing is lost, and only what was in flight runs twice."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes.fleet import SCALE, Child, Fleet, crowd, scaled, wait_until
from tests.processes.oracle import Line, repeated

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240 * max(1, SCALE))]

LEASE, BEAT, POLL = 2.0, 0.3, 0.1
# From the kill to the start elsewhere: the promise is LEASE + POLL + 1; the rest is for a busy
# machine, and still less than two leases.
TAKE_OVER = LEASE + POLL + 1.0 + 0.5
LOAD: dict[str, Any] = {"feed": 60, "kind": "note", "nap": 0.02, "spread": 0.4}


def kill_at_random(fleet: Fleet, child: Child) -> dict[str, int]:
    """Kill a process after a random number of further starts; return what it held."""
    wait_for_more(fleet, random.randrange(10, 80))
    child.kill()
    return fleet.held_by(child)


def wait_for_more(fleet: Fleet, starts: int) -> None:
    """Wait until so many more handlers were started."""
    goal = fleet.oracle.count("began") + starts
    wait_until(lambda: fleet.oracle.count("began") >= goal, 60, "events go on being fired")


def not_in_flight(
    fleet: Fleet, runs: dict[str, list[Line]], held: dict[int, dict[str, int]]
) -> list[str]:
    """Return repeated events of which an earlier run was not in flight at the kill of its process.

    In flight is what the killed process held by its claims, whether run or not; a process that
    got no processor for a whole lease has another number since, and held nothing any more.
    """
    numbers: dict[int, int] = {}
    for line in fleet.oracle.lines("began"):
        numbers[line.pid] = max(numbers.get(line.pid, 0), line.claim >> 32)
    return [
        f"{event_id}, run by {line.pid}"
        for event_id, lines in repeated(runs).items()
        for line in lines[:-1]
        if event_id not in held.get(line.pid, ()) and line.claim >> 32 == numbers[line.pid]
    ]


def test_fifty_kills_lose_nothing(launch: Callable[..., Fleet]) -> None:
    """Fifty kills at random points lose no event and repeat only what was in flight."""
    fleet = launch(lease=3.0, beat=BEAT, margin=0.5, poll=POLL, max_crashes=1000, beater=False)
    fleet.scheduler.store.migrate()
    victims = fleet.start_ready(4, **LOAD)
    held: dict[int, dict[str, int]] = {}
    for _ in range(scaled(40)):
        victim = victims.pop(random.randrange(len(victims)))
        held[victim.pid] = kill_at_random(fleet, victim)
        victims.append(fleet.start(**LOAD))
    fleet.ready(*victims)
    for _ in range(2):  # and all at once, so that nobody is left to notice
        held |= kill_all(fleet)
        fleet.start_ready(4, **LOAD)
    for child in fleet.running()[:2]:
        held[child.pid] = kill_at_random(fleet, child)
    fleet.start_ready(1)
    fleet.stop(*fleet.running()[:-1])
    asked = fleet.oracle.ids("asked")
    wait_until(lambda: asked <= fleet.oracle.ids("ended"), 60, "every event was run to its end")
    wait_until(fleet.empty, 10, "every event is settled")
    fleet.stop_all()
    runs = fleet.oracle.runs()
    killed = sum(1 for child in fleet.children if child.killed_at)
    print(
        f"\n{killed} kills, {len(asked)} events, {len(asked - runs.keys())} lost, "
        f"{len(repeated(runs))} repeated, {sum(map(len, held.values()))} held at a kill"
    )
    assert killed >= 50
    assert not asked - runs.keys()
    assert not not_in_flight(fleet, runs, held)
    assert sum(map(len, held.values())) > killed, "the kills hit nobody: this test saw nothing"
    assert not fleet.dead()
    assert not fleet.early()
    assert not fleet.integrity()


def kill_all(fleet: Fleet) -> dict[int, dict[str, int]]:
    """Kill every process in the same moment; return what each held."""
    everyone = fleet.running()
    wait_for_more(fleet, random.randrange(50, 200))
    for child in everyone:
        child.signal(signal.SIGKILL)
    for child in everyone:
        child.kill()
    return {child.pid: fleet.held_by(child) for child in everyone}


def test_a_killed_node_is_replaced_in_time(launch: Callable[..., Fleet]) -> None:
    """What a killed node held starts elsewhere within lease + poll + 1 s."""
    fleet = launch(lease=LEASE, beat=BEAT, margin=0.5, poll=POLL, max_crashes=1000)
    fleet.scheduler.store.migrate()
    load = {**LOAD, "nap": 0.1}  # long enough for every kill to hit something
    victims = fleet.start_ready(6, **load)
    slowest = []
    for _ in range(scaled(5)):
        wait_for_more(fleet, random.randrange(20, 80))
        victim = busiest(fleet, victims)
        victim.kill()
        victims.remove(victim)
        held = fleet.held_by(victim)
        wait_for_restart(fleet, victim, held)
        waits = [
            line.at - max(victim.killed_at, held[line.id])
            for line in fleet.oracle.lines("began")
            if line.id in held and line.at > victim.killed_at
        ]
        slowest.append(max(waits, default=0) / 1e6)
        if len(victims) < 3:
            victims += fleet.start_ready(1, **load)
    fleet.stop_all()
    print(f"\ntake-over at a lease of {LEASE} s: {', '.join(f'{s:.2f} s' for s in slowest)}")
    assert max(slowest) > LEASE / 2, "the kills hit nobody: this test saw nothing"
    assert max(slowest) <= TAKE_OVER * crowd()


def busiest(fleet: Fleet, children: list[Child]) -> Child:
    """Return the process that runs the most handlers at this moment."""
    ended = {(line.id, line.claim) for line in fleet.oracle.lines("ended")}
    running = Counter(
        line.pid for line in fleet.oracle.lines("began") if (line.id, line.claim) not in ended
    )
    return max(children, key=lambda child: running[child.pid])


def wait_for_restart(fleet: Fleet, victim: Child, held: dict[str, int]) -> None:
    """Wait until all that a killed process held was started elsewhere."""
    wait_until(lambda: held.keys() <= restarted(fleet, victim), 2 * LEASE + 30, "all taken over")


def restarted(fleet: Fleet, victim: Child) -> set[str]:
    """Return the events that were started since a process was killed."""
    return {line.id for line in fleet.oracle.lines("began") if line.at > victim.killed_at}

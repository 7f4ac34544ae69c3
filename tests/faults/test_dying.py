"""Nodes and servers that die, nodes that are restarted in turn, events that kill their node."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.faults.judge import Held, finish, judge, settled, waits
from tests.faults.table import Record
from tests.processes.fleet import Child, Fleet, crowd, wait_until
from tests.processes.oracle import micros
from tests.processes.places import ServerPlace, place_on
from tests.servers.local import LocalServer

pytestmark = pytest.mark.processes

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
QUICK: dict[str, Any] = {"lease": 1.0, "beat": 0.2, "margin": 0.3, "poll": 0.1}
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2}
# Where no node is to be held for dead: on a crowded machine one may get no processor for seconds.
PATIENT = {**USUAL, "lease": 20.0}
LOAD: dict[str, Any] = {"feed": 60, "kind": "note", "nap": 0.05, "spread": 0.4}


def more_starts(fleet: Fleet, starts: int) -> None:
    """Wait until so many more handlers were started."""
    goal = fleet.oracle.count("began") + starts
    wait_until(lambda: fleet.oracle.count("began") >= goal, 60, "events go on being fired")


@pytest.mark.timeout(600)
@pytest.mark.fault(1, "node killed, kill -9")
def test_killed_nodes_lose_nothing(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Killed at random points, nodes lose nothing, and what they held starts elsewhere in time."""
    settings = QUICK if size(1, 0) else USUAL
    fleet = launch(place, **settings, max_crashes=1000, beater=False)
    nodes = fleet.start_ready(size(3, 4), **LOAD)
    held: Held = {}
    # One at a time first: after a second kill within a lease an event waits for two take-overs.
    alone = [killed_alone(fleet, nodes, held) for _ in range(size(2, 8))]
    slowest = max(waits(fleet, alone, held))
    victims = list(alone)
    for _ in range(size(3, 44)):
        more_starts(fleet, random.randrange(10, 60))
        victim = nodes.pop(random.randrange(len(nodes)))
        victim.kill()
        held[victim.pid] = fleet.held_by(victim)
        victims.append(victim)
        nodes.append(fleet.start(**LOAD))
    fleet.ready(*nodes)
    finish(fleet)
    verdict = judge(fleet, fault)
    fault.seen = sum(1 for victim in victims if held[victim.pid])
    fault.take_over = slowest
    in_flight = sum(map(len, held.values()))
    fault.note = f"{len(victims)} kills, {len(verdict.asked)} events, {in_flight} held at a kill"
    assert len(verdict.doubled) <= in_flight
    assert slowest <= (settings["lease"] + settings["poll"] + 1.5) * crowd()
    assert slowest <= 5 * crowd()


def killed_alone(fleet: Fleet, nodes: list[Child], held: Held) -> Child:
    """Kill a node that holds something, see all of that start elsewhere, start another node."""
    more_starts(fleet, random.randrange(20, 60))
    victim = nodes.pop(0)
    wait_until(lambda: fleet.held_by(victim), 30, "it holds something")
    victim.kill()
    mine = held[victim.pid] = fleet.held_by(victim)

    def all_restarted() -> bool:
        since = [line for line in fleet.oracle.lines("began") if line.at > victim.killed_at]
        return mine.keys() <= {line.id for line in since}

    wait_until(all_restarted, 60, "what it held starts elsewhere")
    nodes.append(fleet.start_ready(1, **LOAD)[0])
    return victim


@pytest.mark.timeout(600)
@pytest.mark.fault(12, "server crashes, starts again")
def test_a_crash_of_the_server_loses_nothing(
    launch: Launch, serve: Callable[..., LocalServer], fault: Record, size: Size
) -> None:
    """What was acknowledged before the server died is there after it, and nodes go on in time."""
    server = serve()
    place = place_on(server.address)
    fleet = launch(place, **USUAL, max_crashes=1000, beater=False, retries=1000)
    fleet.start_ready(3, named=True, **LOAD)
    resumed = []
    for _ in range(size(1, 8)):
        more_starts(fleet, random.randrange(60, 200))
        server.crash()
        fault.seen += 1
        time.sleep(random.uniform(0.2, 2.0))  # a server is away for a while
        server.start()
        ready = micros()
        wait_until(partial(resumed_since, fleet, ready), 30, "events are fired again")
        first = min(line.at for line in fleet.oracle.lines("began") if line.at > ready)
        resumed.append((first - ready) / 1e6)
    finish(fleet)
    verdict = judge(fleet, fault)
    fault.take_over = max(resumed)
    fault.note = f"{len(verdict.asked)} events; take-over is from ready to the first start"
    assert max(resumed) <= 5 * crowd()


def resumed_since(fleet: Fleet, since: int) -> bool:
    """Tell whether every node has fired and something was acknowledged since then."""
    fired = {line.pid for line in fleet.oracle.lines("began") if line.at > since}
    stored = any(line.at > since for line in fleet.oracle.lines("asked"))
    return stored and fired >= {child.pid for child in fleet.running()}


@pytest.mark.timeout(600)
@pytest.mark.fault(37, "rolling restart, SIGTERM")
def test_a_rolling_restart_repeats_nothing(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Nodes that are stopped and started in turn under load lose nothing and run nothing twice."""
    fleet = launch(place, **PATIENT)
    nodes = fleet.start_ready(3, **LOAD)
    kinds = ("note", "async", "batch")
    fleet.schedule(
        [
            {"kind": kinds[i % 3], "payload": {"nap": 0.03}, "after": i / 200}
            for i in range(size(1_000, 5_000))
        ]
    )
    for _ in range(size(5, 24)):
        more_starts(fleet, 200 if size(0, 1) else 40)
        oldest = nodes.pop(0)
        nodes.append(fleet.start(**LOAD))
        fleet.stop(oldest)
        fault.seen += 1
    finish(fleet)
    verdict = judge(fleet, fault, exact=True)
    given = verdict.total["given_back"]
    fault.note = f"{len(verdict.asked)} events, {given} claims given back"
    assert given > 0, "nothing was held at a stop"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(29, "events that kill their node")
def test_poison_dies_and_the_innocent_live(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """An event that kills its node is dead after three deaths; hardly another one is late."""
    fleet = launch(place, **QUICK, beater=False)
    fleet.start_ready(5)
    count, rate = size(800, 5_000), size(80, 120)
    due = fleet.schedule([{"kind": "note", "after": 0.5 + i / rate} for i in range(count)])
    poison: set[str] = set()
    for at in (2, 14, 26)[: size(1, 3)]:
        poison |= fleet.schedule([{"kind": "kill", "after": at}]).keys()
    deaths: list[Child] = []

    def supervise() -> bool:
        for child in [child for child in fleet.children if not child.alive]:
            if child not in deaths:
                deaths.append(child)
                fleet.start()
        return fleet.oracle.ids("ended") >= due.keys()

    wait_until(supervise, count / rate + 60, "all innocent events are run")
    wait_until(lambda: supervise() and fleet.empty(), 30, "all are settled")
    fleet.ready(*fleet.running())
    runs = judge(fleet, fault).runs
    dead = {event.id: event for event in fleet.dead()}
    lateness = [runs[event_id][-1].at - moment for event_id, moment in due.items()]
    on_time = sum(1 for late in lateness if late <= 1_000_000 * crowd()) / count
    fault.seen = len(deaths)
    fault.take_over = max(lateness) / 1e6
    fault.note = f"{on_time:.2%} of {count} others started in time; take-over is the latest"
    assert dead.keys() == poison, "an innocent event died, or the poison did not"
    assert all(len(runs[event_id]) == 3 for event_id in poison)
    assert on_time >= 0.95


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.fault(13, "server down, 100,000 fall due")
def test_a_herd_is_drained(
    launch: Launch, serve: Callable[..., LocalServer], fault: Record, size: Size
) -> None:
    """What fell due while the server was away is run once, about as fast as at any other time."""
    server = serve()
    place = place_on(server.address)
    fleet = launch(place, **USUAL, beater=False)
    nodes = fleet.start_ready(3)
    count = size(10_000, 100_000)
    first = drained(fleet, nodes, count, away=None)
    before = micros()
    second = drained(fleet, nodes, count, away=server)
    fault.seen = count
    fault.take_over = second.first
    again = [line.pid for line in fleet.oracle.lines("began") if line.at > before]
    verdict = judge(fleet, fault, exact=False)
    fault.note = (
        f"{first.rate:,.0f} events/s with the server up, {second.rate:,.0f} after it was away; "
        "take-over is from ready to the first start"
    )
    assert not verdict.doubled
    assert {child.pid for child in nodes} == set(again)
    assert second.first <= 5 * crowd()
    assert second.rate >= 0.6 * first.rate  # 80 % is the aim; a shared machine wavers


class Drain:
    """How fast a backlog went."""

    def __init__(self, first: float, rate: float) -> None:
        self.first = first  # s until the first start
        self.rate = rate  # starts/s from then on


def drained(fleet: Fleet, nodes: list[Child], count: int, away: LocalServer | None) -> Drain:
    """Let so many events fall due while the server is away, or else while all nodes stand still."""
    lead = (8.0 + count / 10_000) * min(4.0, crowd())
    if away is None:
        for node in nodes:
            node.signal(signal.SIGSTOP)
    due = fleet.schedule([{"kind": "batch", "after": lead} for _ in range(count)])
    moment = min(due.values())
    assert micros() < moment - 4_000_000, "too slow to store them"
    if away is not None:
        away.stop()
    wait_until(lambda: micros() > moment + 2_000_000, lead + 30, "all are due")
    if away is not None:
        away.start()
    since = micros()
    for node in nodes:
        node.signal(signal.SIGCONT)
    goal = fleet.oracle.count("ended") + count
    wait_until(lambda: fleet.oracle.count("ended") >= goal, 200, "all are run")
    settled(fleet)
    starts = [line.at for line in fleet.oracle.lines("began") if line.id in due]
    return Drain((min(starts) - since) / 1e6, count / max(0.001, (max(starts) - min(starts)) / 1e6))


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(0, "none: two nodes share 100,000")
def test_two_nodes_run_nothing_twice(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Two processes on one database run 100,000 events, each once and none before its time."""
    fleet = launch(place, **PATIENT)
    nodes = fleet.start_ready(2)
    count = size(10_000, 100_000)
    kinds = ("note", "async", "batch")
    fleet.schedule([{"kind": kinds[i % 3], "after": 5 + i / 4_000} for i in range(count)])
    wait_until(lambda: fleet.oracle.count("ended") >= count, 120, "all are run")
    settled(fleet)
    runs = judge(fleet, fault, exact=True).runs
    fault.seen = len(runs)
    shares = [sum(1 for (line,) in runs.values() if line.pid == node.pid) for node in nodes]
    fault.note = f"shares {shares}"
    assert min(shares) > count / 10

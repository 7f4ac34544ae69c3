"""Handlers that do their worst: the node lives, one attempt is counted, the others go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duetime import Event
from tests.processes.fleet import SCALE, Child, Fleet, scaled, wait_until
from tests.processes.oracle import repeated
from tests.processes.telling import HUGE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

LEASE = 1.0
QUICK = {"lease": LEASE, "beat": 0.15, "margin": 0.3}
LOUD = [
    "base",
    "interrupt",
    "mute",
    "memory",
    "stop",
    "group",
    "recursion",
    "sys.exit",
    "huge",
    "surrogate",
    "cancelled",
]
QUIET = ["fork", "mask"]
ON_TIME = 1_000_000  # µs
HOG = {"lease": 2.0, "beat": 0.3, "margin": 0.5}
HELD = 4.0  # seconds: two leases


def test_poison_is_dead_after_three_crashes(launch: Callable[..., Fleet]) -> None:
    """A handler that kills its process three times is dead, and the others are hardly late.

    Nodes are started again as a supervisor would; no innocent event dies.
    """
    fleet = launch(**QUICK, beater=False)
    fleet.start_ready(5)
    count, rate = scaled(800), 80
    due = fleet.schedule([{"kind": "note", "after": 0.5 + i / rate} for i in range(count)])
    poison = fleet.schedule([{"kind": "kill", "after": 1}])
    deaths: list[Child] = []

    def supervise() -> bool:
        for child in [child for child in fleet.children if not child.alive]:
            if child not in deaths:
                deaths.append(child)
                fleet.start()
        return fleet.oracle.ids("ended") >= due.keys()

    wait_until(supervise, count / rate + 40, "all innocent events are run")
    wait_until(lambda: supervise() and fleet.empty(), 20, "all are settled")
    fleet.ready(*fleet.running())
    fleet.stop_all()
    runs = fleet.oracle.runs()
    lateness = sorted(runs[event_id][-1].at - moment for event_id, moment in due.items())
    on_time = sum(1 for late in lateness if late <= ON_TIME) / count
    quick = sum(1 for late in lateness if late <= ON_TIME / 4) / count
    dead = {event.id: event for event in fleet.dead()}
    print(
        f"\n{len(deaths)} deaths; of {count} others {on_time:.1%} started within 1 s, {quick:.1%} "
        f"within 0.25 s, the last after {lateness[-1] / 1e6:.2f} s"
    )
    assert dead.keys() == poison.keys(), "an innocent event died, or the poison did not"
    assert all(len(runs[event_id]) == 3 for event_id in poison)
    assert all(event.crashes == 3 for event in dead.values())
    assert len(deaths) == 3 * len(poison)
    assert on_time >= 0.95
    assert not fleet.early()


@pytest.mark.parametrize("kind", ["misbehave", "misbehave.async"])
def test_whatever_is_raised_counts_one_attempt(launch: Callable[..., Fleet], kind: str) -> None:
    """Whatever a handler raises counts as one failed attempt, its text is cut, the node lives."""
    fleet = launch(retries=0)
    (node,) = fleet.start_ready(1)
    zoo = {}
    for how in [*LOUD, *QUIET]:
        event = fleet.scheduler.schedule(kind, {"how": how})
        zoo[event.id] = how
    wait_until(lambda: len(fleet.dead()) >= len(LOUD) and fleet.empty(), 30, "all are settled")
    after = fleet.schedule([{"kind": kind_of, "after": 0.1} for kind_of in ("note", "async") * 50])
    wait_until(lambda: fleet.oracle.ids("ended") >= after.keys(), 20, "the node goes on")
    wait_until(fleet.empty, 10, "all are settled")
    dead = {zoo[event.id]: event for event in fleet.dead()}
    assert node.alive
    assert dead.keys() == set(LOUD)
    runs = fleet.oracle.runs()
    assert not repeated(runs)
    assert {line.pid for lines in runs.values() for line in lines} == {node.pid}
    for how, event in dead.items():
        assert (event.attempt, event.failures, event.crashes) == (1, 1, 0), how
        assert is_short(event), how
    assert fleet.oracle.count("forked") == 1
    assert max(map(len, node.errors.read_text("utf-8", "replace").splitlines())) < 20_000
    fleet.stop_all()


def is_short(event: Event) -> bool:
    """Tell whether what is kept of an error is no longer than 4 KiB and a few words."""
    texts = [event.reason or "", *(entry.get("error", "") for entry in event.history)]
    return all(0 < len(text) <= 4096 + 100 < HUGE for text in texts)


def test_a_held_interpreter_costs_the_lease_and_nothing_else(launch: Callable[..., Fleet]) -> None:
    """A node that cannot beat while a handler computes loses its claims; late results are refused.

    This is without the process that stands by to beat for it.
    """
    fleet = launch(**HOG, beater=False)
    fleet.start_ready(2)
    everything: set[str] = set()
    for _ in range(5):  # one that begins inside a write transaction keeps the other waiting, too
        hogs = fleet.schedule([{"kind": "spin", "payload": {"seconds": HELD}}])
        others = fleet.schedule([{"kind": "mark", "after": i / 100} for i in range(300)])
        everything |= hogs.keys() | others.keys()
        wait_for_end(fleet, everything)
        if repeated(fleet.oracle.runs()):
            break
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    wrong = [
        event.id
        for event in fleet.dead()
        if event.reason != f"{runs[event.id][-1].pid} {runs[event.id][-1].attempt}"
    ]
    assert runs.keys() == everything
    assert {event.id for event in fleet.dead()} == everything
    assert total["stale"] > 0, "no result came late: this test saw nothing"
    assert total["rescued"] > 0
    assert not wrong


def wait_for_end(fleet: Fleet, ids: set[str]) -> None:
    """Wait until these events are run and nothing is left."""
    wait_until(lambda: fleet.oracle.ids("ended") >= ids and fleet.empty(), 60, "all is done")


def test_a_beater_keeps_the_lease_of_a_held_interpreter(launch: Callable[..., Fleet]) -> None:
    """While a handler computes for two leases, the process that stands by keeps the node alive."""
    fleet = launch(**HOG)
    fleet.start_ready(2)
    hogs = fleet.schedule([{"kind": "spin", "payload": {"seconds": HELD}}])
    wait_until(
        lambda: fleet.oracle.ids("ended") >= hogs.keys() and fleet.empty(), 40, "all is done"
    )
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    ends = {line.id: line.at for line in fleet.oracle.lines("ended")}
    assert min(ends[i] - lines[0].at for i, lines in runs.items()) > 0.7e6 * HELD, "not held"
    assert runs.keys() == hogs.keys()
    assert not repeated(runs)
    assert total["stale"] == total["rescued"] == 0

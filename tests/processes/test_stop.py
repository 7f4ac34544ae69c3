"""Stopping: handlers finish or are given back, and no event pays for it with a second run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from duetime import State
from tests.processes.fleet import SCALE, Fleet, scaled, wait_until
from tests.processes.oracle import micros, repeated

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

LONG = 20.0  # a lease so long that nothing is rescued while a test runs
PATIENT = {"lease": LONG, "beat": 0.5, "margin": 1.0}


def test_a_rolling_restart_repeats_nothing(launch: Callable[..., Fleet]) -> None:
    """Nodes that are stopped and started in turn under load lose nothing and run nothing twice."""
    fleet = launch(**PATIENT)
    fleet.scheduler.store.migrate()
    load: dict[str, Any] = {"feed": 60, "kind": "note", "nap": 0.05, "spread": 0.3}
    nodes = fleet.start_ready(3, **load)
    kinds = ("note", "async", "batch")
    others = fleet.schedule(
        [
            {"kind": kinds[i % 3], "payload": {"nap": 0.03}, "after": i / 250}
            for i in range(scaled(1_000))
        ]
    )
    restarts = 0
    while restarts < scaled(8):
        wait_for_more(fleet, 30)
        oldest = nodes.pop(0)
        nodes.append(fleet.start(**load))
        fleet.stop(oldest)
        restarts += 1
    fleet.start_ready(1)
    fleet.stop(*nodes)
    asked = fleet.oracle.ids("asked")
    wait_until(lambda: fleet.oracle.ids("ended") >= asked, 30, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    print(f"\n{restarts} restarts, {len(asked)} events, {total['given_back']} claims given back")
    assert asked >= others.keys()
    assert not repeated(runs)
    assert asked <= runs.keys()
    assert total["given_back"] > 0, "nothing was held at a stop: this test saw nothing"
    assert total["rescued"] == total["stale"] == total["dropped"] == 0
    assert not fleet.execute("SELECT number FROM nodes")
    assert not fleet.said("")


def wait_for_more(fleet: Fleet, starts: int) -> None:
    """Wait until so many more handlers were started."""
    goal = fleet.oracle.count("began") + starts
    wait_until(lambda: fleet.oracle.count("began") >= goal, 30, "events go on being fired")


def test_what_outlasts_the_grace_is_given_back(launch: Callable[..., Fleet]) -> None:
    """A handler that takes longer than the grace time is given back, and runs again at once."""
    fleet = launch(**PATIENT, grace=0.5)
    (node,) = fleet.start_ready(1)
    due = fleet.schedule(
        [{"kind": kind, "payload": {"nap": 30, "nap_again": 0}} for kind in ("note", "async") * 5]
    )
    wait_until(lambda: fleet.oracle.ids("began") >= due.keys(), 20, "all have begun")
    began = micros()
    fleet.stop(node)
    took = (micros() - began) / 1e6
    free = fleet.scheduler.find(state=State.SCHEDULED)
    assert {event.id for event in free} == due.keys()
    assert {(event.attempt, event.failures, event.crashes) for event in free} == {(1, 0, 0)}
    fleet.start_ready(1)
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), 20, "all are run again")
    wait_until(fleet.empty, 10, "all are settled")
    fleet.stop_all()
    assert took < 5
    assert {len(lines) for lines in fleet.oracle.runs().values()} == {2}


def test_a_second_signal_ends_the_grace(launch: Callable[..., Fleet]) -> None:
    """After the first signal a node waits for its handlers; a second one stops it at once."""
    fleet = launch(**PATIENT, grace=60.0)
    (node,) = fleet.start_ready(1)
    due = fleet.schedule([{"kind": "note", "payload": {"nap": 30}}] * 5)
    wait_until(lambda: fleet.oracle.ids("began") >= due.keys(), 20, "all have begun")
    began = micros()
    node.signal(signal.SIGTERM)
    node.signal(signal.SIGINT)  # another one, for two of a kind may become one
    assert node.process.wait(10) == 0
    assert (micros() - began) / 1e6 < 5
    assert {event.id for event in fleet.scheduler.find(state=State.SCHEDULED)} == due.keys()
    assert not fleet.execute("SELECT number FROM nodes")


def test_a_handler_within_the_grace_is_waited_for(launch: Callable[..., Fleet]) -> None:
    """A node that is told to stop waits for its running handlers, and begins no more."""
    fleet = launch(**PATIENT, grace=20.0)
    (node,) = fleet.start_ready(1)
    slow = fleet.schedule([{"kind": kind, "payload": {"nap": 1}} for kind in ("note", "async")])
    wait_until(lambda: fleet.oracle.ids("began") >= slow.keys(), 20, "all have begun")
    later = fleet.schedule([{"kind": "note", "after": 0.3}] * 20)
    fleet.stop(node)
    assert fleet.oracle.ids("ended") == slow.keys()
    assert not fleet.oracle.ids("began") & later.keys()
    assert {event.id for event in fleet.scheduler.find(state=State.SCHEDULED)} == later.keys()


def test_a_forked_child_is_refused(launch: Callable[..., Fleet]) -> None:
    """In a forked child every call raises LifecycleError, and the parent goes on unharmed."""
    fleet = launch()
    (node,) = fleet.start_ready(1, "fork")
    wait_until(lambda: fleet.oracle.count("finished"), 20, "the child has tried every call")
    answers = {line.id: line.note for line in fleet.oracle.lines("answer")}
    due = fleet.schedule([{"kind": kind, "after": 0.1} for kind in ("note", "async", "batch") * 50])
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), 20, "the parent fires")
    wait_until(fleet.empty, 10, "all are settled")
    fleet.stop_all()
    assert len(answers) == 13
    assert set(answers.values()) == {"LifecycleError forked"}
    assert {line.pid for line in fleet.oracle.lines("began")} == {node.pid}
    assert not repeated(fleet.oracle.runs())
    assert not fleet.integrity()
    assert not fleet.said("")

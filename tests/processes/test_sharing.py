"""Several processes on one file: they share the work, and hand out each event once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from duetime import Event
from tests.processes.fleet import SCALE, Fleet, scaled, wait_until
from tests.processes.oracle import repeated

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

KINDS = ("note", "async", "batch")


def test_four_processes_share_twenty_thousand(launch: Callable[..., Fleet]) -> None:
    """Four processes run 20,000 events, each exactly once and none before its time."""
    fleet = launch()
    count = scaled(20_000)
    nodes = fleet.start_ready(4)
    due = fleet.schedule(
        [{"kind": KINDS[i % 3], "after": 1.5 + 3 * SCALE * (i / count)} for i in range(count)]
    )
    wait_until(lambda: fleet.oracle.count("ended") >= count, 60, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    shares = [sum(1 for (line,) in runs.values() if line.pid == node.pid) for node in nodes]
    print(f"\n{len(runs)} events over four processes: {shares}")
    assert runs.keys() == due.keys()
    assert not repeated(runs)
    assert not fleet.early()
    assert min(shares) > count / 20
    assert total["done"] == total["fired"] == count
    assert total["stale"] == total["dropped"] == total["rescued"] == 0
    assert not fleet.dead()


def test_twelve_nodes_start_together(launch: Callable[..., Fleet]) -> None:
    """Twelve nodes that start in the same moment, on a file without tables, share its events."""
    fleet = launch(beater=False)
    nodes = [fleet.start() for _ in range(12)]
    fleet.ready(*nodes)
    count = scaled(2_400)
    due = fleet.schedule([{"kind": "note", "after": 1 + i / count} for i in range(count)])
    wait_until(lambda: fleet.oracle.count("ended") >= count, 30, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    numbers = fleet.execute("SELECT number FROM nodes")
    total = fleet.stop_all()
    runs = fleet.oracle.runs()
    assert len(numbers) == len(set(numbers)) == 12
    assert runs.keys() == due.keys()
    assert not repeated(runs)
    # 32 shards fall to twelve nodes by chance: a few nodes may have none.
    assert len({line.pid for (line,) in runs.values()}) >= 7
    assert total["done"] == count
    assert not fleet.said("")
    assert not fleet.execute("SELECT number FROM nodes")


def test_a_storm_of_one_id_makes_one_event(launch: Callable[..., Fleet]) -> None:
    """Fifty threads that schedule the same ids make one event of each, and all hear of the same."""
    fleet = launch()
    rounds, threads = scaled(40), 50
    barrier = threading.Barrier(threads)
    answers: list[list[Event]] = [[] for _ in range(threads)]
    faults: list[BaseException] = []

    def storm(mine: list[Event], number: int) -> None:
        try:
            for turn in range(rounds):
                barrier.wait(30)
                for name in (f"storm-{turn}", f"other-{turn}"):
                    event = fleet.scheduler.schedule("note", {"by": number}, after=3600, id=name)
                    mine.append(event)
        except BaseException as error:  # noqa: BLE001 - told by the test, whatever it is
            faults.append(error)

    workers = [
        threading.Thread(target=storm, args=(mine, number)) for number, mine in enumerate(answers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults
    told: dict[str, set[Any]] = {}
    created: dict[str, int] = {}
    for event in (event for mine in answers for event in mine):
        told.setdefault(event.id, set()).add((event.row[0], event.payload["by"]))
        created[event.id] = created.get(event.id, 0) + event.created
    assert len(told) == 2 * rounds
    assert {len(versions) for versions in told.values()} == {1}
    assert set(created.values()) == {1}
    assert fleet.counts().scheduled == {"note": 2 * rounds}
    assert fleet.scheduler.tally.existed == 2 * rounds * (threads - 1)

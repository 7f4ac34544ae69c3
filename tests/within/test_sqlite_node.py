"""A node while somebody's transaction holds the one write lock of an SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duetime import Event, Scheduler
from duetime.clock import SystemClock
from duetime.stores.sqlite.driver import Connection, driver_named

pytestmark = pytest.mark.timing

DEADLINE = 30_000_000  # µs: much more than is needed
LEASE = 2.0  # s


@pytest.fixture(params=["apsw", "sqlite3"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scheduler(tmp_path: Path, library: str) -> Iterator[Scheduler]:
    url = f"sqlite+{library}:///{tmp_path / 'shop.db'}"
    quick: dict[str, Any] = {"lease": LEASE, "margin": 0.3, "beat": 0.1, "lead": 2.0, "tick": 0.01}
    with Scheduler(url, **quick, busy_timeout=0.2, stats_every=0, poll=0.01) as scheduler:
        yield scheduler


@pytest.fixture
def caller(scheduler: Scheduler, tmp_path: Path, library: str) -> Iterator[Connection]:
    """Another's connection to the file."""
    scheduler.get("-")
    caller = driver_named(library).connect(str(tmp_path / "shop.db"), lambda _: True)
    yield caller
    caller.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    clock = SystemClock()
    end = clock.boot() + DEADLINE
    while not condition():
        assert clock.boot() < end, "in vain"
        clock.sleep(2_000)


def test_what_is_held_fires_while_nobody_can_write(
    scheduler: Scheduler, caller: Connection
) -> None:
    """Events that a node has claimed are fired on time, and settled once the file is free."""
    ran: list[str] = []

    @scheduler.on("tick")
    def tick(event: Event) -> None:
        ran.append(event.id)

    ids = [f"e{i}" for i in range(20)]
    wishes = [{"kind": "tick", "id": one, "after": 0.8 + 0.02 * i} for i, one in enumerate(ids)]
    scheduler.schedule_many(wishes)
    scheduler.start()
    until(lambda: sum(scheduler.counts().claimed.values()) == len(ids))
    caller.run("BEGIN IMMEDIATE")
    before = len(ran)
    assert before < len(ids)
    until(lambda: len(ran) == len(ids))
    assert sum(scheduler.counts().claimed.values()) >= len(ids) - before
    caller.run("COMMIT")
    until(lambda: not scheduler.counts().claimed)
    assert sorted(ran) == sorted(ids)


def test_a_lock_longer_than_the_lease_loses_nothing(
    scheduler: Scheduler, caller: Connection
) -> None:
    """A node that could not beat for its whole lease fires what is due once the file is free."""
    ran: list[str] = []

    @scheduler.on("tick")
    def tick(event: Event) -> None:
        ran.append(event.id)

    scheduler.start()
    until(scheduler.members)
    ids = [f"e{i}" for i in range(20)]
    wishes = [{"kind": "tick", "id": one, "after": 0.15 * i} for i, one in enumerate(ids)]
    scheduler.schedule_many(wishes)
    caller.run("BEGIN IMMEDIATE")
    clock = SystemClock()
    begun = clock.boot()
    until(lambda: clock.boot() - begun > 1.2 * LEASE * 1_000_000)
    before = len(ran)
    assert before < len(ids)
    caller.run("COMMIT")
    until(lambda: len(ran) >= len(ids) and not scheduler.counts().claimed)
    assert sorted(ran) == sorted(ids)
    assert scheduler.counts().scheduled == {}

"""A wall clock that steps by an hour, under two real nodes on one file: nobody is held for dead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from duetime import Event, Scheduler, Settings, SystemClock
from tests.processes.fleet import SCALE, scaled, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60 * max(1, SCALE))]

HOUR = 3600 * 1_000_000  # µs
LEASE = 2.0


class SteppingClock(SystemClock):
    """The system's clocks, of which the wall clock can be put forward or back."""

    def __init__(self) -> None:
        self.step = 0

    def wall(self) -> int:
        """Return the wall clock, as it was set."""
        return super().wall() + self.step


class World:
    """Two nodes on one file, which is their only common ground beside the wall clock."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.clock = SteppingClock()
        self.starts: list[tuple[str, int]] = []  # id, and by how much (µs) it was early
        self.started = threading.Lock()
        settings = Settings(
            store=f"sqlite:///{path}", lease=LEASE, beat=0.3, margin=0.5, stats_every=0.0
        )
        self.nodes = [Scheduler(settings=settings, clock=self.clock) for _ in range(2)]
        self.door = stack.enter_context(Scheduler(settings=settings, clock=self.clock))
        self.door.store.migrate()  # it is no node, so that nobody hears of what it schedules
        for node in self.nodes:
            stack.enter_context(node)
            node.on("note")(self.note)
            node.start()
        wait_until(lambda: all(len(n.members()) == 2 for n in self.nodes), 10, "both know both")

    def note(self, event: Event) -> None:
        """Remember who was started, and whether the clock had come so far."""
        early = event.row[0] - self.clock.wall()
        with self.started:
            self.starts.append((event.id, early))

    def schedule(self, count: int, first: float, last: float) -> dict[str, int]:
        """Schedule events between two moments (s from now); return due times (µs) by id."""
        pace = (last - first) / count
        wishes = [{"kind": "note", "after": first + pace * i} for i in range(count)]
        return {event.id: event.row[0] for event in self.door.schedule_many(wishes)}

    def passes(self, leases: float) -> None:
        """Let so many leases pass by the boot clock, during which nobody may be rescued."""
        until = self.clock.boot() + int(leases * LEASE * 1e6)
        wait_until(lambda: self.clock.boot() >= until, 30, "leases pass")

    def run_to_the_end(self, due: dict[str, int]) -> None:
        """Wait until all are settled, and check that none was lost, doubled or early."""
        wait_until(lambda: due.keys() <= {one for one, _ in self.starts}, 30, "all were started")
        counts = Counter(one for one, _ in self.starts)
        assert counts.keys() == due.keys()
        assert set(counts.values()) == {1}
        for name in ("rescued", "stale", "dropped"):
            assert [getattr(node.tally, name) for node in self.nodes] == [0, 0], name

    def done(self) -> int:
        """Count what is settled as done."""
        return sum(node.tally.done for node in self.nodes)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Make two nodes, and close them."""
    with ExitStack() as stack:
        yield World(tmp_path / "events.db", stack)


def test_a_step_forward_expires_no_lease(world: World) -> None:
    """An hour forward: what is due is fired, each once, and nobody is held for dead."""
    due = world.schedule(scaled(600), 0.2, 1800)
    wait_until(lambda: len(world.starts) >= 1, 10, "the first was fired")
    before = len(world.starts)
    world.clock.step = HOUR
    world.run_to_the_end(due)
    world.passes(1.5)
    world.run_to_the_end(due)
    assert before < len(due) / 2
    assert max(early for _, early in world.starts) <= 2
    wait_until(lambda: world.done() == len(due), 10, "all are settled")


def test_a_step_back_delays_by_the_step_at_most(world: World) -> None:
    """An hour back: what is not due again waits, nothing fires twice, nobody is held for dead."""
    due = world.schedule(scaled(600), 0.2, 2.5)
    wait_until(lambda: len(world.starts) >= 100, 10, "some were fired")
    world.clock.step = -HOUR
    world.passes(0.5)
    early = len(world.starts)
    world.passes(1.5)
    assert len(world.starts) == early, "fired though it is not due"
    assert early < len(due)
    fresh = world.schedule(100, 0.0, 0.5)
    wait_until(lambda: world.done() == early + 100, 10, "what is due by the new time is settled")
    world.clock.step = 0
    world.run_to_the_end(due | fresh)
    wait_until(lambda: world.done() == len(due | fresh), 10, "all are settled")


def test_small_steps_disturb_nothing(world: World) -> None:
    """Many steps of up to half a minute to and fro lose, double and rescue nothing."""
    due = world.schedule(scaled(1_000), 0.2, 3)
    for turn in range(1, 12):
        world.clock.step = (-1) ** turn * (turn * 13_500_000 % 30_000_000)
        world.passes(0.125)
    world.clock.step = 0
    world.run_to_the_end(due)
    wait_until(lambda: world.done() == len(due), 10, "all are settled")

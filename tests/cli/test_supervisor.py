"""The supervisor keeps its children alive, and stops when told: with time passed in."""

from __future__ import annotations

import signal

from duetime.cli.supervisor import Supervisor
from duetime.clock import MICROS

GRACE = 5.0


class FakeChild:
    """A process that lives until it is told otherwise."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.told: list[str] = []

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")
        self.code = -signal.SIGKILL


class World:
    """A supervisor of fake children, and what it said."""

    def __init__(self, processes: int) -> None:
        self.children: list[FakeChild] = []
        self.said: list[str] = []
        self.supervisor = Supervisor(self.spawn, processes, GRACE, self.said.append)
        self.step = self.supervisor.step

    def spawn(self) -> FakeChild:
        self.children.append(FakeChild(1000 + len(self.children)))
        return self.children[-1]

    def alive(self) -> int:
        return sum(child.code is None for child in self.children)


def test_it_starts_all() -> None:
    """The first step starts every child, and then there is nothing to do until one ends."""
    world = World(3)
    assert world.step(0) is None
    assert world.alive() == 3
    assert world.step(MICROS) is None
    assert len(world.children) == 3


def test_a_killed_child_is_replaced() -> None:
    """A child that was killed is replaced after a pause, and the signal is told."""
    world = World(2)
    world.step(0)
    world.children[0].code = -signal.SIGKILL
    again = world.step(MICROS)
    assert again is not None
    assert world.alive() == 1
    assert "SIGKILL" in world.said[-1]
    assert world.step(again) is None
    assert world.alive() == 2


def test_pauses_grow_to_a_limit() -> None:
    """A child that ends again and again is started with growing pauses, at most half a minute."""
    world = World(1)
    world.step(0)
    now, pauses = 0, []
    for _ in range(40):
        world.children[-1].code = 1
        again = world.step(now)
        assert again is not None
        assert world.step(again - 1) == again
        pauses.append(again - now)
        now = again
        world.step(now)
    assert pauses == sorted(pauses)
    assert pauses[0] == MICROS // 2
    assert pauses[-1] == 30 * MICROS


def test_a_long_life_is_forgiven() -> None:
    """Whoever lived for a minute is started again after the shortest pause."""
    world = World(1)
    now = 0
    for _ in range(5):
        world.step(now)
        world.children[-1].code = 1
        now = world.step(now) or 0
    world.step(now)
    world.children[-1].code = 1
    assert world.step(now + 60 * MICROS) == now + 60 * MICROS + MICROS // 2


def test_what_cannot_succeed_is_not_repeated() -> None:
    """After an exit for usage, configuration or schema all are stopped, with that code."""
    for code in (2, 4):
        world = World(2)
        world.step(0)
        world.children[0].code = code
        world.step(1)
        assert world.children[1].told == ["terminate"]
        world.children[1].code = 0
        world.step(2)
        assert world.supervisor.finished
        assert world.supervisor.exit_code == code
        assert len(world.children) == 2


def test_a_stop_is_passed_on() -> None:
    """Told to stop, it tells every child, starts none, and is finished when all have ended."""
    world = World(2)
    world.step(0)
    world.supervisor.stop(1)
    assert [child.told for child in world.children] == [["terminate"], ["terminate"]]
    assert not world.supervisor.finished
    world.children[0].code = 0
    world.step(2)
    assert not world.supervisor.finished
    world.children[1].code = 0
    world.step(3)
    assert world.supervisor.finished
    assert world.supervisor.exit_code == 0
    assert len(world.children) == 2


def test_who_does_not_stop_is_killed() -> None:
    """A child that outlives the grace time and the time for its last writes is killed."""
    world = World(1)
    world.step(0)
    world.supervisor.stop(0)
    deadline = world.step(0)
    assert deadline is not None
    assert deadline > GRACE * MICROS
    assert world.step(deadline - 1) == deadline
    assert world.children[0].told == ["terminate"]
    world.step(deadline)
    assert world.children[0].told == ["terminate", "kill"]
    world.step(deadline + 1)
    assert world.supervisor.finished


def test_a_second_stop_does_not_wait() -> None:
    """A second signal is passed on, and two seconds later nobody is left."""
    world = World(1)
    world.step(0)
    world.supervisor.stop(0)
    world.supervisor.stop(1)
    assert world.children[0].told == ["terminate", "terminate"]
    assert world.step(1) == 2 * MICROS + 1
    world.step(2 * MICROS + 1)
    assert world.children[0].told[-1] == "kill"


def test_nothing_is_started_while_stopping() -> None:
    """A child whose restart was due stays away when a stop came before it."""
    world = World(1)
    world.step(0)
    world.children[0].code = 1
    again = world.step(0)
    world.supervisor.stop(1)
    assert world.supervisor.finished
    world.step(again or 0)
    assert len(world.children) == 1


def test_a_stop_while_a_child_is_made_reaches_it() -> None:
    """A child that was just being made when the signal came is told to stop too."""
    world = World(2)
    make = world.spawn

    def spawn() -> FakeChild:
        child = make()
        world.supervisor.stop(0)
        return child

    world.supervisor = Supervisor(spawn, 2, GRACE, world.said.append)
    world.supervisor.step(0)
    assert [child.told for child in world.children] == [["terminate"]]

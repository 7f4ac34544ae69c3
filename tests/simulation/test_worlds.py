"""Whole nodes in virtual time keep every promise, and the same seed gives the same world."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duetime.testing.simulation import simulate
from duetime.testing.simulation.__main__ import main
from duetime.testing.simulation.fibers import Vanished
from duetime.testing.simulation.run import Simulation
from duetime.testing.simulation.world import World

HERE = Path(__file__).parent
BLOCK, BLOCKS = 20, 11  # worlds per test, and tests
CORPUS = [
    int(line.split()[0])
    for line in (HERE / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("first", range(0, BLOCK * BLOCKS, BLOCK))
def test_every_promise_holds(first: int) -> None:
    """In a world of faults nothing is early, lost, doubled without reason, or left behind."""
    for seed in range(first, first + BLOCK):
        assert simulate(seed).failures == [], f"make sim SEED={seed} ARGS=--trace"


@pytest.mark.parametrize("seed", CORPUS)
def test_what_was_once_broken_holds(seed: int) -> None:
    """A world that once broke a promise keeps all of them."""
    assert simulate(seed).failures == []


@pytest.mark.parametrize("seed", [3, 8, 61, 121])
def test_every_promise_holds_on_sqlite(seed: int) -> None:
    """The same worlds hold with the truth in a SQLite file."""
    assert simulate(seed, sqlite=True).failures == []


def test_the_worlds_are_not_empty() -> None:
    """The worlds hold what they are for: starts, deaths, retries, lost answers, cancels."""
    seen: dict[str, int] = {}
    for seed in range(30):
        trace = simulate(seed, keep_trace=True).trace
        assert trace is not None
        for word in (" starts ", " dies: ", " pauses ", " strikes ", " rescue ", " raised"):
            seen[word] = seen.get(word, 0) + sum(word in line for line in trace)
        for word in (" cancelled", " rescheduled", " in_flight", " redriven", " lost", "→parked"):
            seen[word] = seen.get(word, 0) + sum(word in line for line in trace)
    assert min(seen.values()) >= 10, seen


@pytest.mark.parametrize("seed", [4, 29, 121])
def test_a_seed_is_a_world(seed: int) -> None:
    """The same seed gives the same trace."""
    one, other = simulate(seed), simulate(seed)
    assert one.digest == other.digest
    assert one.digest != simulate(seed + 1).digest


def test_a_seed_is_a_world_in_every_process() -> None:
    """The trace does not depend on the order of sets of strings, which each process draws."""
    code = (
        "from duetime.testing.simulation import simulate\n"
        "print([simulate(seed).digest for seed in (4, 29)])"
    )
    told = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        told.add(done.stdout)
    assert len(told) == 1
    assert str([simulate(seed).digest for seed in (4, 29)]).encode() in told.pop()


def test_it_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One world can be replayed and read from the command line."""
    assert main(["--seed", "4", "--trace"]) == 0
    printed = capsys.readouterr().out
    assert "everything heals" in printed
    assert "1 world(s) from seed 4: 0 broken" in printed


def test_a_broken_promise_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world that breaks a promise makes the command fail, and is named."""
    monkeypatch.setattr(Simulation, "_is_open", lambda _self: True)
    assert main(["--seed", "4"]) == 1
    assert "seed 4:" in capsys.readouterr().out


def test_time_only_goes_on() -> None:
    """The world refuses a call in the past."""
    world = World(0)
    world.now = 10
    with pytest.raises(AssertionError, match="past"):
        world.push(9, lambda: None)


def test_calls_wait_while_others_go_on() -> None:
    """A call that waits in its middle goes on at its time, after those that come before."""
    world = World(0)
    seen: list[tuple[str, int]] = []

    def slow() -> None:
        seen.append(("slow begins", world.now))
        world.wait(100)
        seen.append(("slow ends", world.now))

    def quick() -> None:
        seen.append(("quick", world.now))

    world.push(0, slow)
    world.push(50, quick)
    world.push(200, world.stop)
    world.run()
    assert seen == [("slow begins", 0), ("quick", 50), ("slow ends", 100)]


class _Process:
    alive = True
    paused_until = 0


def test_a_dead_process_goes_no_further() -> None:
    """A waiting call of a process that dies is unwound, and its later calls are void."""
    world, process = World(0), _Process()
    seen: list[str] = []

    def slow() -> None:
        try:
            world.wait(100, process)
            seen.append("went on")
        except Vanished:
            seen.append("unwound")
            raise

    def die() -> None:
        process.alive = False

    world.push(0, slow, process)
    world.push(10, die)
    world.push(20, lambda: seen.append("called"), process)
    world.push(200, world.stop)
    world.run()
    assert seen == ["unwound"]


def test_a_paused_process_stands_still() -> None:
    """Calls of a paused process are put off until it goes on."""
    world, process = World(0), _Process()
    process.paused_until = 70
    seen: list[int] = []
    world.push(20, lambda: seen.append(world.now), process)
    world.push(200, world.stop)
    world.run()
    assert seen == [70]


def test_a_fault_of_the_world_is_raised() -> None:
    """What goes wrong in the simulation itself is not taken for a broken promise."""
    world = World(0)

    def fail() -> None:
        raise ZeroDivisionError

    world.push(5, fail)
    with pytest.raises(ZeroDivisionError):
        world.run()

"""One world from its seed: built, troubled, healed, watched until everything has settled."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from duetime.clock import MICROS
from duetime.testing.simulation.checkers import CHECKERS
from duetime.testing.simulation.clients import Clients
from duetime.testing.simulation.faults import Chaos, draw_chaos, draw_settings
from duetime.testing.simulation.machine import Machine
from duetime.testing.simulation.oracle import GlassMemory, GlassSqlite, Oracle
from duetime.testing.simulation.process import SimulatedProcess, StoreTime
from duetime.testing.simulation.script import KINDS, Script
from duetime.testing.simulation.world import EPOCH, World

__all__ = ["Report", "Simulation", "simulate"]

_LOOK = MICROS // 4  # how often a healed world is asked whether everything has settled
_HOUR = 3600 * MICROS


class Report(NamedTuple):
    """What became of one world."""

    seed: int
    failures: list[str]
    digest: str  # of everything that happened
    lived: int  # µs of virtual time
    calls: int
    events: int
    starts: int
    trace: list[str] | None


class Simulation:
    """A store, some nodes that come and go, some clients, and trouble."""

    def __init__(self, seed: int, *, sqlite: str | None = None, keep_trace: bool = False) -> None:
        self.world = World(seed, keep_trace=keep_trace)
        rng = self.world.rng
        self.chaos: Chaos = draw_chaos(rng)
        self.settings = draw_settings(rng, self.chaos)
        self.healed = False
        self.outage_until = 0
        self.machines: list[Machine] = []
        self.clients: list[SimulatedProcess] = []
        self._born = 0
        clock, shards = StoreTime(self), self.settings.shards
        self.store: GlassMemory | GlassSqlite
        if sqlite is None:
            self.store = GlassMemory(shards, clock)
        else:
            self.store = GlassSqlite(sqlite, shards=shards, synchronous="NORMAL", clock=clock)
        self.store.migrate()
        self.oracle = Oracle(self.world, self.store, self.settings, self.chaos)
        self.oracle.machines = self.machines
        self.oracle.watch([checker(self.world, self.oracle) for checker in CHECKERS])
        lease = int(self.settings.lease * MICROS)
        self.script = Script(rng, self.chaos, lease, self.oracle)
        self.oracle.asked = self._asked
        self.oracle.kills = lambda number: self.script.wishes[number].kills
        self.calls = Clients(self)
        self._quiet_since: int | None = None
        longest = sum(plan.length for wish in self.script.wishes for plan in wish.plans)
        if self.chaos.calm and not self.chaos.uneven:
            self.oracle.patience = longest + 2 * MICROS
        self._bound = 60 * MICROS + 12 * lease + longest

    def _asked(self, number: int) -> int | None:
        wish = self.script.wishes[number]
        return None if wish.relative else EPOCH + wish.due

    # --- life ----------------------------------------------------------------------------------

    def run(self) -> Report:
        """Let the world live until it rests."""
        world, chaos = self.world, self.chaos
        world.note("seed", world.seed, chaos, self.settings)
        for number in range(2):
            self.clients.append(SimulatedProcess(self, f"client-{number}", self.settings))
        for slot in range(chaos.machines):
            self._birth(slot)
        self.calls.begin()
        if not chaos.calm:
            self._plan_trouble()
        world.push(chaos.work, self._heal)
        try:
            world.run()
        finally:
            self.store.close()
        lives = self.oracle.all_lives()
        starts = sum(len(life.runs) for life in lives)
        trace = world.trace
        return Report(
            world.seed,
            world.failures,
            world.digest,
            world.now,
            world.calls,
            len(lives),
            starts,
            trace,
        )

    def _birth(self, slot: int) -> None:
        """Start a new node in a slot."""
        rng = self.world.rng
        kinds = set(KINDS)
        if self.chaos.uneven and not self.healed:
            kinds = {kind for kind in KINDS if rng.random() < 0.6 or (kind != "rare" and not slot)}
        self._born += 1
        machine = Machine(self, slot, f"node-{self._born}", self.settings, kinds)
        self.machines.append(machine)
        self.world.note(machine.name, "is born in slot", slot)
        machine.start()

    def died(self, machine: Machine) -> None:
        """Hear that a node died; another one takes its slot after a while."""
        self.machines.remove(machine)
        delay = self.world.rng.randrange(100_000, 2 * MICROS)
        self.world.after(delay, lambda: self._birth(machine.slot))

    def stopped(self, machine: Machine) -> None:
        """Hear that a node has stopped gracefully."""
        machine.alive = False
        self.died(machine)

    def stepped(self, machine: Machine) -> None:
        """Look at a node after each step of one of its stages."""
        # One statement may be under way, and one that is asked again may add a row each time.
        most = self.settings.max_held + self.settings.claim_batch + 5
        held = max(machine.node.lanes.held(), len(machine.node.timeline))
        if held > most:
            self.world.fail("L4", f"{machine.name} holds {held} events, more than {most}")

    # --- trouble -------------------------------------------------------------------------------

    def pause_length(self) -> int:
        """Draw how long a node stands still: it goes on when the world heals, at the latest."""
        lease, rng = self.settings.lease, self.world.rng
        seconds = rng.choice((0.1, lease * 0.7, lease * 1.1, lease * 2, rng.uniform(0.1, 40)))
        left = self.chaos.work - self.world.now
        return max(1, min(int(seconds * MICROS), left))

    def _plan_trouble(self) -> None:
        chaos = self.chaos
        for count, action in (
            (chaos.crashes, lambda machine: machine.crash("at any time")),
            (chaos.pauses, lambda machine: machine.pause(self.pause_length())),
            (chaos.stops, self._stop),
            (chaos.wall_steps, self._step_wall),
        ):
            for _ in range(count):
                self._sometime(self._to_some(action))
        for _ in range(chaos.outages):
            self._sometime(self._outage)
        for _ in range(chaos.store_steps):
            self._sometime(self._step_store)

    def _sometime(self, call: Callable[[], None]) -> None:
        self.world.push(self.world.rng.randrange(self.chaos.work), call)

    def _to_some(self, action: Callable[[Machine], None]) -> Callable[[], None]:
        def act() -> None:
            if self.machines:
                machine = self.world.rng.choice(self.machines)
                self.world.push(self.world.now, lambda: action(machine), machine)

        return act

    def _stop(self, machine: Machine) -> None:
        """Stop a node gracefully while it is in use."""
        if self.world.rng.random() < 0.5:
            self.calls.last_moment(machine)
        soon = self.world.rng.randrange(1, 4 * self.chaos.latency)
        self.world.after(soon, machine.stop, machine)

    def _step_wall(self, machine: Machine) -> None:
        machine.clock.wall_step += self.world.rng.randrange(-_HOUR, _HOUR)

    def _outage(self) -> None:
        lease = int(self.settings.lease * MICROS)
        length = self.world.rng.choice((lease // 3, lease, 3 * lease))
        self.outage_until = max(self.outage_until, self.world.now + length)
        self.world.note("the store is away for", length)

    def _step_store(self) -> None:
        rng = self.world.rng
        step = rng.choice((-5, -1, 1, 5)) * rng.randrange(1, MICROS)
        self.world.store_step += step
        self.oracle.stepped_back |= step < 0
        self.world.note("the store's clock steps by", step)

    # --- rest ----------------------------------------------------------------------------------

    def _heal(self) -> None:
        """End all trouble; from here on everything has to come to its end."""
        self.world.note("everything heals")
        self.healed = True
        self.outage_until = 0
        if self.chaos.uneven:
            self._birth(self.chaos.machines)
        self._look()

    def _look(self) -> None:
        """See whether everything has settled, and stayed so for long enough."""
        world, lease = self.world, int(self.settings.lease * MICROS)
        restless = self.calls.open or not self.machines or self._is_open()
        if restless:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = world.now
        elif world.now - self._quiet_since > 2 * lease:
            self.oracle.rest()
            world.stop()
            return
        if world.now > self.chaos.work + self._bound:
            lives = [life for life in self.oracle.lives.values() if life.end is None]
            for life in lives[:5]:
                world.fail("L1", f"{life.event_id} has not come to its end: {life.row}")
            world.fail(
                "L1", f"{len(lives)} events are open {self._bound / 1e6:.0f} s after healing"
            )
            world.stop()
            return
        world.after(_LOOK, self._look)

    def _is_open(self) -> bool:
        busy = any(client.operation for client in [*self.clients, *self.machines])
        busy = busy or any(machine.node.lanes.running() for machine in self.machines)
        return busy or any(life.end is None for life in self.oracle.lives.values())


def simulate(seed: int, *, sqlite: bool = False, keep_trace: bool = False) -> Report:
    """Live through the world of a seed, with the truth in memory or in a SQLite file."""
    log = logging.getLogger("asyncio")
    log.setLevel(logging.ERROR)
    if not sqlite:
        return Simulation(seed, keep_trace=keep_trace).run()
    shm = Path("/dev/shm")  # noqa: S108 - memory is faster, and the folder is our own
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        path = str(Path(folder) / "world.db")
        return Simulation(seed, sqlite=path, keep_trace=keep_trace).run()

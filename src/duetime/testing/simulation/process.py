"""One process of a world: its clock, its way to the store, and its scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.errors import StoreError
from duetime.observer import Observer, Observers
from duetime.scheduler import Scheduler
from duetime.stores.contract import Store
from duetime.testing.faulty_store import Fault, FaultyStore, Fortune
from duetime.testing.simulation.oracle import Operation
from duetime.testing.simulation.world import EPOCH

if TYPE_CHECKING:
    from duetime.testing.simulation.run import Simulation

__all__ = ["ProcessClock", "SimulatedProcess", "StoreTime"]


class StoreTime:
    """The store's own clock, which may step."""

    def __init__(self, simulation: Simulation) -> None:
        self._world = simulation.world

    def boot(self) -> int:
        """Return true time."""
        return self._world.now

    def wall(self) -> int:
        """Return the store's idea of the time."""
        return EPOCH + self._world.now + self._world.store_step


class ProcessClock:
    """The clocks of one machine: its boot clock began at some time, its wall clock may step."""

    def __init__(self, simulation: Simulation, offset: int) -> None:
        self._world = simulation.world
        self._offset = offset
        self.wall_step = 0

    def boot(self) -> int:
        """Return the boot clock in µs."""
        return self._world.now + self._offset

    def wall(self) -> int:
        """Return the wall clock in µs since 1970 UTC."""
        return EPOCH + self._world.now + self.wall_step


class SimulatedProcess:
    """A client: it schedules, cancels and moves, and is no node."""

    def __init__(self, simulation: Simulation, name: str, settings: Settings) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.oracle = simulation.oracle
        self.name = name
        self.settings = settings
        self.alive = True
        self.paused_until = 0
        self.operation: Operation | None = None
        self.fenced_at = 0
        self.beats_at = 0  # when it last tried to beat
        rng = self.world.rng
        self.clock = ProcessClock(simulation, rng.randrange(1, 10**12))
        self.lease = int(settings.lease * MICROS)
        link = cast(Store, _Link(self, simulation.store))
        self.store = FaultyStore(link, self._fortune, self._delay)
        self.scheduler = Scheduler(
            self.store,
            settings=settings,
            clock=self.clock,
            chance=Random(rng.getrandbits(64)),
        )
        self.oracle.tallies.append(self.scheduler.tally)
        self.scheduler.observers = Observers([_Watcher(self)])

    def _fortune(self, call: str) -> Fortune:
        """Draw what befalls a call, and whether this process outlives it."""
        chaos, rng = self.simulation.chaos, self.world.rng
        self.world.check(self)
        if call == "beat":
            self.beats_at = self.world.now
        if self.simulation.healed or chaos.calm:
            return Fortune()
        if self.world.now < self.simulation.outage_until:
            return Fortune(Fault.REFUSED, rng.randrange(1000))
        self.trouble(call, rng)
        return chaos.fortune(call, rng, self.lease)

    def trouble(self, call: str, rng: Random) -> None:
        """A client has none of its own."""

    def crash(self, why: str) -> None:
        """A client outlives everything."""

    def _delay(self, micros: int) -> None:
        self.world.wait(micros, self)

    def remote(self, change: Callable[..., Any], call: str, *arguments: Any) -> Any:
        """Carry out a call on the store's side after its way there; return after the way back.

        A request that was sent arrives even if its process stands still, and mostly even if it
        dies.
        """
        world = self.world
        there, back = self._latency(), self._latency()
        answer: list[tuple[Any, StoreError | None]] = []
        sent, step = world.now, world.store_step
        operation = self.operation

        def arrive() -> None:
            if not self.alive and world.rng.random() < 0.5:
                return
            mine, self.operation = self.operation, operation
            try:
                result = change(*arguments)
                self.oracle.observe(call, arguments, result, self)
                answer.append((result, None))
            except StoreError as error:
                answer.append((None, error))
            finally:
                self.operation = mine

        if world.jump(there, self):
            arrive()
            world.wait(back, self)
        else:
            world.after(there, arrive)
            world.wait(there + back, self)
        result, error = answer[0]
        if error is not None:
            raise error
        if call == "time":
            self.oracle.clock_read[self.name] = (sent, world.now - sent, step)
        elif call == "beat" and result.number:
            life = self.settings.lease - self.settings.margin
            self.fenced_at = sent + int(life * MICROS)
        return result

    def _latency(self) -> int:
        chaos, rng = self.simulation.chaos, self.world.rng
        micros = rng.randrange(chaos.latency // 2, chaos.latency * 2)
        if not self.simulation.healed and rng.random() < chaos.slow:
            micros += rng.randrange(2 * self.lease)
        return micros


class _Link:
    """The way from one process to the store."""

    def __init__(self, process: SimulatedProcess, store: Store) -> None:
        self.shards = store.shards
        self._process = process
        self._store = store

    def __getattr__(self, call: str) -> Callable[..., Any]:
        return partial(self._process.remote, getattr(self._store, call), call)


class _Watcher(Observer):
    """Notes what a process reports."""

    def __init__(self, process: SimulatedProcess) -> None:
        self._process = process

    def died(self, ids: Any) -> None:
        """Events were given up."""
        self._process.world.note(self._process.name, "gave up", *ids)

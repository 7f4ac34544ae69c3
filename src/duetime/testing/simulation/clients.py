"""What clients do: they schedule, and change their minds around the due time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from duetime.clock import MICROS, from_micros
from duetime.errors import AnswerLost, LifecycleError, StoreError
from duetime.testing.simulation.oracle import Operation
from duetime.testing.simulation.process import SimulatedProcess
from duetime.testing.simulation.script import Wish
from duetime.testing.simulation.world import EPOCH

if TYPE_CHECKING:
    from duetime.testing.simulation.run import Simulation

__all__ = ["Clients"]

_AGAIN = MICROS // 2  # µs until a refused wish is sent again
_AROUND = 50_000  # µs before or after the due time


class Clients:
    """Sends wishes through clients and nodes, one call of a process at a time."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._rng = simulation.world.rng
        self._oracle = simulation.oracle
        self.open = 0  # wishes that are not answered for good

    def begin(self) -> None:
        """Plan what is to be done."""
        chaos, rng = self._simulation.chaos, self._rng
        for wish in self._simulation.script.wishes:
            self._at(wish.asked_at, self._schedule, wish)
            if chaos.twins and wish.name is not None and rng.random() < 0.5:
                self._at(wish.asked_at + rng.randrange(2000), self._schedule, wish)
        for _ in range(rng.randint(0, 3)):
            self._at(rng.randrange(chaos.work // 2, chaos.work + MICROS), self._redrive)

    def last_moment(self, process: SimulatedProcess) -> None:
        """Schedule something through a node that is about to stop."""
        wish = self._simulation.script.another(self._world.now)
        self._world.after(1, lambda: self._run(process, self._schedule, wish), process)

    def _at(self, micros: int, call: Callable[..., None], *arguments: Any) -> None:
        self.open += 1
        self._world.push(max(micros, self._world.now), lambda: self._call(call, *arguments))

    def _call(self, call: Callable[..., None], *arguments: Any) -> None:
        process = self._process()
        if process is None:
            self._world.after(_AGAIN // 10, lambda: self._call(call, *arguments))
            return
        # Owned by the process: if it dies or stands still, so does this call.
        self._world.after(1, lambda: self._run(process, call, *arguments), process)
        self.open -= 1

    def _run(self, process: SimulatedProcess, call: Callable[..., None], *arguments: Any) -> None:
        if process.operation is None:
            call(process, *arguments)
        else:
            self._at(self._world.now + _AGAIN // 10, call, *arguments)

    def _process(self) -> SimulatedProcess | None:
        """Choose who calls: a client, or a node that is up."""
        able: list[SimulatedProcess] = [*self._simulation.clients]
        able += [machine for machine in self._simulation.machines if not machine.stopping]
        able = [each for each in able if each.paused_until <= self._world.now]
        return self._rng.choice(able) if able else None

    # --- the calls -----------------------------------------------------------------------------

    def _ask(self, process: SimulatedProcess, operation: Operation, ask: Callable[[], str]) -> str:
        """Make a call and note how it ended."""
        process.operation = operation
        try:
            outcome = ask()
        except AnswerLost:
            outcome = "lost"
        except (StoreError, LifecycleError):
            outcome = "refused"
        finally:
            process.operation = None
        self._oracle.answer(operation, outcome)
        return outcome

    def _schedule(self, process: SimulatedProcess, wish: Wish) -> None:
        operation = self._oracle.begin("schedule", wish.name, wish.number)
        payload = {"wish": wish.number, "operation": 0 if wish.name else operation.number}

        def ask() -> str:
            when: dict[str, Any] = {"at": from_micros(EPOCH + wish.due)}
            if wish.relative:
                when = {"after": timedelta(microseconds=max(0, wish.due - self._world.now))}
            event = process.scheduler.schedule(wish.kind, payload, id=wish.name, **when)
            operation.target = event.id
            return "stored"

        outcome = self._ask(process, operation, ask)
        if outcome == "stored":
            self._change_mind(wish, str(operation.target))
        elif outcome == "refused" or wish.name is not None:
            self._at(self._world.now + _AGAIN, self._schedule, wish)

    def _change_mind(self, wish: Wish, event_id: str) -> None:
        """Cancel or move some events, most of them close to their due time."""
        rng = self._rng
        if not self._simulation.chaos.impatient or rng.random() < 0.4:
            return
        when = wish.due + rng.randrange(-_AROUND, _AROUND)
        if rng.random() < 0.3:
            when = self._world.now + rng.randrange(MICROS)
        if rng.random() < 0.5:
            self._at(when, self._cancel, event_id)
            if rng.random() < 0.3:
                self._at(when + rng.randrange(3000), self._cancel, event_id)
        else:
            due = max(0, when + rng.choice((-MICROS, 0, 20_000, MICROS, 3 * MICROS)))
            self._at(when, self._move, event_id, due)

    def _cancel(self, process: SimulatedProcess, event_id: str) -> None:
        operation = self._oracle.begin("cancel", event_id, -1)
        self._ask(process, operation, lambda: process.scheduler.cancel(event_id).value)

    def _move(self, process: SimulatedProcess, event_id: str, due: int) -> None:
        operation = self._oracle.begin("reschedule", event_id, -1)
        at = from_micros(EPOCH + due)
        move = process.scheduler.reschedule
        self._ask(process, operation, lambda: move(event_id, at=at).value)

    def _redrive(self, process: SimulatedProcess) -> None:
        dead: list[str] = []

        def look() -> str:
            found = process.scheduler.dead(limit=3)
            # Redriven poison kills anew, and whoever is near it counts one more crash each time.
            dead.extend(e.id for e in found if not self._oracle.kills(e.payload["wish"]))
            return "looked"

        if self._ask(process, self._oracle.begin("look", None, -1), look) == "looked":
            for event_id in dead[:1]:
                self._send_round_again(process, event_id)

    def _send_round_again(self, process: SimulatedProcess, event_id: str) -> None:
        operation = self._oracle.begin("redrive", event_id, -1)
        self._ask(process, operation, lambda: process.scheduler.redrive(event_id).value)

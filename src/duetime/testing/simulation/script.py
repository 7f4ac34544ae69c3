"""What is wished for in a world, and how the handlers behave: drawn before it begins."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from duetime.clock import MICROS, from_micros
from duetime.event import Event
from duetime.outcome import Dead, Retry
from duetime.pull import Claim
from duetime.testing.simulation.faults import Chaos
from duetime.testing.simulation.fibers import Vanished
from duetime.testing.simulation.oracle import Oracle, Run
from duetime.testing.simulation.world import EPOCH

if TYPE_CHECKING:
    from duetime.testing.simulation.machine import Machine

__all__ = ["KINDS", "Plan", "Script", "Wish"]

KINDS = ("quick", "slow", "batch", "async", "many", "pull", "rare")


class Plan(msgspec.Struct):
    """One run of a handler."""

    length: int = 0  # µs
    outcome: Any = None  # what it returns, or raises if that is an exception
    kills: bool = False  # the process dies of it


class Wish(msgspec.Struct):
    """One event that a client wants."""

    number: int
    kind: str
    due: int  # µs since the world began
    asked_at: int  # µs since the world began
    name: str | None
    relative: bool  # asked with after=, not at=
    plans: list[Plan]  # the first runs; later ones end well at once
    starts: int = 0

    @property
    def kills(self) -> bool:
        """Whether it is a poison event."""
        return any(plan.kills for plan in self.plans)


class Script:
    """The wishes, and the handlers that act them out."""

    def __init__(self, rng: Random, chaos: Chaos, lease: int, oracle: Oracle) -> None:
        self._rng = rng
        self._chaos = chaos
        self._lease = lease
        self._oracle = oracle
        self.wishes: list[Wish] = []
        burst = rng.randrange(chaos.work // 4, chaos.work)
        for number in range(chaos.wishes):
            self.wishes.append(self._wish(number, burst))
        for wish in rng.sample(self.wishes, min(chaos.poison, chaos.wishes)):
            wish.kind = "quick"
            wish.plans = [Plan(rng.randrange(20_000), kills=True)] * 50

    def _wish(self, number: int, burst: int) -> Wish:
        rng, chaos = self._rng, self._chaos
        asked_at = rng.randrange(chaos.work * 3 // 4)
        due = asked_at + rng.choice((0, rng.randrange(200_000), rng.randrange(chaos.work // 2)))
        if chaos.bursts and rng.random() < 0.5:
            asked_at, due = rng.randrange(burst), burst
        name = f"name-{number}" if rng.random() < 0.35 else None
        kind = rng.choice(KINDS)
        return Wish(number, kind, due, asked_at, name, rng.random() < 0.3, self._plans(kind))

    def another(self, now: int) -> Wish:
        """Return one more wish, due at once."""
        wish = Wish(len(self.wishes), "quick", now, now, None, relative=False, plans=[])
        self.wishes.append(wish)
        return wish

    def _plans(self, kind: str) -> list[Plan]:
        rng, chaos = self._rng, self._chaos
        plans = [Plan(self._length(kind))]
        while chaos.bad_handlers and rng.random() < 0.4 and len(plans) < 8:
            plans.insert(0, Plan(self._length(kind), self._bad(len(plans))))
        return plans

    def _length(self, kind: str) -> int:
        rng = self._rng
        if self._chaos.rolling and rng.random() < 0.3:
            return rng.randrange(self._lease * 2)
        if (
            self._chaos.slow_handlers
            and not self._chaos.rolling
            and rng.random() < (0.5 if kind == "slow" else 0.05)
        ):
            return rng.choice((self._lease // 2, self._lease * 2, rng.randrange(self._lease * 10)))
        return rng.choice((0, 0, rng.randrange(1, 5000), rng.randrange(1, 300_000)))

    def _bad(self, number: int) -> Any:
        rng = self._rng
        choice = rng.randrange(8)
        if choice < 3:
            return ValueError(f"as planned ({number})")
        if choice == 3:
            return Dead(f"as planned ({number})")
        if choice == 4:
            return Retry(after=timedelta(microseconds=rng.randrange(2 * MICROS)))
        if choice == 5:
            return Retry(at=from_micros(EPOCH + rng.randrange(self._chaos.work)))
        if choice == 6:
            return Retry(after=0.2, payload={"round": number}, error="once more")
        return Retry()

    # --- acting --------------------------------------------------------------------------------

    def register(self, machine: Machine, kind: str) -> None:
        """Give a machine its handler of a kind."""

        def one(event: Event) -> Any:
            run = machine.oracle.start(event, machine)
            plan = self.plan(event)
            machine.world.wait(plan.length, machine)
            outcome = self.outcome(run, plan, event)
            self.close(run, outcome)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        def many(events: list[Event]) -> list[Any]:
            runs = [machine.oracle.start(event, machine) for event in events]
            plans = [self.plan(event) for event in events]
            machine.world.wait(max(plan.length for plan in plans), machine)
            outcomes = [
                self.outcome(run, plan, event)
                for run, plan, event in zip(runs, plans, events, strict=True)
            ]
            for run, outcome in zip(runs, outcomes, strict=True):
                self.close(run, outcome)
            return outcomes

        async def later(_event: Event) -> None:
            """Stand for an async handler: the simulated loop acts it out itself."""

        on = machine.scheduler.on
        if kind == "pull":
            machine.scheduler.handlers.pull(kind)
        elif kind == "async":
            on(kind, timeout=None if self._rng.random() < 0.5 else 1.0)(later)
        elif kind == "many":
            on(kind, batch=True)(later)
        elif kind == "batch":
            on(kind, batch=True)(many)
        else:
            on(kind)(one)

    def pulled(self, machine: Machine, claim: Claim, run: Run) -> None:
        """Work on a claim that was pulled."""
        plan = self.plan(claim.event)
        machine.world.wait(plan.length, machine)
        outcome = self.outcome(run, plan, claim.event)
        if isinstance(outcome, Retry):
            outcome = Retry(after=outcome.after, error=outcome.error)
            self.close(run, outcome)
            claim.rollback(outcome.after, error=outcome.error)
        elif isinstance(outcome, Dead):
            self.close(run, outcome)
            claim.give_up(outcome.reason)
        elif outcome is not None:
            self.close(run, outcome)
            claim.rollback(error=str(outcome))
        else:
            self.close(run, None)
            claim.confirm()

    def plan(self, event: Event) -> Plan:
        """Return how this run of an event goes."""
        wish = self.wishes[event.payload["wish"]]
        wish.starts += 1
        return wish.plans[wish.starts - 1] if wish.starts <= len(wish.plans) else Plan()

    def outcome(self, run: Run, plan: Plan, event: Event) -> Any:
        """Return the outcome of a run, unless the process dies of it."""
        if plan.kills:
            run.outcome = "killed"
            run.process.crash("killed by a handler")
            raise Vanished
        outcome = plan.outcome
        if isinstance(outcome, Retry) and isinstance(outcome.payload, dict):
            payload = {**event.payload, **outcome.payload}
            return msgspec.structs.replace(outcome, payload=payload)
        return outcome

    def close(self, run: Run, outcome: Any) -> None:
        """Tell the oracle how a run ended."""
        if outcome is None:
            word = "done"
        elif isinstance(outcome, Retry):
            word = "retry"
        elif isinstance(outcome, Dead):
            word = "dead"
        else:
            word = "raised"
        self._oracle.end(run, word, outcome)

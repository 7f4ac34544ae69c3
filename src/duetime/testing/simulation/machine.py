"""A process that is a node: the production node, with virtual threads in place of its real ones."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, cast

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.errors import LifecycleError, StoreError
from duetime.event import Event
from duetime.handlers import Mode
from duetime.node.lanes import Job, Lane
from duetime.node.loop import LoopPool
from duetime.node.shell import Shell, Stage, Waker
from duetime.pull import Claims
from duetime.testing.simulation.fibers import Fiber, Vanished
from duetime.testing.simulation.process import SimulatedProcess

if TYPE_CHECKING:
    from duetime.testing.simulation.run import Simulation

__all__ = ["Machine", "StepShell"]

_LATENCY = 100  # µs at most between a wake and the step
_AFTER_FAULT = MICROS // 10  # as in the production shell


class Machine(SimulatedProcess):
    """One incarnation of a node: when it dies, another object takes its slot."""

    def __init__(
        self, simulation: Simulation, slot: int, name: str, settings: Settings, kinds: set[str]
    ) -> None:
        super().__init__(simulation, name, settings)
        self.slot = slot
        self.stopping = False
        self.intake = self.scheduler.intake
        self.crew = _Crew(self)
        self.loop = _Loop(self)
        self.pulled: Claims | None = None
        script = simulation.script
        for kind in sorted(kinds):
            script.register(self, kind)
        self.node = node = self.scheduler.make_node()
        node.runner.feed_threads = self.crew.feed
        node.runner.feed_loop = self.loop.feed
        node.loops = cast(LoopPool, self.loop)  # the methods that a node calls
        node.idle = cast(Waker, _Waker(self))
        for title, stage in node.stages.items():
            node.shells[title] = cast(Shell, StepShell(self, title, stage))
        self.intake.node = node

    def start(self) -> None:
        """Begin to step, and to pull."""
        for shell in self.node.shells.values():
            shell.start()
        lane = self.node.lanes.get("pull")
        if lane is not None and lane.handler.mode is Mode.PULL:
            self.pulled = claims = Claims(self.node, lane, self.node.clock, 2)
            claims._waiting = cast(Any, _Condition(self))  # noqa: SLF001 - a virtual one
            self.node.runner.feed_pull = lambda _lane: claims.notify()
            self.world.after(self.latency(), lambda: self._consume(claims), self)

    def latency(self) -> int:
        """Draw how long it takes until a woken thread runs."""
        return self.world.rng.randrange(1, _LATENCY)

    # --- life ----------------------------------------------------------------------------------

    def crash(self, why: str) -> None:
        """Die at once: no call of this process goes on."""
        if self.alive:
            self.world.note(self.name, "dies:", why)
            self.alive = False
            self.simulation.died(self)

    def pause(self, micros: int) -> None:
        """Stand still for so long."""
        if self.alive and self.paused_until <= self.world.now:
            self.world.note(self.name, "pauses for", micros)
            self.paused_until = self.world.now + micros

    def stop(self) -> None:
        """Stop gracefully, as the scheduler does, and end the process."""
        if self.stopping:
            return
        self.stopping = True
        self.world.note(self.name, "is asked to stop")
        self.intake.node = None
        if self.pulled is not None:
            self.pulled.close()
        self.node.stop()
        self.world.note(self.name, "has stopped")
        self.simulation.stopped(self)

    def trouble(self, call: str, rng: Random) -> None:
        """Die or stand still somewhere around this call."""
        chaos = self.simulation.chaos
        chance = rng.random()
        soon = rng.randrange(1, 4 * chaos.latency)
        if chance < chaos.crash:
            self.world.after(soon, lambda: self.crash(f"around {call}"), self)
        elif chance < chaos.crash + chaos.pause:
            length = self.simulation.pause_length()
            self.world.after(soon, lambda: self.pause(length), self)

    @property
    def number(self) -> int:
        """Its number on the roll."""
        return self.node.fence.number

    def neglects_to_beat(self) -> bool:
        """Tell whether it is alive and well, and has not tried to beat for most of its lease."""
        if self.simulation.chaos.slow or self.paused_until > self.beats_at:
            return False
        return self.world.now - self.beats_at > self.lease * 6 // 10

    def leftovers(self) -> str:
        """Say what the node holds though there is nothing left to do."""
        node = self.node
        held = {
            "held": node.lanes.held(),
            "timeline": len(node.timeline),
            "unsettled": node.settler.waiting(),
            "claims": len(node.settler._batches),  # noqa: SLF001 - nothing may be forgotten there
            "jobs": len(node.runner._jobs),  # noqa: SLF001 - nor there
            "running": node.lanes.running(),
            "suspects": node.runner.suspects,
        }
        return ", ".join(f"{name} {count}" for name, count in held.items() if count)

    # --- pulling -------------------------------------------------------------------------------

    def _consume(self, claims: Claims) -> None:
        rng, script = self.world.rng, self.simulation.script
        try:
            while not claims.closed:
                taken = claims.take(rng.randint(1, 2), rng.choice((None, 0.5)))
                runs = [self.oracle.start(claim.event, self) for claim in taken]
                for claim, run in zip(taken, runs, strict=True):
                    script.pulled(self, claim, run)
        except LifecycleError:
            return


class StepShell:
    """Stands in for `Shell`: steps one stage when the heap says so."""

    def __init__(self, machine: Machine, title: str, stage: Stage) -> None:
        self._machine = machine
        self._world = machine.world
        self._title = title
        self._stage = stage
        self._ticket = 0
        self._stepping = False
        self._woken = False
        self._stopping = False
        self.alive = True
        stage.wake = self.wake

    def start(self) -> None:
        """Begin to step."""
        self._call_in(self._machine.latency())

    def wake(self) -> None:
        """Step soon, or once more after the step that is under way."""
        if self._stepping:
            self._woken = True
        elif self.alive and not self._world.over:
            self._call_in(self._machine.latency())

    def stop(self) -> None:
        """End after the step."""
        self._stopping = True
        self.alive = self._stepping

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end."""
        until = self._world.now + int((timeout or 3600) * MICROS)
        while self.alive and self._world.now < until:
            self._world.wait(MICROS // 500, self._machine)
        return not self.alive

    def _call_in(self, micros: int) -> None:
        self._ticket = ticket = self._ticket + 1
        self._world.after(micros, lambda: self._call(ticket), self._machine)

    def _call(self, ticket: int) -> None:
        if ticket != self._ticket or not self.alive:
            return
        now = self._machine.node.clock.now
        self._stepping = True
        try:
            again = self._stage.step(now())
        except Vanished:
            raise
        except Exception as error:  # noqa: BLE001 - as in the production shell
            again = now() + _AFTER_FAULT
            if not isinstance(error, StoreError):
                text = f"{self._title} of {self._machine.name}: {type(error).__name__}: {error}"
                self._world.fail("stage", text)
        self._stepping = False
        self._machine.simulation.stepped(self._machine)
        if self._stopping:
            self.alive = False
        elif self._woken or again is not None:
            wait = 0 if again is None or self._woken else max(0, again - now())
            self._woken = False
            self._call_in(wait + self._machine.latency())


class _Waker:
    """Stands in for `Waker`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._world = machine.world
        self._set = False
        self._fiber: Fiber | None = None

    def wake(self) -> None:
        """Let the waiting call go on."""
        self._set = True
        if self._fiber is not None and not self._world.over:
            self._world.wake(self._fiber, self._machine)

    def wait(self, micros: int | None) -> bool:
        """Wait until woken, at most so long."""
        if not self._set and (micros is None or micros > 0):
            self._fiber = fiber = Fiber()
            if micros is not None:
                fiber.entry = self._world.push(self._world.now + micros, fiber, self._machine)
            self._world.park(fiber, self._machine)
            self._fiber = None
        woken, self._set = self._set, False
        return woken


class _Condition:
    """Stands in for the condition on which one consumer waits."""

    def __init__(self, machine: Machine) -> None:
        self._waker = _Waker(machine)

    def __enter__(self) -> None:
        """Nothing else runs: no lock is needed."""

    def __exit__(self, *_error: object) -> None:
        """Nothing to release."""

    def wait(self, seconds: float) -> None:
        """Wait until notified, at most so long."""
        self._waker.wait(int(seconds * MICROS))

    def notify_all(self) -> None:
        """Let the consumer look again."""
        self._waker.wake()


class _Crew:
    """Stands in for `ThreadPool`: so many workers that take jobs until there is none."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._busy = 0

    def feed(self, jobs: int) -> None:
        """Wake workers."""
        machine = self._machine
        for _ in range(min(jobs, machine.settings.workers - self._busy)):
            self._busy += 1
            machine.world.after(machine.latency(), self._work, machine)

    def _work(self) -> None:
        runner, now = self._machine.node.runner, self._machine.node.clock.now
        while True:
            self._machine.world.check(self._machine)
            job = runner.next_job(now())
            if job is None:
                break
            runner.run(job)
        self._busy -= 1


class _Task:
    """One call of an async handler, which can be cancelled."""

    def __init__(self) -> None:
        self.fiber: Fiber | None = None
        self.cancelled = False


class _Loop:
    """Stands in for `LoopPool`: async handlers that wait beside one another."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._world = machine.world
        self._serving: dict[str, int] = {}
        self._tasks: dict[_Task, None] = {}

    def feed(self, lane: Lane) -> None:
        """Start tasks."""
        self._world.after(self._machine.latency(), lambda: self._spread(lane), self._machine)

    def cancel(self) -> None:
        """Ask every running handler to stop."""
        self._world.after(self._machine.latency(), self._cancel_all, self._machine)

    def stop(self) -> None:
        """Cancel what runs and wait for its end, at most 5 s."""
        self.cancel()
        for _ in range(5000):
            self._world.wait(1000, self._machine)
            if not self._tasks:
                return

    def _cancel_all(self) -> None:
        for task in list(self._tasks):
            task.cancelled = True
            if task.fiber is not None:
                self._world.wake(task.fiber, self._machine)

    def _spread(self, lane: Lane) -> None:
        for _ in range(min(lane.jobs(), lane.cap - self._serving.get(lane.kind, 0))):
            self._serving[lane.kind] = self._serving.get(lane.kind, 0) + 1
            self._world.after(1, lambda: self._serve(lane), self._machine)

    def _serve(self, lane: Lane) -> None:
        runner, clock = self._machine.node.runner, self._machine.node.clock
        call = self._call_each if lane.handler.mode is Mode.ASYNC else self._call
        task = _Task()
        self._tasks[task] = None
        while not task.cancelled:
            self._world.check(self._machine)
            job = runner.job_of(lane, lane.share(), clock.now())
            if job is None:
                break
            began = clock.boot()
            if not call(job, task):
                runner.interrupt(job)
            runner.finish(job, clock.boot() - began)
        del self._tasks[task]
        self._serving[lane.kind] -= 1

    def _call_each(self, job: Job, task: _Task) -> bool:
        """Call a handler of one event; return False if it was cancelled."""
        runner = self._machine.node.runner
        while (event := runner.next_event(job)) is not None:
            outcomes = self._act([event], job, task)
            if outcomes is None:
                job.running, job.current = [event.row], None
                return False
            runner.book(job, event.row, outcomes[0])
        return True

    def _call(self, job: Job, task: _Task) -> bool:
        """Call a handler of many events; return False if it was cancelled."""
        runner = self._machine.node.runner
        events = runner.begin(job)
        job.running = [event.row for event in events]
        if events:
            outcomes = self._act(events, job, task)
            if outcomes is None:
                return False
            runner.take_results(job, events, outcomes)
            job.running = []
        return True

    def _act(self, events: list[Event], job: Job, task: _Task) -> list[Any] | None:
        """Let a handler take its time; return its outcomes, or None if it was cancelled."""
        machine, script = self._machine, self._machine.simulation.script
        runs = [machine.oracle.start(event, machine) for event in events]
        plans = [script.plan(event) for event in events]
        length = max(plan.length for plan in plans)
        timeout = job.lane.handler.timeout
        limit = length if timeout is None else min(length, int(timeout * MICROS))
        self._sleep(limit, task)
        if task.cancelled:
            for run in runs:
                machine.oracle.end(run, "interrupted")
            return None
        outcomes = [
            TimeoutError("it took too long") if limit < length else script.outcome(run, plan, event)
            for run, plan, event in zip(runs, plans, events, strict=True)
        ]
        for run, outcome in zip(runs, outcomes, strict=True):
            script.close(run, outcome)
        return outcomes

    def _sleep(self, micros: int, task: _Task) -> None:
        task.fiber = fiber = Fiber()
        fiber.entry = self._world.push(self._world.now + micros, fiber, self._machine)
        self._world.park(fiber, self._machine)
        task.fiber = None

"""One running process: the stages wired together, started as threads, stopped in order."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from duetime.clock import MICROS, StoreClock
from duetime.config import Settings
from duetime.errors import LifecycleError, StoreError
from duetime.event import Row
from duetime.handlers import Handlers, Mode
from duetime.node.claimer import Claimer
from duetime.node.fence import Fence
from duetime.node.firer import Firer
from duetime.node.judge import Rules, give_back
from duetime.node.keeper import Keeper
from duetime.node.lanes import Lane, Lanes
from duetime.node.listener import Listener
from duetime.node.pools import ThreadPool
from duetime.node.reporter import Reporter
from duetime.node.runner import Runner
from duetime.node.settler import Settler
from duetime.node.shell import Shell, Stage, Waker
from duetime.node.timeline import Timeline
from duetime.observer import ErrorReport, Level, Observers
from duetime.stores.contract import Bell, Store
from duetime.tally import Lateness, Tally

if TYPE_CHECKING:
    from duetime.node.beater import Beater
    from duetime.node.loop import LoopPool

__all__ = ["Node"]

_STORING = MICROS  # how long a stop waits for an insert that is under way
_FLUSH = 5 * MICROS  # after the grace, for a store that does not answer
_HURRY = MICROS  # the same, when the grace was ended
_JOIN = 15.0  # seconds that a stage's step may take to end


class Node:
    """Claims and fires until stopped. `stages` are what a simulation calls by itself."""

    def __init__(
        self,
        store: Store,
        handlers: Handlers,
        settings: Settings,
        clock: StoreClock,
        observers: Observers,
        tally: Tally,
        lateness: Lateness,
        random: Callable[[], float],
        new_id: Callable[[], str],
        info: Callable[[], bytes],
    ) -> None:
        self._settings = settings
        self._observers = observers
        self._tally = tally
        self.clock = clock
        self.fence = Fence()
        self.timeline = Timeline()
        self.lanes = Lanes(handlers, settings.workers, settings.async_workers)
        self.settler = Settler(
            store,
            observers,
            tally,
            int(settings.settle_every * MICROS),
            settings.settle_batch,
        )
        rules = Rules(settings.history_kept, settings.max_payload, store.shards, random)
        self.runner = Runner(
            self.lanes, self.settler, self.fence, clock, observers, tally, lateness, rules
        )
        self.firer = Firer(self.timeline, self.runner, self.fence, clock)
        self.keeper = Keeper(store, self.fence, clock, settings, observers, tally, new_id, info)
        self.claimer = Claimer(
            store,
            self.keeper,
            self.fence,
            self.lanes,
            self.timeline,
            self.runner,
            self.settler,
            clock,
            settings,
            observers,
            tally,
        )
        self.reporter = Reporter(
            self.lanes,
            self.timeline,
            self.settler,
            observers,
            tally,
            lateness,
            int(settings.stats_every * MICROS),
        )
        self._threads = ThreadPool(self.runner, clock, settings.workers)
        self.shells: dict[str, Shell] = {}
        self.idle = Waker()
        self._beater: Beater | None = None
        self._bell: Bell | None = getattr(store, "bell", None)
        self._listener: Listener | None = None
        self._storing = 0  # inserts under way of events that this node will hold
        self._storing_lock = threading.Lock()
        self._hurried = False
        self._switch_interval = 0.0
        self._wire()

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages by name, in the order of an event's life."""
        return {
            "keeper": self.keeper,
            "claimer": self.claimer,
            "firer": self.firer,
            "settler": self.settler,
            "reporter": self.reporter,
        }

    @cached_property
    def loops(self) -> LoopPool:
        """Where async handlers run: made, and asyncio imported, when there is a first one."""
        from duetime.node.loop import LoopPool  # noqa: PLC0415 - half of what an import takes

        return LoopPool(self.runner, self.clock)

    def _wire(self) -> None:
        self.claimer.fire = self._fire
        self.keeper.rejoined = self.drop
        self.keeper.shards_changed = self.claimer.look_again
        self.keeper.clock_set = self._wake_all
        self.runner.feed_threads = self._threads.feed
        self.runner.feed_loop = self._feed_loop
        self.runner.room_made = self._room_made
        self.settler.moved = self.claimer.hint
        self.settler.settled = self.runner.suspects_gone

    def _feed_loop(self, lane: Lane) -> None:
        self.loops.feed(lane)  # made no sooner

    def _fire(self) -> None:
        self.firer.wake()  # looked up at each call: who runs the stage sets it later

    def _wake_all(self) -> None:
        """Let no stage sleep until a moment of a clock that was set since."""
        for stage in self.stages.values():
            stage.wake()

    def _room_made(self) -> None:
        self.idle.wake()
        if self.claimer.hungry:
            self.claimer.wake()

    # --- what the scheduler asks ---------------------------------------------------------------

    def may_hold(self, kind: str, due_at: int, now: int, more: int = 0) -> bool:
        """Tell whether an event that is being stored may be stored as claimed by this node.

        `more` is how many others are about to be, in the same write.
        """
        if due_at > now + int(self._settings.lead * MICROS) or self.claimer.stopped:
            return False
        lane = self.lanes.get(kind)
        return (
            lane is not None
            and lane.low is None
            and lane.handler.mode is not Mode.PULL
            and lane.room(now, int(self._settings.lead * MICROS)) > more
            and self.fence.is_open(self.clock.boot())
            and self.lanes.held() + more < self._settings.max_held
        )

    def claimed(self, row: Row, number: int) -> Row:
        """Return a new row as the first attempt of a claim of this node."""
        due_at, tail, shard, name, kind, payload, _, failures, crashes, _, created_at, history = row
        head = (due_at, tail, shard, name, kind, payload)
        return (*head, 1, failures, crashes, number, created_at, history)

    def storing(self, change: int) -> None:
        """Count inserts under way (+1, then -1): a stop waits until their claims are settled."""
        with self._storing_lock:
            self._storing += change
        self.idle.wake()

    def hold(self, number: int, rows: list[Row]) -> None:
        """Put rows that were stored as claimed on the timeline."""
        rows.sort()
        self.claimer.hold(number, rows)
        if self.claimer.stopped:  # meanwhile, and the timeline was cleared without these
            self.runner.return_rows(self.timeline.clear())

    def disown(self, rows: list[Row]) -> None:
        """Free rows whose insert was never answered: stored or not, nobody holds them here."""
        self.settler.report([], [give_back(row) for row in rows])

    def serves(self, shard: int) -> bool:
        """Tell whether this node looks into a shard, and so needs nobody's help there."""
        return shard in self.keeper.shards

    def stored(self, due_at: int, now: int) -> None:
        """Hear of an event stored unclaimed by this process."""
        self.claimer.hint(due_at, now)

    # --- life ----------------------------------------------------------------------------------

    def start(self, beater: Beater | None = None) -> None:
        """Run every stage in a thread of its own; a beater stands by while handlers compute."""
        if self.shells:
            raise LifecycleError("start() was called before on this node.")
        self._beater = beater
        if beater is not None:
            self.keeper.pulse = beater.pulse
        if self._settings.switch_interval:
            # A thread that computes keeps the interpreter for this long before a due timer gets
            # it: the default of 5 ms is longer than the lateness we promise.
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(self._settings.switch_interval)
        for name, stage in self.stages.items():
            self.shells[name] = Shell(stage, name, self.clock, self._failed)
        for shell in self.shells.values():
            shell.start()
        if self._bell is not None:
            self._listener = Listener(self._bell, self.claimer.hint, self.clock, self._observers)
            self._listener.start()

    def stop(self, grace: float | None = None) -> None:
        """Stop in order: no new claims, handlers finish or are given back, beats last.

        `grace` is how many seconds running handlers may take (default: the setting).
        """
        self.claimer.stopped = True
        self.firer.stopped = True
        for name in ("claimer", "firer"):
            self._end(name)
        self.runner.return_rows(self.timeline.clear() + self.runner.unqueue())
        patience = self._settings.grace if grace is None else grace
        deadline = self.clock.boot() + int(patience * MICROS)
        while self.runner.is_busy() and self.clock.boot() < deadline and not self._hurried:
            self.idle.wait(min(deadline - self.clock.boot(), MICROS // 10))
        if "loops" in vars(self):
            self.loops.stop()
        self.runner.abandon()
        self._end("settler")
        flushed = self._flush(deadline)
        self._threads.stop()
        if self._listener is not None:
            self._listener.stop(_JOIN)
        self._end("reporter")
        self._end("keeper")
        if self._beater is not None:
            self._beater.stop()
        if flushed:
            self._flush(deadline)  # what a schedule() that was under way has given back
        self.keeper.leave()
        if self._switch_interval:
            sys.setswitchinterval(self._switch_interval)

    def hurry(self) -> None:
        """Wait no longer for running handlers: their claims are given back."""
        self._hurried = True
        self.idle.wake()

    @property
    def running(self) -> bool:
        """Whether every stage is alive."""
        return bool(self.shells) and all(shell.alive for shell in self.shells.values())

    def _end(self, name: str) -> None:
        shell = self.shells.get(name)
        if shell is not None:
            shell.stop()
            shell.join(_JOIN)

    def _flush(self, deadline: int) -> bool:
        """Write what is to be written; return False when the store does not take it in time."""
        began = self.clock.boot()
        while self.settler.waiting() or (self._storing and self.clock.boot() < began + _STORING):
            latest = began + _HURRY if self._hurried else max(began, deadline) + _FLUSH
            if self.clock.boot() >= latest:
                return False  # what is not written now is run again by another node
            again = self.settler.step(self.clock.now(), flush=True)
            if self.settler.waiting() and again is not None:
                self.idle.wait(min(MICROS, again - self.clock.now()))
            elif self._storing:
                self.idle.wait(MICROS // 10)
        return True

    def drop(self) -> None:
        """Let go of everything that has not begun: this node was held for dead."""
        rows = self.timeline.clear() + self.runner.unqueue()
        self.lanes.let_go(rows)
        self._tally.dropped += len(rows)
        self.runner.suspects = 0
        self.settler.forget()
        if "loops" in vars(self):
            self.loops.cancel()
        self.claimer.look_again()

    def _failed(self, stage: str, error: BaseException) -> None:
        self._tally.errors += 1
        level = Level.ERROR if isinstance(error, StoreError) else Level.CRITICAL
        with contextlib.suppress(Exception):
            text = f"{type(error).__name__}: {error}"
            self._observers.error(ErrorReport(level, stage, text, error=error))

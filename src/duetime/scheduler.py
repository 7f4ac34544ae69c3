"""The door: schedule, cancel, move, look, pull, run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from duetime import inputs
from duetime.chance import Chance, SystemChance, Tails
from duetime.clock import Clock, StoreClock, SystemClock, to_micros
from duetime.config import Settings, load
from duetime.errors import AnswerLost, LifecycleError
from duetime.event import Event, Row, State
from duetime.group import Group
from duetime.handlers import Handlers
from duetime.intake import Intake
from duetime.node.node import Node
from duetime.node.shell import Flag, signals
from duetime.observer import LogObserver, Observer, Observers, Statistics
from duetime.pull import Claims
from duetime.retry import Backoff
from duetime.stores import open_store
from duetime.stores.contract import Answer, Changes, Counts, Filter, Member, Store
from duetime.tally import Lateness, Tally
from duetime.within import unwrap

if TYPE_CHECKING:
    import asyncio

    from duetime.node.beater import Beater

__all__ = ["Scheduler"]

F = TypeVar("F", bound=Callable[..., Any])
_GROUP = 1000  # wishes written at once, at most
_WATCH = 0.5  # seconds between two looks at the stages


class Scheduler:
    """Schedules events, answers them, and runs as a node.

    `store` is a URL (`sqlite:///shop.db`, `memory://`) or a store object; all other settings are
    given by keyword, by a `Settings` object, or come from file and environment (see
    `duetime.config.load`). Nothing is opened before the first call that needs the store.
    May be shared by threads; a forked child must make its own.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        observers: Iterable[Observer] = (),
        **overrides: Any,
    ) -> None:
        if isinstance(store, str):
            overrides["store"] = store
        if settings is None:
            settings = load(**overrides)
        elif overrides:
            # Through load, so that a wrong name or value is refused as anywhere else.
            settings = load(
                None, {"DUETIME_CONFIG": ""}, **{**msgspec.structs.asdict(settings), **overrides}
            )
        self.settings = settings
        self._given = None if isinstance(store, str) else store
        self._system_clock = clock or SystemClock()
        self._clock = StoreClock(self._system_clock)
        self._chance = chance or SystemChance()
        self.observers = Observers([LogObserver(), *observers])
        self.tally = Tally()
        self.lateness = Lateness()
        backoff = Backoff(
            retries=settings.retries,
            first=settings.backoff_first,
            factor=settings.backoff_factor,
            maximum=settings.backoff_max,
        )
        self.handlers = Handlers(backoff, settings.batch_size)
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._intake: Intake | None = None
        self._node: Node | None = None
        self._stopping: Node | None = None  # the node that is being stopped, or was last
        self._claims: dict[str, Claims] = {}
        self._inserts: Group[Row, Event] = Group(self._write_inserts, _GROUP)
        self._cancels: Group[str, Answer] = Group(self._write_cancels, _GROUP)
        self._closed = False
        self._pid = os.getpid()

    # --- handlers -------------------------------------------------------------------------------

    def on(
        self,
        kind: str,
        *,
        batch: bool | int = False,
        retry: Backoff | None = None,
        timeout: float | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function as the handler of a kind; it stays callable as itself.

        The function takes the event (with `batch`, a list of at most so many events) and may be
        async. It returns None or Done, Retry or Dead (with `batch`, also a list of outcomes or
        a dict of them by id); raising means again, by `retry`. `timeout` in seconds is for async
        handlers. Raises InvalidInput: `kind_invalid`, `handler_duplicate`, `handler_signature`,
        `batch_range`, `timeout_range`.
        """

        def register(function: F) -> F:
            self.handlers.add(kind, function, batch=batch, retry=retry, timeout=timeout)
            return function

        return register

    # --- schedule, cancel, move -----------------------------------------------------------------

    def schedule(
        self,
        kind: str,
        payload: Any = None,
        *,
        at: datetime | None = None,
        after: timedelta | float | None = None,
        id: str | None = None,  # noqa: A002 - the word of the domain
        within: object = None,
    ) -> Event:
        """Store one event, due at an aware datetime or after a timedelta or seconds; now, if none.

        Returns when it is durable. With an `id` that a kept event has already, that event is
        returned unchanged and its `created` is False. Raises InvalidInput (nothing is written)
        or StoreError; after AnswerLost it may or may not be stored.

        `within` is a connection of yours with an open transaction: of a driver, SQLAlchemy's
        Connection or Session, or Django's. The event is then stored when you commit, and never
        if you roll back. Nothing is committed here, and what fails here leaves your transaction
        as it was. Raises InvalidInput `within_invalid` for a connection that cannot be used.
        """
        intake = self._ready("schedule")
        row = intake.row(kind, payload, at, after, id)
        if within is not None:
            return self._insert_within(within, [row])[0]
        return self._inserts.submit(row)

    def schedule_many(
        self, wishes: Iterable[Mapping[str, Any]], *, within: object = None
    ) -> list[Event]:
        """Store many events, each a mapping with the arguments of `schedule` by name.

        All are checked before any is written; then they are written in transactions of 4,000, or
        all in yours: see `schedule` for `within`. Delays count from one moment, the beginning of
        the call. Raises InvalidInput that names the index of the first bad one.
        """
        intake = self._ready("schedule_many")
        rows = intake.rows(wishes)
        if within is not None:
            return self._insert_within(within, rows)
        return intake.insert_many(rows)

    def cancel(self, event_id: str, *, within: object = None) -> Answer:
        """Take an event back: CANCELLED (it will never start), IN_FLIGHT, UNKNOWN or DEAD.

        `within` is as for `schedule`: CANCELLED then holds if you commit, and until you commit or
        roll back no node starts the event. If another transaction of somebody's holds it for too
        long, StoreUnavailable `store_busy` is raised.
        """
        self._ready("cancel")
        known = inputs.known_id(event_id)
        if within is not None:
            return self._changes(within).cancel([known])[0]
        return self._cancels.submit(known)

    def cancel_many(self, ids: Iterable[str], *, within: object = None) -> list[Answer]:
        """Take events back; an answer for each id, in order. `within` is as for `cancel`."""
        intake = self._ready("cancel_many")
        known = [inputs.known_id(one) for one in ids]
        if within is not None:
            return self._changes(within).cancel(known)
        return intake.cancel_many(known)

    def reschedule(
        self,
        event_id: str,
        *,
        at: datetime | None = None,
        after: timedelta | float | None = None,
        within: object = None,
    ) -> Answer:
        """Move an event.

        RESCHEDULED (it will not start at the old time), IN_FLIGHT, UNKNOWN or DEAD. `within` is
        as for `cancel`.
        """
        intake = self._ready("reschedule")
        known = inputs.known_id(event_id)
        due_at = inputs.due(at, after, intake.now(), self.settings)
        if within is not None:
            return self._changes(within).reschedule([(known, due_at)])[0]
        return intake.move(known, due_at)

    def fire_now(self, event_id: str, *, within: object = None) -> Answer:
        """Move an event to now; within a transaction of yours, it fires when you have committed."""
        return self.reschedule(event_id, within=within)

    def redrive(self, event_id: str) -> Answer:
        """Schedule a dead event again, due now, under its old id."""
        return self.redrive_many([event_id])[0]

    def redrive_many(self, ids: Iterable[str]) -> list[Answer]:
        """Schedule dead events again; an answer for each id, in order."""
        intake = self._ready("redrive_many")
        return intake.redrive_many([inputs.known_id(one) for one in ids])

    # --- look -----------------------------------------------------------------------------------

    def get(self, event_id: str) -> Event | None:
        """Return an event that is kept, dead ones included, or None."""
        self._ready("get")
        return self.store.get([inputs.known_id(event_id)])[0]

    def find(
        self,
        *,
        kind: str | None = None,
        state: State | None = None,
        due_from: datetime | None = None,
        due_until: datetime | None = None,
        limit: int = 100,
        after: Event | None = None,
    ) -> list[Event]:
        """Return a page of events by due time; `after` is the last event of the page before."""
        self._ready("find")
        wanted = Filter(
            kind=None if kind is None else inputs.kind(kind),
            state=None if state is None else State(state),
            due_from=None if due_from is None else to_micros(inputs.moment(due_from)),
            due_until=None if due_until is None else to_micros(inputs.moment(due_until)),
        )
        return self.store.find(wanted, inputs.page(limit), after)

    def dead(
        self, *, kind: str | None = None, limit: int = 100, after: Event | None = None
    ) -> list[Event]:
        """Return a page of dead events, in the order they died."""
        return self.find(kind=kind, state=State.DEAD, limit=limit, after=after)

    def counts(self) -> Counts:
        """Count what is kept, by state and kind; reads the whole index."""
        intake = self._ready("counts")
        return self.store.counts(intake.now())

    def statistics(self) -> Statistics:
        """Return the figures of this process since the last report."""
        node = self._node
        if node is None:
            raise LifecycleError("statistics() needs a node: call start() first.")
        return node.reporter.figures(self._clock.now())

    def members(self) -> list[Member]:
        """Return the nodes on the roll, as this node's last beat read it."""
        return self._node.keeper.members if self._node else []

    # --- run ------------------------------------------------------------------------------------

    def claims(self, kind: str, *, prefetch: int = 1, retry: Backoff | None = None) -> Claims:
        """Pull events of a kind instead of being called; starts the node if it does not run.

        `prefetch` is how many are claimed at once while iterating.
        """
        self.handlers.pull(kind, retry)
        node = self.start()
        with self._lock:
            if kind not in self._claims:
                lane = node.lanes.get(kind)
                assert lane is not None
                self._claims[kind] = Claims(node, lane, self._clock, max(1, prefetch))
            return self._claims[kind]

    def start(self, loop: asyncio.AbstractEventLoop | None = None, *, beater: bool = False) -> Node:
        """Make this process a node, in threads beside the caller's; return it.

        Async handlers run on `loop`, or on one in a thread of its own. With `beater`, a second
        process beats while a handler keeps the interpreter to itself.
        """
        intake = self._ready("start")
        with self._lock:
            if self._node is None:
                # Before the first beat: until then an unmeasured clock would stand in 1970.
                intake.now()
                node = self.make_node()
                node.runner.feed_pull = lambda lane: self._claims[lane.kind].notify()
                if loop is not None:
                    node.loops.use(loop)
                node.start(self._beater() if beater else None)
                self._node = node
                self._set_node(node)
            return self._node

    def make_node(self) -> Node:
        """Return the node of this process without starting it (simulations step it themselves)."""
        return Node(
            self.store,
            self.handlers,
            self.settings,
            self._clock,
            self.observers,
            self.tally,
            self.lateness,
            self._chance.random,
            lambda: f"{self._chance.getrandbits(96):024x}",
            self._info,
        )

    def stop(self, grace: float | None = None) -> None:
        """Stop being a node: no new claims; handlers get `grace` seconds, then are given back."""
        self._check_process("stop")
        with self._lock:
            node, self._node = self._node, None
            self._stopping = node
            self._set_node(None)
        if node is not None:
            for claims in self._claims.values():
                claims.close()
            node.stop(grace)
            self._claims.clear()

    def run(self) -> None:
        """Be a node until SIGTERM or SIGINT; a second signal ends the grace time at once.

        Outside the main thread no signals are caught: end it with `stop()`.
        """
        with self.signals() as ended:
            try:
                self.start(beater=self.settings.beater)
                while not ended.wait(_WATCH) and self.is_running("run"):
                    pass
            finally:
                self.stop()

    def is_running(self, call: str) -> bool:
        """Tell whether the node runs; LifecycleError if one of its stages has died."""
        node = self._node
        if node is not None and not node.running:
            raise LifecycleError(f"{call}(): a stage of the node has died; see the log.")
        return node is not None

    def signals(self) -> AbstractContextManager[Flag]:
        """Catch SIGTERM and SIGINT: the first sets the result, the next ends the grace time.

        Only the main thread can catch signals; elsewhere it is never set.
        """

        def hurry() -> None:
            node = self._node or self._stopping
            if node is not None:
                node.hurry()

        return signals(hurry)

    def close(self) -> None:
        """Stop, and let go of the store; safe to call twice."""
        if self._pid == os.getpid():
            self.stop()
            with self._lock:
                self._closed = True
                if self._store is not None:
                    self._store.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    # --- inside ---------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store, opened at first use."""
        with self._lock:
            if self._store is None:
                self._store = (
                    open_store(self.settings, self._system_clock, create=True)
                    if self._given is None
                    else self._given
                )
            return self._store

    @property
    def opened(self) -> bool:
        """Whether the store was opened and its clock measured."""
        return self._intake is not None and self._intake.is_measured

    @property
    def intake(self) -> Intake:
        """Where wishes become rows."""
        return self._ready("intake")

    def _ready(self, call: str) -> Intake:
        if self._closed:
            raise LifecycleError(f"{call}() came after close().", code="closed")
        self._check_process(call)
        if self._intake is None:
            with self._lock:
                if self._intake is None:
                    self._intake = Intake(
                        self.store,
                        self.settings,
                        self._clock,
                        Tails(self._chance),
                        self.observers,
                        self.tally,
                    )
        return self._intake

    def _check_process(self, call: str) -> None:
        if self._pid != os.getpid():
            raise LifecycleError(
                f"{call}() in a forked child: make a new Scheduler after the fork.", code="forked"
            )

    def _beater(self) -> Beater | None:
        # Another process can open what a URL names, not a store object of the caller's.
        embedded = self.settings.store.startswith("memory:")
        given = self._given is not None
        if given or embedded:
            return None
        from duetime.node.beater import Beater  # noqa: PLC0415 - few processes need subprocess

        return Beater(self.settings, self._info())

    def _set_node(self, node: Node | None) -> None:
        if self._intake is not None:
            self._intake.node = node

    def _changes(self, within: object) -> Changes:
        return self.store.within(unwrap(within))

    def _insert_within(self, within: object, rows: list[Row]) -> list[Event]:
        # Never stored as claimed, nor counted: nobody tells us whether the commit came, and when.
        found = self._changes(within).insert(rows)
        return [Event(row) if one is None else one for row, one in zip(rows, found, strict=True)]

    def _write_inserts(self, rows: list[Row]) -> Sequence[Event]:
        return self._ready("schedule").insert(rows)

    def _write_cancels(self, ids: list[str]) -> Sequence[Answer | AnswerLost]:
        return self._ready("cancel").cancel(ids)

    def _info(self) -> bytes:
        return msgspec.json.encode(
            {
                "host": os.uname().nodename,
                "pid": os.getpid(),
                "kinds": sorted(handler.kind for handler in self.handlers),
            }
        )

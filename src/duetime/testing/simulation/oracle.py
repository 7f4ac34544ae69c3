"""The truth outside the store: what was asked, what ran, and how each row changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from duetime import codec
from duetime.clock import MICROS
from duetime.config import Settings
from duetime.event import (
    CLAIM,
    DUE_AT,
    PARKING,
    PAYLOAD,
    SHARD,
    Event,
    Row,
    State,
    id_of,
)
from duetime.stores.contract import Filter, Roll
from duetime.stores.memory import MemoryStore
from duetime.stores.sqlite import SqliteStore
from duetime.tally import Tally
from duetime.testing.simulation.faults import Chaos
from duetime.testing.simulation.world import EPOCH, World

__all__ = [
    "Call",
    "Change",
    "Checker",
    "GlassMemory",
    "GlassSqlite",
    "GlassStore",
    "Life",
    "Node",
    "Operation",
    "Oracle",
    "Process",
    "Run",
    "Start",
    "state_of",
]

_MANY = 1_000_000


class Process(Protocol):
    """What the oracle knows of a process."""

    name: str
    alive: bool
    paused_until: int
    operation: Operation | None
    fenced_at: int

    def crash(self, why: str) -> None:
        """Die."""


class Node(Process, Protocol):
    """What the oracle knows of a process that is a node."""

    stopping: bool

    @property
    def number(self) -> int:
        """Its number on the roll."""

    def neglects_to_beat(self) -> bool:
        """Tell whether it could beat and has not for long."""

    def leftovers(self) -> str:
        """Say what it holds."""


class GlassStore(Protocol):
    """A store that can be looked into."""

    def glance(self) -> tuple[dict[Any, Row], dict[str, Event]]:
        """Return the rows and the dead, without changing or delaying anything."""


class GlassMemory(MemoryStore):
    """The memory model, open to the oracle."""

    def glance(self) -> tuple[dict[Any, Row], dict[str, Event]]:
        """Return the model's own dictionaries."""
        return self._rows, self._dead


class GlassSqlite(SqliteStore):
    """A SQLite store, open to the oracle."""

    def glance(self) -> tuple[dict[Any, Row], dict[str, Event]]:
        """Read everything."""
        rows = {
            (event.row[SHARD], *event.row[:2]): event.row for event in self.find(Filter(), _MANY)
        }
        dead = {event.id: event for event in self.find(Filter(state=State.DEAD), _MANY)}
        return rows, dead


class Operation:
    """One call of a client, and what became of it."""

    __slots__ = ("began", "call", "changes", "granted", "number", "outcome", "target", "wish")

    def __init__(self, number: int, call: str, target: str | None, wish: int, began: int) -> None:
        self.number = number
        self.call = call
        self.target = target  # an event's id, where one was given
        self.wish = wish
        self.began = began
        self.outcome = "pending"  # the answer, or lost, refused
        self.changes: list[str] = []  # ids of events that it changed in the store
        self.granted = False  # the store has said yes at least once


class Run:
    """One start of a handler."""

    __slots__ = ("attempt", "began", "claim", "ended", "event_id", "outcome", "process", "result")

    def __init__(self, event: Event, process: Process, began: int) -> None:
        self.event_id = event.id
        self.claim, self.attempt = event.token
        self.process = process
        self.began = began
        self.ended: int | None = None
        self.outcome = "running"  # then done, retry, raised, dead or interrupted
        self.result: Any = None


class Life:
    """One event from the moment it was stored until it is gone."""

    __slots__ = (
        "claims",
        "crashes",
        "due",
        "end",
        "event_id",
        "kind",
        "operation",
        "parks",
        "payload",
        "promised_at",
        "redriven",
        "row",
        "runs",
        "wish",
    )

    def __init__(self, row: Row, operation: Operation | None) -> None:
        self.event_id = id_of(row)
        self.kind = row[4]
        self.payload: dict[str, int] = codec.decode(row[PAYLOAD])
        self.wish = self.payload["wish"]
        self.operation = operation
        self.row = row
        self.due = row[DUE_AT]  # the earliest start that was promised, store µs
        self.promised_at = 0  # when that was, true time
        self.runs: list[Run] = []
        self.claims = 0  # how often it was claimed since it last started
        self.parks = 0
        self.redriven = 0  # how many runs had killed their process before the last redrive
        self.crashes = 0  # claims taken from a dead node while the event was due
        self.end: str | None = None  # done, cancelled or dead


class Change(NamedTuple):
    """One event before and after one call to the store."""

    call: str
    arguments: tuple[Any, ...]
    process: Process
    life: Life
    before: Row | None
    after: Row | None
    was: str
    becomes: str


class Call(NamedTuple):
    """One call that the store has carried out."""

    name: str
    arguments: tuple[Any, ...]
    result: Any
    process: Process


class Start(NamedTuple):
    """One start of a handler."""

    run: Run
    life: Life | None  # None: the event is not kept any more
    event: Event


class Checker:
    """Watches over one promise; each method is told of one kind of moment."""

    def __init__(self, world: World, oracle: Oracle) -> None:
        self.world = world
        self.oracle = oracle

    def changed(self, change: Change) -> None:
        """An event changed in the store."""

    def called(self, call: Call) -> None:
        """The store was called and has answered (the answer may be lost on its way)."""

    def started(self, start: Start) -> None:
        """A handler was called."""

    def ended(self, run: Run) -> None:
        """A handler returned or raised."""

    def answered(self, operation: Operation) -> None:
        """A client's call returned or raised."""

    def rested(self) -> None:
        """Everything has settled; nothing is left to do."""


def state_of(row: Row | None, *, dead: bool) -> str:
    """Return the state of an event by its row: absent, scheduled, parked, claimed or dead."""
    if dead:
        return "dead"
    if row is None:
        return "absent"
    if row[CLAIM]:
        return "claimed"
    return "parked" if row[SHARD] == PARKING else "scheduled"


_QUIET = frozenset({"peek", "get", "owners", "time", "find", "counts", "beat", "strike"})


class Oracle:
    """Follows every event through the store by comparing it before and after each call."""

    def __init__(self, world: World, store: GlassStore, settings: Settings, chaos: Chaos) -> None:
        self.world = world
        self.store = store
        self.settings = settings
        self.lease = int(settings.lease * MICROS)
        self.calm = chaos.calm or chaos.rolling
        self.poison_alone = chaos.is_poison_alone
        self.reachable = chaos.is_reachable
        self._checkers: dict[str, list[Any]] = {}
        self.lives: dict[str, Life] = {}  # by id: those that are kept
        self.past: list[Life] = []
        self.roll: dict[int, tuple[str, int]] = {}  # number → id, when it last beat (true time)
        self.operations: list[Operation] = []
        self.patience: int | None = None  # µs that an event may start late; None: as it comes
        self.stepped_back = False  # whether the store's clock ever did
        self.machines: Sequence[Node] = []  # those that are alive
        self.tallies: list[Tally] = []
        self.node_ids: dict[str, Process] = {}
        self.clock_read: dict[str, tuple[int, int, int]] = {}  # sent at, took, and the step then
        self.next_payload: dict[tuple[str, int], Any] = {}  # what a Retry of a claim asked for
        self.asked: Callable[[int], int | None] = lambda _wish: None
        self.kills: Callable[[int], bool] = lambda _wish: False
        self._rows: dict[Any, Row] = {}
        self._dead: dict[str, Event] = {}

    def watch(self, checkers: Sequence[Checker]) -> None:
        """Tell these checkers of the moments that they look at."""
        for hook in ("called", "changed", "started", "ended", "answered", "rested"):
            base = getattr(Checker, hook)
            deaf = [getattr(type(checker), hook) is base for checker in checkers]
            told = [getattr(c, hook) for c, off in zip(checkers, deaf, strict=True) if not off]
            self._checkers[hook] = told

    # --- the store -----------------------------------------------------------------------------

    def store_now(self) -> int:
        """Return the store's clock."""
        return EPOCH + self.world.now + self.world.store_step

    def observe(self, call: str, arguments: tuple[Any, ...], result: Any, process: Process) -> None:
        """Take note of one call that the store has carried out."""
        if call not in _QUIET:
            self._compare(call, arguments, process)
        for tell in self._checkers["called"]:
            tell(Call(call, arguments, result, process))
        if call == "beat":
            self._beaten(arguments[1], result, arguments[0])
        elif call == "strike" and result:
            self.roll.pop(arguments[0], None)
            self.world.note(process.name, "strikes", arguments[0])

    def _beaten(self, asked: int, roll: Roll, node: str) -> None:
        if asked == 0:
            self.world.note("node", roll.number, node[:6], "joins")
        if roll.number:
            self.roll[roll.number] = (node, self.world.now)

    def _compare(self, call: str, arguments: tuple[Any, ...], process: Process) -> None:
        rows, dead = self.store.glance()
        if rows == self._rows and dead.keys() == self._dead.keys():
            return
        before = {id_of(r): r for place, r in self._rows.items() if rows.get(place) is not r}
        after = {id_of(r): r for place, r in rows.items() if self._rows.get(place) is not r}
        buried = dead.keys() - self._dead.keys()
        unburied = self._dead.keys() - dead.keys()
        was_dead = self._dead
        self._rows, self._dead = dict(rows), dict(dead)
        for event_id in sorted(before.keys() | after.keys() | buried | unburied):
            old, new = before.get(event_id), after.get(event_id)
            if old == new and event_id not in buried and event_id not in unburied:
                continue
            if event_id in unburied:
                old = old or was_dead[event_id].row
            if event_id in buried:
                new = new or dead[event_id].row
            was = state_of(old, dead=event_id in unburied)
            becomes = state_of(new, dead=event_id in buried)
            self._change(call, arguments, process, event_id, old, new, was, becomes)

    def _change(
        self,
        call: str,
        arguments: tuple[Any, ...],
        process: Process,
        event_id: str,
        old: Row | None,
        new: Row | None,
        was: str,
        becomes: str,
    ) -> None:
        operation = process.operation if call in _CLIENT_CALLS else None
        life = self.lives.get(event_id)
        if life is None:
            row = new or old
            assert row is not None
            life = self.lives[event_id] = Life(row, operation)
        if operation is not None:
            operation.changes.append(event_id)
        claim = f"{(new or old or _NONE)[CLAIM] >> 32}.{(new or old or _NONE)[CLAIM] & 0xFFFFFFFF}"
        self.world.note(process.name, call, event_id, f"{was}→{becomes}", claim)
        change = Change(call, arguments, process, life, old, new, was, becomes)
        for tell in self._checkers["changed"]:
            tell(change)
        if new is not None:
            life.row = new
            life.end = "dead" if becomes == "dead" else None
        else:
            life.end = "cancelled" if call == "cancel" else "done"
            self.past.append(self.lives.pop(event_id))

    # --- handlers ------------------------------------------------------------------------------

    def start(self, event: Event, process: Process) -> Run:
        """Take note that a handler is called."""
        self.world.check(process)
        run = Run(event, process, self.world.now)
        life = self.lives.get(event.id)
        start = Start(run, life, event)
        self.world.note(process.name, "starts", event.id, event.kind, event.attempt)
        for tell in self._checkers["started"]:
            tell(start)
        if life is not None:
            life.runs.append(run)
        return run

    def end(self, run: Run, outcome: str, result: Any = None) -> None:
        """Take note that a handler returned or raised, or was stopped."""
        self.world.check(run.process)
        run.ended, run.outcome, run.result = self.world.now, outcome, result
        self.world.note(run.process.name, "ends", run.event_id, outcome)
        for tell in self._checkers["ended"]:
            tell(run)

    # --- clients -------------------------------------------------------------------------------

    def begin(self, call: str, target: str | None, wish: int) -> Operation:
        """Take note of a client's call."""
        operation = Operation(len(self.operations), call, target, wish, self.world.now)
        self.operations.append(operation)
        return operation

    def answer(self, operation: Operation, outcome: str) -> None:
        """Take note of how it ended."""
        operation.outcome = outcome
        self.world.note("answer", operation.number, operation.call, operation.target, outcome)
        for tell in self._checkers["answered"]:
            tell(operation)

    def rest(self) -> None:
        """Let every checker look at the end."""
        for tell in self._checkers["rested"]:
            tell()

    def is_leaving(self, process: Process) -> bool:
        """Tell whether a process is a node that was asked to stop."""
        return getattr(process, "stopping", False)

    def all_lives(self) -> Sequence[Life]:
        """Return every event that was ever stored."""
        return [*self.past, *self.lives.values()]


_CLIENT_CALLS = frozenset({"insert", "cancel", "reschedule", "redrive"})
_NONE: Row = (0, 0, 0, None, "", b"", 0, 0, 0, 0, 0, None)

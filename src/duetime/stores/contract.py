"""What a store must do: about a dozen synchronous methods in domain words, always on many events.

A store knows no policy: it never decides a retry, a pause or who is dead. Times come in as
arguments (µs since 1970 UTC). Each method is one transaction, or several that are safe to repeat:
it has happened when the call returns, it has not when the call raises `StoreUnavailable` or
`StoreFull`, and when the call raises `AnswerLost` it may or may not have happened.
Row counts after a successful commit are the only truth about who holds an event.

Claim numbers: `number = node number << 32 | tick`, never used for two claims. A row whose `claim`
column holds a number belongs to that claim until it is settled or rescued, whatever else is
believed about nodes and shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from duetime.event import Event, Row, State

__all__ = [
    "ALL_KINDS",
    "Answer",
    "Bell",
    "Changes",
    "Counts",
    "Death",
    "Due",
    "Filter",
    "Finding",
    "Kinds",
    "Member",
    "Move",
    "Range",
    "Roll",
    "Settled",
    "Settlement",
    "Store",
    "owner_of",
]


class Answer(StrEnum):
    """What became of a cancel, reschedule or redrive: never a guess."""

    CANCELLED = "cancelled"  # taken back: no invocation will ever start
    RESCHEDULED = "rescheduled"  # moved: it will not start at the old time
    REDRIVEN = "redriven"  # a dead event is scheduled again
    IN_FLIGHT = "in_flight"  # claimed or running: too late
    UNKNOWN = "unknown"  # no such event, or already done or cancelled
    DEAD = "dead"  # given up: redrive it, if it is to run
    SCHEDULED = "scheduled"  # only from redrive: it is not dead but waiting


class Due(NamedTuple):
    """One unclaimed event as `peek` shows it."""

    due_at: int
    kind: str


class Kinds(NamedTuple):
    """Which kinds a claim takes: only these, or all but those. `Kinds(None, ())` is all."""

    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()


ALL_KINDS = Kinds()


class Range(NamedTuple):
    """All rows of one claim between two due times (inclusive) that have no name."""

    claim: int
    shards: tuple[int, ...]
    low: int
    high: int


class Move(NamedTuple):
    """Back to the table: an unclaimed row at (shard, due_at, the same tail) with these columns.

    `row` is as it was claimed; the change is made only where its claim still holds. A move to
    another due time or shard gives the event a row in `names`; a move to its own place (a claim
    given back) does not.
    """

    row: Row
    shard: int
    due_at: int
    payload: bytes
    attempt: int
    failures: int
    crashes: int
    history: bytes | None


class Death(NamedTuple):
    """Given up: the row goes to the dead table, only where its claim still holds."""

    row: Row
    died_at: int
    reason: str
    failures: int
    history: bytes | None


class Settlement(msgspec.Struct, frozen=True):
    """Outcomes to write in one transaction, in this order: moves, deaths, done, ranges.

    The order matters: a retried row must have left its range before the range is deleted.
    """

    ranges: Sequence[Range] = ()
    done: Sequence[Row] = ()
    moves: Sequence[Move] = ()
    deaths: Sequence[Death] = ()


class Settled(NamedTuple):
    """How many rows each part of a settlement really changed; the rest were stale."""

    ranges: int
    done: int
    moves: int
    deaths: int


class Member(NamedTuple):
    """One node on the roll."""

    number: int  # 0 < number < 2**31, given by the store, never reused
    id: str  # random at each start
    counter: int  # raised by each beat
    info: bytes  # JSON about the node: host, pid, version, kinds


class Roll(NamedTuple):
    """What a beat answers."""

    now: int  # the store's clock, µs since 1970 UTC
    number: int  # the node's own number; 0 when it is no longer on the roll
    issued: int  # the highest node number given so far
    members: list[Member]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events `find` returns: all conditions hold at once."""

    kind: str | None = None
    state: State | None = None
    due_from: int | None = None  # inclusive
    due_until: int | None = None  # exclusive


class Counts(msgspec.Struct, frozen=True):
    """How many events are in each state, by kind."""

    scheduled: Mapping[str, int] = {}
    claimed: Mapping[str, int] = {}
    parked: Mapping[str, int] = {}
    dead: Mapping[str, int] = {}
    overdue: int = 0  # scheduled and due before the time that was asked for


class Finding(NamedTuple):
    """One line of `duetime check`."""

    level: str  # "ok", "warning" or "error"
    name: str  # stable, e.g. "sqlite_version"
    text: str  # what was found and what to do


class Bell(Protocol):
    """What a store may have beside the contract, as its attribute `bell`: hints to other nodes.

    Only hints: a ring may be lost, and a node that hears nothing finds everything by looking.
    """

    def ring(self, due_at: int) -> bool:
        """Tell the nodes that an event due at this time (µs) was stored; never raises StoreError.

        Rate-limited: returns False where it was not sent.
        """

    def hear(self, seconds: float) -> int | None:
        """Wait at most so long for a ring; return the due time it told, or None.

        Called by one thread. Raises StoreError where nothing can be heard; may be called again.
        """

    def close(self) -> None:
        """Hear no more: let go of what `hear` opened."""


def owner_of(claim: int) -> int:
    """Return the number of the node that made a claim."""
    return claim >> 32


class Changes(Protocol):
    """The store's methods of these names, inside a transaction of the caller's.

    They mean and answer the same, but are executed on the caller's connection, in the transaction
    that is open there. They never commit, roll it back or leave a setting changed: until the
    caller commits nothing has happened for anybody else, and after a rollback nothing ever has.
    A call that raises leaves the transaction as it was before the call and fit to be gone on
    with, where the database can do that; where it cannot, the message says so. What another open
    transaction holds is waited for as long as the caller's connection waits, at most; after that
    StoreUnavailable with the code `store_busy` is raised. `AnswerLost` never comes: as long as
    the caller has not committed, nothing has happened; so rows without a name need not be asked
    for whether they were stored before. Rows must not carry a claim: the commit may come late, or
    never.
    """

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """As `Store.insert`: None where it is stored, or the event that has the id."""

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """As `Store.cancel`."""

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """As `Store.reschedule`."""


class Store(Protocol):
    """Where events wait. `duetime.testing.StoreSuite` is the definition of a right one."""

    shards: int  # how many slices the events table has; fixed when the tables are made

    def migrate(self) -> list[str]:
        """Create or upgrade the tables; return the names of the steps taken, none if current."""

    def check(self) -> list[Finding]:
        """Look at the database, its settings, schema and integrity; change nothing."""

    def time(self) -> int:
        """Return the store's clock."""

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; for each: None when it is stored, or the event that has its id.

        Rows without a name lie at the place that their id carries; inserting one again while it
        is kept changes nothing and answers None (a lost answer is simply asked again). A row with
        a name is stored only if no kept event, dead ones included, has that name; two of one
        name in one call: the first counts. Rows may carry a claim already. An answered event says
        `created=False`.
        """

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events: CANCELLED, IN_FLIGHT, UNKNOWN or DEAD for each id."""

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times: RESCHEDULED, IN_FLIGHT, UNKNOWN or DEAD.

        A parked event leaves the parking shard. The shard is otherwise kept.
        """

    def within(self, connection: object) -> Changes:
        """Return what may be done inside the transaction that is open on a connection.

        `connection` is of the driver's level (`duetime.within` has unwrapped it): what PEP 249
        calls a connection, of any driver, or apsw's. Raises InvalidInput, code `within_invalid`,
        here or when the first change is made, for one that cannot be used: of another kind of
        database, closed, without an open transaction, or in one that has failed; the message says
        what to do. A database of the right kind that lacks the tables is a SchemaError.
        """

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Schedule dead events again at `due_at` under their old ids.

        Failures and crashes start again at 0, attempts go on counting; `note` (a JSON object) is
        appended to each history. REDRIVEN, SCHEDULED (or IN_FLIGHT) when it is not dead, UNKNOWN.
        """

    def peek(
        self,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Due]:
        """Return the soonest unclaimed events, low ≤ due_at ≤ high, at most `limit`, in order.

        Only of these kinds, and only those that crashed so often: what such a claim would take.
        """

    def claim(
        self,
        number: int,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Row]:
        """Claim unclaimed rows with low ≤ due_at ≤ high, of these kinds, crashed so often.

        Never more than `limit` rows; within a shard the soonest come first, and every shard is
        filled before the next one of `shards` is begun. Each row's attempt is raised by one. The
        answer is sorted by due time. Asked again with the same number (after a lost answer) it
        returns all rows that bear the number, which may then be more than the limit by what the
        second call added, and `limit` bounds each call.
        """

    def settle(self, settlement: Settlement) -> Settled:
        """Write outcomes, each only where its claim still holds (see `Settlement`).

        Done: the row goes, and its name. Every part is safe to repeat.
        """

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Raise the counter of a node and read the roll; with number 0, join under a new number.

        A node that was struck off is not put back: the answer has number 0.
        """

    def strike(self, number: int, counter: int | None) -> bool:
        """Take a node off the roll if its counter is still this one (None: whatever it is)."""

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Return the numbers of the nodes that hold claims on events due at or before `high`."""

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Free the claims of a node on events due at or before `high`; return how many.

        Those due at or before `suspects` may have been running: their crashes grow by one. Those
        due later cannot have started: their attempt is taken back. Rows that another transaction
        holds hold up no others: they are left to the next call.
        """

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Return each event that is kept, wherever it is in its life, or None."""

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Return events in the order (due_at, shard, tail), the dead by (died_at, id).

        Without a state, all that are not dead. `after` is the last event of the page before
        (it need not exist any more).
        """

    def counts(self, now: int) -> Counts:
        """Count what is kept. Reads the whole index: meant for people, not for the hot path."""

    def close(self) -> None:
        """Let go of every connection; safe to call twice."""

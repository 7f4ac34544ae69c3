"""The SQLite store: the contract in the statements of `queries.sql`."""

from __future__ import annotations

from collections.abc import Sequence

from duetime.clock import Clock, SystemClock
from duetime.errors import AnswerLost, ConfigError, SchemaError, StoreError
from duetime.event import NAME, Event, Row, place_of
from duetime.stores.contract import (
    ALL_KINDS,
    Answer,
    Changes,
    Counts,
    Due,
    Filter,
    Finding,
    Kinds,
    Member,
    Roll,
    Settled,
    Settlement,
)
from duetime.stores.sql import load_migrations, load_queries, pending, require_all, valid_prefix
from duetime.stores.sqlite import changing, claiming, findings, joined, reading
from duetime.stores.sqlite.connection import Database
from duetime.stores.sqlite.driver import Connection, driver_named

__all__ = ["SqliteStore"]

_PACKAGE = "duetime.stores.sqlite"


class SqliteStore:
    """Events in one SQLite file, shared by any number of processes on one machine.

    `library` is "apsw", whose SQLite is current, or "sqlite3", the standard library's: for programs
    that open the same file with that, as SQLAlchemy and Django do. Never open a file with both in
    one process: two SQLite libraries do not know of each other's file locks, and closing a file in
    one drops the locks of the other. No library can detect that from inside.

    `prefix` is the namespace: stores with different prefixes in one file never see each other's
    events. `synchronous` is "FULL" (a call returns when its change would survive a power cut) or
    "NORMAL" (faster; a power cut may lose the newest changes, a killed process loses none).
    `busy_timeout` is in seconds. `shards` counts when the tables are made; tables that exist keep
    theirs. Nothing is opened before the first call, and only `migrate` makes the file.
    """

    def __init__(
        self,
        path: str,
        *,
        library: str = "apsw",
        prefix: str = "duetime_",
        shards: int = 32,
        synchronous: str = "FULL",
        busy_timeout: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        """Raise ConfigError for a path, prefix or setting that cannot be."""
        if synchronous not in ("FULL", "NORMAL"):
            raise ConfigError(
                f"synchronous is {synchronous!r:.20}; it must be FULL or NORMAL: with less, a "
                "killed machine would lose events or the whole file.",
                code="sqlite_synchronous",
                field="synchronous",
            )
        self.shards = shards
        self.prefix = valid_prefix(prefix)
        self._clock = clock or SystemClock()
        self._sql = load_queries(_PACKAGE, prefix)
        self._steps = load_migrations(_PACKAGE, prefix)
        self._database = Database(
            path, driver_named(library), synchronous, busy_timeout, self._verify
        )
        self._claimed = claiming.Latest()
        self._known = False  # whether the tables were seen to be those of this program

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._database.path

    def migrate(self) -> list[str]:
        """Make the file and the tables, or upgrade them; return the names of the steps taken."""
        with self._database.writing(create=True) as db:
            db.run(self._sql["version_table"])
            steps = pending(self._steps, self._versions(db), self._where())
            for step in steps:
                db.run(step.sql)
                moment = self._clock.wall()
                version = (step.number, step.name, step.checksum, moment)
                db.change(self._sql["record_version"], version)
            db.change(self._sql["set_meta"], ("shards", self.shards))
            db.change(self._sql["set_meta"], ("issued", 0))
            self.shards = self._meta(db, "shards")
        return [step.name for step in steps]

    def check(self) -> list[Finding]:
        """Look at library, file, settings, schema and integrity; change nothing.

        Raises StoreUnavailable or StoreUnsupported for a file that cannot be read at all.
        """
        try:
            with self._database.reading(checked=False) as db:
                return findings.look(db, self._database.driver, self.path, self._verify)
        except SchemaError as error:
            return [findings.library(self._database.driver), findings.schema(error)]

    def time(self) -> int:
        """Return this machine's wall clock: every process on the file shares it."""
        return self._clock.wall()

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        self._database.close()

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; see the contract."""
        single = len(rows) == 1 and rows[0][NAME] is None
        with self._database.writing(single=single) as db:
            if single:
                return changing.insert_one(db, self._sql, rows[0])
            return changing.insert(db, self._sql, rows)

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events; see the contract."""
        if len(ids) == 1 and (place := place_of(ids[0])) is not None:
            with self._database.writing(single=True) as db:
                if db.change(self._sql["cancel_at"], place):
                    return [Answer.CANCELLED]
        with self._database.writing() as db:
            return changing.cancel(db, self._sql, ids)

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times; see the contract."""
        with self._database.writing() as db:
            return [changing.reschedule(db, self._sql, *move, self.shards) for move in moves]

    def within(self, connection: object) -> Changes:
        """Return what may be done in the transaction of a caller's connection.

        It must be one of the store's library, and the store's file its main database: otherwise
        InvalidInput, `within_library` or `within_invalid`.
        """
        return joined.join(connection, self._database.driver, self.path, self._sql, self._learn)

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Schedule dead events again; see the contract."""
        with self._database.writing() as db:
            return [
                changing.redrive(db, self._sql, event_id, due_at, note, self.shards)
                for event_id in ids
            ]

    def peek(
        self,
        shards: Sequence[int],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Due]:
        """Return the soonest events that such a claim would take; see the contract."""
        wanted = claiming.Wanted(self._sql, 0, shards, low, high, kinds, crashes)
        with self._database.reading(snapshot=False) as db:
            return wanted.peek(db, limit)

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
        """Claim unclaimed rows; see the contract."""
        wanted = claiming.Wanted(self._sql, number, shards, low, high, kinds, crashes)
        repeated = self._claimed.seen(number)
        more = self._claimed.was_full(number)
        if not repeated and not more:
            with self._database.reading(snapshot=False) as db:
                if not wanted.count(db, 1):
                    return []
        # A claim that a power cut undoes is free again, which is what it would become anyway.
        with self._database.writing(flushed=False) as db:
            parts = wanted.mark(db, limit, repeated=repeated, more=more)
        # Read without the write lock: beside busy threads a thousand rows took up to 35 ms, for
        # the interpreter may be lost at each, in which nothing could be settled.
        try:
            with self._database.reading(snapshot=len(parts) > 1) as db:
                rows = wanted.read(db, parts)
        except StoreError as error:
            raise AnswerLost(f"The claim was made, but not read: {error}") from error
        self._claimed.ended(number, full=len(rows) >= limit)
        return rows

    def settle(self, settlement: Settlement) -> Settled:
        """Write outcomes where their claims still hold; see the contract."""
        with self._database.writing() as db:
            return changing.settle(db, self._sql, settlement)

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Raise a counter and read the roll; see the contract."""
        # Only a number that is given must outlast a power cut: it must never be given again.
        joins = number == 0
        with self._database.writing(flushed=joins, single=not joins) as db:
            if joins:
                db.change(self._sql["leave"], (node,))
                db.change(self._sql["issue_number"])
                number = self._meta(db, "issued")
                db.change(self._sql["join"], (number, node, info))
            else:
                number = number if db.change(self._sql["beat"], (number, node, info)) else 0
            roll = db.rows(self._sql["members"])
            members = [Member(*member) for _, *member in roll if member[0] is not None]
            return Roll(self.time(), number, roll[0][0], members)

    def strike(self, number: int, counter: int | None) -> bool:
        """Take a node off the roll; see the contract."""
        with self._database.writing() as db:
            return db.change(self._sql["strike"], (number, counter)) > 0

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Return who holds claims; see the contract."""
        with self._database.reading(snapshot=False) as db:
            found = db.rows(self._sql["owners"], (claiming.listed(shards), high))
            return {number for (number,) in found}

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Free the claims of a node; see the contract."""
        with self._database.writing() as db:
            held = (claiming.listed(shards), high, number, suspects)
            return db.change(self._sql["rescue"], held)

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Return each event that is kept, or None."""
        with self._database.reading() as db:
            return [reading.lookup(db, self._sql, event_id) for event_id in ids]

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Return a page of events in order; see the contract."""
        with self._database.reading() as db:
            return reading.find(db, self._sql, wanted, limit, after, self.shards)

    def counts(self, now: int) -> Counts:
        """Count what is kept, by state and kind."""
        with self._database.reading() as db:
            return reading.counts(db, self._sql, now)

    def _learn(self, db: Connection) -> int:
        """Return the number of shards, after the tables were found to be ours once."""
        if not self._known:
            self._verify(db)
        return self.shards

    def _verify(self, db: Connection) -> None:
        """Raise SchemaError unless the tables are those of this program; learn their shards."""
        missing = pending(self._steps, self._versions(db), self._where())
        require_all(self._steps, missing, self._where())
        self.shards = self._meta(db, "shards")
        self._known = True

    def _versions(self, db: Connection) -> list[tuple[int, str, str]]:
        if db.first(self._sql["version_exists"]) == (0,):
            return []
        return db.rows(self._sql["versions"])

    def _meta(self, db: Connection, name: str) -> int:
        found = db.first(self._sql["read_meta"], (name,))
        return int(found[0]) if found else 0

    def _where(self) -> str:
        return f"{self._database.path} (tables {self.prefix}…)"

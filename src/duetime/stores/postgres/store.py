"""The PostgreSQL store: the contract in the statements of `queries.sql`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from duetime.chance import Chance, SystemChance
from duetime.clock import Clock, SystemClock
from duetime.event import Event, Row
from duetime.store_url import StoreUrl, parse_store
from duetime.stores import rules
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
from duetime.stores.joined import join
from duetime.stores.postgres import changing, claiming, findings, reading, settling
from duetime.stores.postgres.arrays import smallints
from duetime.stores.postgres.bell import PostgresBell
from duetime.stores.postgres.connection import Database, DuplicateError
from duetime.stores.postgres.session import Session
from duetime.stores.postgres.within import PostgresChanges
from duetime.stores.sql import (
    Migration,
    load_migrations,
    load_queries,
    pending,
    require_all,
    valid_prefix,
)

__all__ = ["PostgresStore"]

_PACKAGE = "duetime.stores.postgres"
R = TypeVar("R")


class PostgresStore:
    """Events in one database of a PostgreSQL server (13 on).

    `url` is `postgresql://user:password@host:port/database` or what `parse_store` made of it.
    `prefix` is the namespace: stores with different prefixes in one database never see each
    other's events. `shards` counts when the tables are made; tables that exist keep theirs.
    Nothing is opened before the first call. To run, SELECT, INSERT, UPDATE and DELETE on the
    tables are enough; a pooler that gives each transaction another connection is no obstacle.
    With `notify`, nodes are told of events that are stored elsewhere and due now.
    """

    def __init__(
        self,
        url: str | StoreUrl,
        *,
        prefix: str = "duetime_",
        shards: int = 32,
        clock: Clock | None = None,
        chance: Chance | None = None,
        notify: bool = True,
    ) -> None:
        """Raise ConfigError for a URL or prefix that cannot be."""
        self.shards = shards
        self.prefix = valid_prefix(prefix)
        self._clock = clock or SystemClock()
        queries = load_queries(_PACKAGE, prefix)
        self._sql = {name: text.encode() for name, text in queries.items()}
        self._steps = load_migrations(_PACKAGE, prefix)
        url = parse_store(url) if isinstance(url, str) else url
        chance = chance or SystemChance()
        self._database = Database(url, self._sql["session"], chance, self._verify)
        self.bell = PostgresBell(url, self._database, self._sql, self._clock) if notify else None
        self._claimed = claiming.Latest()
        # The database, and the statements for any search path.
        self._qualified: tuple[str, dict[str, bytes]] | None = None

    def migrate(self) -> list[str]:
        """Make or upgrade the tables; return the names of the steps taken.

        Safe beside running nodes and beside another migration, and to be run again after one that
        was cut off. A lock that is not had soon is given up, so that nodes never queue behind it.
        """
        if self._alone(self._begin):
            return []
        taken: list[str] = []
        while step := self._alone(self._take_step):
            taken.append(step.name)
        return taken

    def _alone(self, work: Callable[[Session], R]) -> R:
        try:
            return self._database.run(work, checked=False, patient=True)
        except DuplicateError:  # two that make a table at once: now it is there
            return self._database.run(work, checked=False, patient=True)

    def _begin(self, db: Session) -> bool:
        """Make the table of versions; tell whether there is nothing more to be done.

        Then nothing is written, so that a role without rights to make tables may ask, too.
        """
        _, number, is_replica, encoding, *_ = db.rows(self._sql["session"])[0]
        self._database.admit(number, encoding, is_replica=is_replica)
        if not db.rows(self._sql["version_exists"])[0][0]:
            db.script(self._sql["version_table"].decode())
        if pending(self._steps, self._versions(db), self._where()):
            return False
        self.shards = self._meta(db, "shards")
        return True

    def _take_step(self, db: Session) -> Migration | None:
        """Take one step that is missing, in a transaction of its own."""
        with db.transaction():
            db.script(self._sql["version_lock"].decode())
            steps = pending(self._steps, self._versions(db), self._where())
            if not steps:  # another migration was quicker
                self.shards = self._meta(db, "shards")
                return None
            step = steps[0]
            db.script(step.sql)
            version = {"number": step.number, "name": step.name, "checksum": step.checksum}
            db.execute(self._sql["record_version"], version | {"at": self._now(db)})
            if step is steps[-1]:
                for name, value in (("shards", self.shards), ("issued", 0)):
                    db.execute(self._sql["set_meta"], {"name": name, "value": value})
            return step

    def check(self) -> list[Finding]:
        """Look at server, settings, tables, rights and clock; change nothing."""
        look = lambda db: findings.look(  # noqa: E731 - one call
            db, self._sql, self.prefix, self._verify, self._clock
        )
        return self._database.run(look, checked=False, patient=True)

    def time(self) -> int:
        """Return the server's clock."""
        return self._database.run(self._now, reserved=True)

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        self._database.close()

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; see the contract."""
        return self._change(rows, lambda db: changing.insert(db, self._sql, rows))

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events; see the contract."""
        return self._change(ids, lambda db: changing.cancel(db, self._sql, ids))

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times; see the contract."""
        return self._change(
            moves, lambda db: changing.reschedule(db, self._sql, moves, self.shards)
        )

    def within(self, connection: object) -> Changes:
        """Return what may be done in the caller's transaction; see the contract.

        The tables are named with their schema, whatever the caller's search path. A lock is waited
        for as long as the caller's `lock_timeout` says, or five seconds where it says nothing. In
        REPEATABLE READ and SERIALIZABLE, an event that has changed since the transaction began
        cannot be changed in it: StoreUnavailable with the code `within_snapshot`.
        """
        joined = join(connection, "postgresql")
        if self._qualified is None:
            ((database, schema),) = self._database.run(lambda db: db.rows(self._sql["schema"]))
            quoted = schema.replace('"', '""').replace("%", "%%")
            queries = load_queries(_PACKAGE, f'"{quoted}".{self.prefix}')
            self._qualified = database, {name: text.encode() for name, text in queries.items()}
        database, sql = self._qualified
        return PostgresChanges(joined, sql, self._database.run, database, self.shards)

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Schedule dead events again; see the contract."""
        return self._change(
            ids, lambda db: changing.redrive(db, self._sql, ids, due_at, note, self.shards)
        )

    def _change(self, items: Sequence[object], work: Callable[[Session], list[R]]) -> list[R]:
        if not items:
            self._database.alive()
            return []
        try:
            return self._database.run(work)
        except DuplicateError:
            raise rules.place_taken() from None

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
        limit = max(limit, 0)
        wanted = claiming.Wanted(self._sql, 0, shards, low, high, limit, kinds, crashes)
        return self._database.run(wanted.peek)

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
        limit = max(limit, 0)
        wanted = claiming.Wanted(self._sql, number, shards, low, high, limit, kinds, crashes)
        repeated = self._claimed.seen(number)

        def work(db: Session) -> list[Row]:
            rows = wanted.claim(db) if limit else []
            return wanted.claimed(db) if repeated else rows

        return self._database.run(work)

    def settle(self, settlement: Settlement) -> Settled:
        """Write outcomes where their claims still hold; see the contract."""
        try:
            return self._database.run(lambda db: settling.settle(db, self._sql, settlement))
        except DuplicateError:
            raise rules.place_taken() from None

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Raise a counter and read the roll; see the contract."""
        return self._database.run(lambda db: self._beat(db, node, number, info), reserved=True)

    def _beat(self, db: Session, node: str, number: int, info: bytes) -> Roll:
        beating = {"node": node, "number": number, "info": info}
        if number == 0:
            with db.transaction():
                ((number,),) = db.changed(self._sql["issue_number"], ())
                db.execute(self._sql["leave"], {"node": node})
                db.execute(self._sql["join"], beating | {"number": number})
        elif not db.execute(self._sql["beat"], beating):
            number = 0
        roll = db.rows(self._sql["members"])
        members = [Member(*member) for _, _, *member in roll if member[0] is not None]
        return Roll(roll[0][1], number, roll[0][0], members)

    def strike(self, number: int, counter: int | None) -> bool:
        """Take a node off the roll; see the contract."""
        struck = {"number": number, "counter": counter}
        run = self._database.run
        return run(lambda db: db.execute(self._sql["strike"], struck), reserved=True) > 0

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Return who holds claims; see the contract."""
        held = {"shards": smallints(shards), "high": high}
        found = self._database.run(lambda db: db.rows(self._sql["owners"], held), reserved=True)
        return {number for (number,) in found}

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Free the claims of a node; see the contract."""
        held = {
            "shards": smallints(shards),
            "high": high,
            "suspects": suspects,
            "first": number << 32,
            "last": (number << 32) | 0xFFFF_FFFF,
        }
        return self._database.run(lambda db: db.execute(self._sql["rescue"], held), reserved=True)

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Return each event that is kept, or None."""
        found = self._database.run(lambda db: reading.lookup(db, self._sql, ids))
        return [reading.copy(found.get(event_id)) for event_id in ids]

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Return a page of events in order; see the contract."""
        return self._database.run(
            lambda db: reading.find(db, self._sql, wanted, limit, after, self.shards)
        )

    def counts(self, now: int) -> Counts:
        """Count what is kept, by state and kind."""
        return self._database.run(
            lambda db: reading.counts(db, self._sql, now), checked=True, patient=True
        )

    def _now(self, db: Session) -> int:
        return int(db.rows(self._sql["clock"])[0][0])

    def _verify(self, db: Session) -> None:
        """Raise SchemaError unless the tables are those of this program; learn their shards."""
        missing = pending(self._steps, self._versions(db), self._where())
        require_all(self._steps, missing, self._where())
        self.shards = self._meta(db, "shards")

    def _versions(self, db: Session) -> list[tuple[int, str, str]]:
        if not db.rows(self._sql["version_exists"])[0][0]:
            return []
        return [(*each,) for each in db.rows(self._sql["versions"])]

    def _meta(self, db: Session, name: str) -> int:
        return int(db.rows(self._sql["read_meta"], {"name": name})[0][0])

    def _where(self) -> str:
        return f"{self._database.url} (tables {self.prefix}…)"

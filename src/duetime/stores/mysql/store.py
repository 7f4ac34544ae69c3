"""The MySQL and MariaDB store: the contract in the statements of `queries.sql`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pymysql

from duetime.chance import Chance, SystemChance
from duetime.clock import MICROS, Clock, SystemClock
from duetime.errors import StoreUnavailable
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
from duetime.stores.mysql import changing, claiming, findings, galera, reading, settling
from duetime.stores.mysql.connection import Database, DuplicateError, Way
from duetime.stores.mysql.literals import render
from duetime.stores.mysql.session import Session
from duetime.stores.mysql.settling import Lost
from duetime.stores.mysql.within import MysqlChanges
from duetime.stores.sql import load_migrations, load_queries, pending, require_all, valid_prefix

__all__ = ["MysqlStore"]

_PACKAGE = "duetime.stores.mysql"
_NO_SUCH_TABLE = 1146
_TAKEN_MEANWHILE = 5  # how often an insert looks again whose names others took meanwhile
_CAREFUL = 30 * MICROS  # how long ranges are settled by places after one of them had to wait

_WHOLE = Way(whole=True)
_FRESH = Way(fresh=True)
_WHOLE_FRESH = Way(whole=True, fresh=True)
_ONCE = Way(waits=1)
_BEAT = Way(reserved=True)
_PATIENT = Way(patient=True, fresh=True)
_BEFORE_TABLES = Way(patient=True, checked=False)


class MysqlStore:
    """Events in one database of a MySQL (8.0 on) or MariaDB (10.6 on) server, or Galera cluster.

    `url` is `mysql://user:password@host:port/database` or what `parse_store` made of it. `prefix`
    is the namespace: stores with different prefixes in one database never see each other's events.
    `shards` counts when the tables are made; tables that exist keep theirs. Nothing is opened
    before the first call. To run, SELECT, INSERT, UPDATE and DELETE on the tables are enough.
    """

    def __init__(
        self,
        url: str | StoreUrl,
        *,
        prefix: str = "duetime_",
        shards: int = 32,
        clock: Clock | None = None,
        chance: Chance | None = None,
    ) -> None:
        """Raise ConfigError for a URL, prefix or certificate that cannot be."""
        self.shards = shards
        self.prefix = valid_prefix(prefix)
        self._clock = clock or SystemClock()
        queries = load_queries(_PACKAGE, prefix)
        self._sql = {name: text.removesuffix(";") for name, text in queries.items()}
        self._steps = load_migrations(_PACKAGE, prefix)
        url = parse_store(url) if isinstance(url, str) else url
        self._database = Database(url, chance or SystemChance(), self._verify)
        self._claimed = claiming.Latest()
        self._qualified: dict[str, str] | None = None  # the statements, for any default database
        self._careful_until = 0

    def migrate(self) -> list[str]:
        """Make or upgrade the tables; return the names of the steps taken.

        Safe beside running nodes and beside another migration, and to be run again after one that
        was cut off.
        """
        run = self._database.run
        if not run(self._missing, _BEFORE_TABLES):
            return []
        run(lambda db: db.execute(self._sql["version_table"]), _BEFORE_TABLES)
        text = render(self._sql["record_version"], number=0, name="lock", checksum="", at=0)
        run(lambda db: db.execute(text), _BEFORE_TABLES)
        return run(self._migrate_alone, _BEFORE_TABLES)

    def _missing(self, db: Session) -> bool:
        """Tell whether there is anything to do; where there is not, no right to do it is needed."""
        if pending(self._steps, self._versions(db), self._where()):
            return True
        self.shards = self._meta(db, "shards")
        return False

    def _migrate_alone(self, db: Session) -> list[str]:
        """Hold the lock on this connection while another takes the steps."""
        with db.transaction():
            db.rows(self._sql["version_lock"])
            return self._database.run(self._take_steps, _BEFORE_TABLES)

    def _take_steps(self, db: Session) -> list[str]:
        steps = pending(self._steps, self._versions(db), self._where())
        for step in steps:
            for statement in filter(None, map(str.strip, step.sql.split(";"))):
                db.execute(statement)
            for name, value in (("shards", self.shards), ("issued", 0)):
                db.execute(render(self._sql["set_meta"], name=name, value=value))
            text = render(
                self._sql["record_version"],
                number=step.number,
                name=step.name,
                checksum=step.checksum,
                at=self._now(db),
            )
            db.execute(text)
        self.shards = self._meta(db, "shards")
        return [step.name for step in steps]

    def check(self) -> list[Finding]:
        """Look at server, settings, tables, schema and clock; change nothing."""
        look = lambda db: findings.look(  # noqa: E731 - one call
            db, self._sql, self.prefix, self._verify, self._clock
        )
        found = self._database.run(look, _BEFORE_TABLES)
        if self._database.url.others:
            each = self._database.each(galera.take_a_look(self._sql, self._clock))
            found += galera.members((f"{url.host}:{url.port}", seen) for url, seen in each)
        return found

    def time(self) -> int:
        """Return the server's clock."""
        return self._database.run(self._now)

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        self._database.close()

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; see the contract."""
        if not rows:
            self._database.alive()
            return []
        for tries in range(_TAKEN_MEANWHILE):
            try:
                return self._insert(rows, careful=tries > 0)
            except DuplicateError:
                continue
        raise rules.place_taken()

    def _insert(self, rows: Sequence[Row], *, careful: bool) -> list[Event | None]:
        # A place is certified whatever this member has seen; a name that is taken is looked up.
        plain = all(row[3] is None for row in rows)
        way = Way(whole=not plain, fresh=careful or not plain)
        return self._database.run(
            lambda db: changing.insert(db, self._sql, rows, careful=careful), way
        )

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

        The tables are named with their database, so the caller may use another on the same
        server. A lock is waited for as long as the caller's `innodb_lock_wait_timeout` says. After
        a deadlock the server has rolled back all of the caller's transaction: StoreUnavailable
        with the code `within_rolled_back`.
        """
        joined = join(connection, "mysql")
        if self._qualified is None:
            (name,) = self._database.run(lambda db: db.rows(self._sql["database"])[0])
            quoted = name.decode().replace("`", "``").replace("%", "%%")
            prefix = f"`{quoted}`.{self.prefix}"
            queries = load_queries(_PACKAGE, prefix)
            self._qualified = {name: text.removesuffix(";") for name, text in queries.items()}
        return MysqlChanges(joined, self._qualified, self._database.run, self.shards)

    def redrive(self, ids: Sequence[str], due_at: int, note: bytes) -> list[Answer]:
        """Schedule dead events again; see the contract."""
        return self._change(
            ids,
            lambda db: changing.redrive(db, self._sql, ids, due_at, note, self.shards),
        )

    def _change(
        self, asked: Sequence[object], work: Callable[[Session], list[Answer]]
    ) -> list[Answer]:
        if not asked:
            self._database.alive()
            return []
        try:
            return self._database.run(work, _FRESH if len(asked) == 1 else _WHOLE_FRESH)
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
        wanted = claiming.Wanted(self._sql, 0, shards, low, high, kinds, crashes)
        return self._database.run(lambda db: wanted.peek(db, limit))

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
        if not shards:
            self._database.alive()
            return []
        return self._database.run(
            lambda db: self._claim(db, wanted, limit, repeated=repeated),
            Way(whole=True, fresh=repeated),
        )

    def _claim(
        self, db: Session, wanted: claiming.Wanted, limit: int, *, repeated: bool
    ) -> list[Row]:
        """Look without locks whether there is anything, unless one shard is asked for.

        That is how a backlog is claimed: there is something, and more than the limit.
        """
        with db.transaction():
            fits = False
            if repeated or limit <= 0 or not wanted.is_narrow:
                waiting = wanted.count(db, max(limit, 0) + 1)
                if not repeated and (not waiting or limit <= 0):
                    return []
                fits = waiting <= limit
            return wanted.claim(db, limit, fits=fits, repeated=repeated)

    def settle(self, settlement: Settlement) -> Settled:
        """Write outcomes where their claims still hold; see the contract."""
        try:
            if self._clock.boot() >= self._careful_until:
                try:
                    return self._settle(settlement, by_places=False)
                except StoreUnavailable as error:
                    if error.code != "store_busy" or not settlement.ranges:
                        raise
                    self._careful_until = self._clock.boot() + _CAREFUL
            return self._settle(settlement, by_places=True)
        except DuplicateError:
            raise rules.place_taken() from None

    def _settle(self, settlement: Settlement, *, by_places: bool) -> Settled:
        one = len(settlement.ranges) == 1 and not by_places
        others = bool(settlement.moves or settlement.deaths or settlement.done)
        return self._database.run(
            lambda db: settling.settle(db, self._sql, settlement, by_places=by_places),
            Way(whole=others or not one, waits=2 if by_places else 1),
        )

    def beat(self, node: str, number: int, info: bytes) -> Roll:
        """Raise a counter and read the roll; see the contract."""
        return self._database.run(lambda db: self._beat(db, node, number, info), _BEAT)

    def _beat(self, db: Session, node: str, number: int, info: bytes) -> Roll:
        if number == 0:
            with db.transaction():
                db.execute(self._sql["issue_number"])
                number = self._meta(db, "issued")
                db.execute(render(self._sql["leave"], node=node))
                db.execute(render(self._sql["join"], number=number, node=node, info=info))
        elif not db.execute(render(self._sql["beat"], number=number, node=node, info=info)):
            number = 0
        roll = db.rows(self._sql["members"])
        members = [
            Member(each, name.decode(), counter, said)
            for _, _, each, name, counter, said in roll
            if each is not None
        ]
        return Roll(int(roll[0][1]), number, roll[0][0], members)

    def strike(self, number: int, counter: int | None) -> bool:
        """Take a node off the roll; see the contract."""
        text = render(self._sql["strike"], number=number, counter=counter)
        return self._database.run(lambda db: db.execute(text) > 0)

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        """Return who holds claims; see the contract."""
        if not shards:
            return set()
        text = render(self._sql["owners"], shards=shards, high=high)
        return self._database.run(lambda db: {int(number) for (number,) in db.rows(text)})

    def rescue(self, shards: Sequence[int], number: int, high: int, suspects: int) -> int:
        """Free the claims of a node; see the contract."""
        if not shards:
            return 0
        lost = Lost(shards, number, high, suspects)
        try:
            return self._database.run(lambda db: settling.rescue(db, self._sql, lost), _ONCE)
        except StoreUnavailable as error:
            if error.code != "store_busy":
                raise
            return self._database.run(
                lambda db: settling.rescue_by_places(db, self._sql, lost), _WHOLE
            )

    def get(self, ids: Sequence[str]) -> list[Event | None]:
        """Return each event that is kept, or None."""
        found = self._database.run(lambda db: reading.lookup(db, self._sql, ids), _FRESH)
        return [reading.copy(found.get(event_id)) for event_id in ids]

    def find(self, wanted: Filter, limit: int, after: Event | None = None) -> list[Event]:
        """Return a page of events in order; see the contract."""

        def work(db: Session) -> list[Event]:
            with db.snapshot():
                return reading.find(db, self._sql, wanted, limit, after, self.shards)

        return self._database.run(work, _FRESH)

    def counts(self, now: int) -> Counts:
        """Count what is kept, by state and kind."""

        def work(db: Session) -> Counts:
            with db.snapshot():
                return reading.counts(db, self._sql, now)

        return self._database.run(work, _PATIENT)

    def _now(self, db: Session) -> int:
        return int(db.rows(self._sql["clock"])[0][0])

    def _verify(self, db: Session) -> None:
        """Raise SchemaError unless the tables are those of this program; learn their shards."""
        missing = pending(self._steps, self._versions(db), self._where())
        require_all(self._steps, missing, self._where())
        self.shards = self._meta(db, "shards")

    def _versions(self, db: Session) -> list[tuple[int, str, str]]:
        try:
            found = db.rows(self._sql["versions"])
        except pymysql.MySQLError as error:
            if error.args[0] == _NO_SUCH_TABLE:
                return []
            raise
        return [(number, checksum.decode(), name.decode()) for number, checksum, name in found]

    def _meta(self, db: Session, name: str) -> int:
        return int(db.rows(render(self._sql["read_meta"], name=name))[0][0])

    def _where(self) -> str:
        return f"{self._database.url} (tables {self.prefix}…)"

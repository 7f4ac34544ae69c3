"""Changes inside a caller's transaction on our file: whose connection will do, and what may fail.

SQLite has one writer: from the first change here until the caller commits, nobody else writes to
the file, our nodes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from duetime.errors import InvalidInput, StoreError, StoreUnavailable
from duetime.event import Event, Row
from duetime.stores.contract import Answer
from duetime.stores.rules import unfit
from duetime.stores.sqlite import changing, faults, files
from duetime.stores.sqlite.driver import BUSY, LOCKED, Connection, Driver

__all__ = ["Joined", "join"]

_URLS = {"apsw": "sqlite:///file", "sqlite3": "sqlite+sqlite3:///file"}
_BUSY = (
    "another connection writes to the file, or has written since this transaction began to read. "
    "Roll back and begin anew, with BEGIN IMMEDIATE, which waits for others as long as your "
    "connection's busy time-out says"
)


def join(
    given: object,
    driver: Driver,
    path: str,
    sql: Mapping[str, str],
    learn: Callable[[Connection], int],
) -> Joined:
    """Return what may be done in the transaction of a caller's connection.

    `learn` is asked once the write lock is held: it raises SchemaError unless the tables are ours,
    and returns the number of shards. Raises InvalidInput `within_invalid` for a connection that
    cannot be used, `within_library` for one of the other SQLite library.
    """
    try:
        connection = driver.borrow(given)
        if connection is None:
            raise _foreign(given, driver)
        listed = connection.rows("PRAGMA database_list")
        begun = connection.in_transaction or connection.begins_itself
    except driver.error as error:
        raise unfit(f"the connection cannot be used ({error}).") from error
    names = {name: file for _, name, file in listed}
    ours = files.identity(path)
    if ours is None or not names["main"] or files.identity(names["main"]) != ours:
        attached = any(file and files.identity(file) == ours for file in names.values())
        raise unfit(
            f"its main database is {names['main'] or 'in memory'}, not {path}"
            + (", which is only attached: two files do not commit as one." if attached else ".")
        )
    if not begun:
        raise unfit("no transaction is open: execute BEGIN IMMEDIATE first.")
    return Joined(connection, driver, path, sql, learn)


class Joined:
    """The changes that `contract.Changes` names, on a connection of a caller's."""

    def __init__(
        self,
        connection: Connection,
        driver: Driver,
        path: str,
        sql: Mapping[str, str],
        learn: Callable[[Connection], int],
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._path = path
        self._sql = sql
        self._learn = learn

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; see the contract."""
        with self._changing() as (db, _):
            return changing.insert(db, self._sql, rows)

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events; see the contract."""
        with self._changing() as (db, _):
            return changing.cancel(db, self._sql, ids)

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times; see the contract."""
        with self._changing() as (db, shards):
            return [changing.reschedule(db, self._sql, *move, shards) for move in moves]

    @contextmanager
    def _changing(self) -> Iterator[tuple[Connection, int]]:
        """Yield the connection and the shards; whatever is raised, undo what was done since.

        The write lock is taken before anything is read: a transaction that reads first fails at
        once when somebody else writes, whatever the busy time-out.
        """
        db = self._connection
        began = not db.in_transaction
        marked = False
        try:
            if began:
                db.run("BEGIN IMMEDIATE")
            db.run("SAVEPOINT duetime_within")
            marked = True
            db.change(self._sql["hold"])
            yield db, self._learn(db)
            db.run("RELEASE duetime_within")
        except BaseException as error:
            lost = self._undo(began=began, marked=marked)
            if isinstance(error, self._driver.error):
                raise self._fault(error, lost) from error
            raise

    def _undo(self, *, began: bool, marked: bool) -> str:
        """Leave the transaction as it was; return what to say if that cannot be."""
        db = self._connection
        try:
            if began:
                if db.in_transaction:
                    db.run("ROLLBACK")
            elif not db.in_transaction:
                return " SQLite has rolled back your whole transaction."
            elif marked:
                db.run("ROLLBACK TO duetime_within; RELEASE duetime_within")
        except self._driver.error as error:
            return f" Roll your transaction back: it could not be brought back ({error})."
        return ""

    def _fault(self, error: Exception, lost: str) -> StoreError:
        code = self._driver.code(error)
        if code in (BUSY, LOCKED):
            return StoreUnavailable(f"{self._path}: {_BUSY} ({error}).{lost}", code="store_busy")
        found = faults.translate(error, code, self._path, 0, committing=False)
        return type(found)(f"{found}{lost}", code=found.code)


def _foreign(given: object, driver: Driver) -> InvalidInput:
    """Return the error for what is no connection of the store's library."""
    inner = getattr(given, "driver_connection", given)  # as SQLAlchemy wraps an awaited one
    roots = {kind.__module__.partition(".")[0] for kind in type(inner).__mro__}
    other = "apsw" if driver.name == "sqlite3" else "sqlite3"
    if roots & ({"apsw"} if other == "apsw" else {"sqlite3", "aiosqlite"}):
        return InvalidInput(
            f"within: this is a connection of {other}, but the store uses {driver.name}: two "
            "SQLite libraries in one process break each other's locks on a file. Open the store "
            f"as {_URLS[other]}.",
            code="within_library",
            field="within",
        )
    return unfit(f"a {type(given).__name__} is no connection to an SQLite file.")

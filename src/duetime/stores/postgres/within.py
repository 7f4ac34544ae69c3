"""Changes inside a transaction of the caller's on PostgreSQL, whatever its isolation and driver.

All of a call stands between a savepoint and its release: a statement that fails would otherwise
end the caller's transaction. Where that sees one snapshot only (REPEATABLE READ, SERIALIZABLE),
what it says of events that were not changed is compared with what is committed, on a connection of
the store's own: an old snapshot must not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast

from duetime.errors import SchemaError, StoreError, StoreFull, StoreUnavailable
from duetime.event import Event, Row
from duetime.stores import rules
from duetime.stores.contract import Answer
from duetime.stores.joined import Joined, JoinedError
from duetime.stores.postgres import changing, driver
from duetime.stores.postgres.arrays import columns
from duetime.stores.postgres.connection import BusyError
from duetime.stores.postgres.driver import Verdict
from duetime.stores.postgres.literals import render
from duetime.stores.postgres.reading import Statements, copy, lookup
from duetime.stores.postgres.session import Parameters, Session

__all__ = ["PostgresChanges"]

R = TypeVar("R")
Look = Callable[[Callable[[Session], dict[str, Event]]], dict[str, Event]]
_WAIT = "5s"  # for locks, where the caller's connection would wait without end
_AT_ONCE = 500  # rows of one INSERT
_COMMITTED = ("read committed", "read uncommitted")  # each statement sees what is committed
_CHANGED, _OUTSIDE, _FAILED, _READ_ONLY = "40001", "25P01", "25P02", "25006"


class _Guest:
    """What `changing` takes for a session: the caller's connection, inside a savepoint."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    def rows(self, statement: bytes, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        return self._joined.rows(render(statement, parameters))

    changed = rows

    def execute(self, statement: bytes, parameters: Parameters = ()) -> int:
        return self._joined.execute(render(statement, parameters))

    def transaction(self) -> nullcontext[None]:
        return nullcontext()


class PostgresChanges:
    """The store's `insert`, `cancel` and `reschedule` in somebody else's transaction."""

    def __init__(
        self, joined: Joined, sql: Statements, look: Look, database: str, shards: int
    ) -> None:
        """`look` runs reads on a connection of the store's, which is at `database`."""
        self._joined = joined
        self._db = cast(Session, _Guest(joined))
        self._sql = sql
        self._look = look
        self._shards = shards
        self._database = database
        self._isolation = ""

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; for each: None when it is stored, or the event that has its id."""
        if not rows:
            return []
        named = [row for row in rows if row[3] is not None]
        fresh = [row for row in rows if row[3] is None]
        with self._saved(waits=bool(named)):
            answers = iter(self._insert_named(named) if named else ())
            for start in range(0, len(fresh), _AT_ONCE):
                some = columns(fresh[start : start + _AT_ONCE])
                self._db.execute(self._sql["insert_again"], some)
        return [None if row[3] is None else next(answers) for row in rows]

    def _insert_named(self, rows: Sequence[Row]) -> list[Event | None]:
        """Insert rows with names; an old snapshot cannot see who has one of them already."""
        try:
            with self._nested():
                return changing.insert(self._db, self._sql, rows)
        except JoinedError as error:
            if error.code != _CHANGED:
                raise
            names = [row[3] for row in rows if row[3] is not None]
            kept = self._look(lambda db: lookup(db, self._sql, names))
            left = [row for row in rows if row[3] not in kept]
            if len(left) == len(rows):
                raise
        stored = iter(changing.insert(self._db, self._sql, left) if left else ())
        return [_existing(kept[row[3]]) if row[3] in kept else next(stored) for row in rows]

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events, or say why not."""
        items = [(event_id, event_id) for event_id in ids]
        return self._change(items, lambda some: changing.cancel(self._db, self._sql, some))

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times, or say why not."""
        items = [(event_id, (event_id, due_at)) for event_id, due_at in moves]
        return self._change(
            items, lambda some: changing.reschedule(self._db, self._sql, some, self._shards)
        )

    def _change(
        self, items: Sequence[tuple[str, R]], change: Callable[[list[R]], list[Answer]]
    ) -> list[Answer]:
        if not items:
            return []
        with self._saved(waits=True):
            if self._isolation in _COMMITTED:
                return change([item for _, item in items])
            return [self._change_one(event_id, item, change) for event_id, item in items]

    def _change_one(
        self, event_id: str, item: R, change: Callable[[list[R]], list[Answer]]
    ) -> Answer:
        """Change one event in a transaction of one snapshot."""
        ours = False
        try:
            with self._nested():
                (answer,) = change([item])
            if answer in (Answer.CANCELLED, Answer.RESCHEDULED):
                return answer
            ours = answer is Answer.UNKNOWN
        except JoinedError as error:
            if error.code != _CHANGED:  # it was changed after the snapshot
                raise
        kept = self._look(lambda db: lookup(db, self._sql, [event_id])).get(event_id)
        refused = rules.refusal(kept)
        if refused is None:
            what = "is new to it, or was cancelled in it" if ours else "has changed since it began"
            raise StoreUnavailable(
                f"within: {self._isolation} shows the transaction one moment only, and the event "
                f"{event_id} {what}: roll back and begin again, or use READ COMMITTED.",
                code="within_snapshot",
            )
        return refused

    @contextmanager
    def _nested(self) -> Iterator[None]:
        """Undo what failed inside, where it may be tried in another way."""
        if self._isolation in _COMMITTED:
            yield
            return
        with self._savepoint("duetime_part"):
            yield

    @contextmanager
    def _savepoint(self, name: str) -> Iterator[None]:
        self._joined.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            self._joined.execute(f"ROLLBACK TO SAVEPOINT {name}")
            self._joined.execute(f"RELEASE SAVEPOINT {name}")
            raise
        self._joined.execute(f"RELEASE SAVEPOINT {name}")

    @contextmanager
    def _saved(self, *, waits: bool) -> Iterator[None]:
        """Let all inside happen or nothing of it; the caller's transaction goes on either way.

        With `waits`, what is inside may wait for locks.
        """
        try:
            with self._savepoint("duetime_within"):
                limited = self._enter(waits=waits)
                yield
                if limited:
                    self._joined.rows(self._sql["leave_limit"].decode())
        except JoinedError as error:
            raise _translate(error) from error
        except BusyError:
            raise StoreUnavailable(
                "within: these events changed as fast as they were read; the transaction stands "
                "as before.",
                code="store_busy",
            ) from None

    def _enter(self, *, waits: bool) -> bool:
        """Look where we are; tell whether a limit was set that has to go again."""
        wait = _WAIT if waits else "0"
        ((name, isolation, timeout, _),) = self._db.rows(self._sql["enter"], {"wait": wait})
        if name != self._database:
            raise rules.unfit(
                f"the connection is at the database {name!r}, the events are kept in "
                f"{self._database!r}: give a connection to that."
            )
        self._isolation = isolation
        return waits and timeout == "0"


def _existing(event: Event) -> Event | None:
    found = copy(event)
    assert found is not None
    found.created = False
    return found


def _translate(error: JoinedError) -> Exception:
    """Return our error for one of the server's."""
    code = str(error.code)
    if code in (_OUTSIDE, _FAILED, _READ_ONLY, ""):
        return rules.unfit(
            {
                _OUTSIDE: "the connection is in autocommit mode and no transaction is open: "
                "nothing could be rolled back. Begin one, or turn autocommit off.",
                _FAILED: "the transaction has failed already: roll it back, and begin anew.",
                _READ_ONLY: "the transaction is read-only: begin one that may write.",
            }.get(code, f"the connection cannot be used ({error.text}).")
        )
    verdict, said = driver.verdict(code), f"({code}: {error.text})"
    if verdict is Verdict.BUSY:
        text = f"within: another transaction held what this one wanted for too long {said}."
        return StoreUnavailable(text, code="store_busy")
    if verdict is Verdict.AGAIN:
        text = f"within: another transaction was in the way {said}: roll back, and begin again."
        return StoreUnavailable(text, code="within_snapshot" if code == _CHANGED else "store_busy")
    if verdict is Verdict.SCHEMA:
        text = f"within: the caller's connection does not reach the tables of the store {said}."
        return SchemaError(text)
    if verdict is Verdict.DENIED:
        text = f"within: the caller's role may not change the tables of the store {said}."
        return StoreUnavailable(text, code="store_denied")
    if verdict is Verdict.DUPLICATE:
        return rules.place_taken()
    if verdict is Verdict.FULL:
        return StoreFull(f"within: no room is left: free some space {said}.")
    if verdict is Verdict.SLOW:
        return StoreUnavailable(f"within: it took too long {said}.", code="store_slow")
    if verdict is Verdict.LOST:
        text = f"within: the caller's connection broke, and its transaction with it {said}."
        return StoreUnavailable(text)
    text = f"within: the server refused a value or a call {said}."
    return StoreError(text, code="postgres_refused")

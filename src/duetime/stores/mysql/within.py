"""Changes inside a transaction of the caller's on MySQL and MariaDB, whatever its isolation.

What is to be changed is looked up on a connection of the store's own: a look in REPEATABLE READ
may be old, and a locking one would lock the gaps between rows, so that others could store nothing
there until the caller commits. There it is seen twice: as committed, and as written by anybody,
the caller included. On the caller's connection single rows are then changed by their whole keys,
and only the counts say whether that was so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import NamedTuple, TypeVar

import pymysql

from duetime.errors import SchemaError, StoreError, StoreFull, StoreUnavailable
from duetime.event import Event, Row, id_of, place_of
from duetime.stores import rules
from duetime.stores.contract import Answer
from duetime.stores.joined import Joined, JoinedError
from duetime.stores.mysql import driver
from duetime.stores.mysql.driver import Verdict
from duetime.stores.mysql.literals import Rendered, event_rows, render
from duetime.stores.mysql.reading import copy, lookup
from duetime.stores.mysql.session import Session

__all__ = ["MysqlChanges"]

R = TypeVar("R")
Look = Callable[[Callable[[Session], R]], R]
_ROUNDS = 5  # how often an event is looked at again that changes while it is looked at
_ROOM = 1 << 20  # bytes of one INSERT that has more than one row
_NO_SAVEPOINT, _READ_ONLY, _TAKEN, _TOO_LONG, _CHANGED = 1305, 1792, 1062, 1205, 1020
_by_place = itemgetter(2, 0, 1)


class _View(NamedTuple):
    """Events by id, as they stand in the database and as they stand once everybody commits."""

    written: dict[str, Event]
    committed: dict[str, Event]


class MysqlChanges:
    """The store's `insert`, `cancel` and `reschedule` in somebody else's transaction."""

    def __init__(
        self, joined: Joined, sql: Mapping[str, str], look: Look[_View], shards: int
    ) -> None:
        """`look` runs reads on a connection of the store's; refuses what has no transaction."""
        self._joined = joined
        self._sql = sql
        self._look = look
        self._shards = shards
        try:
            self._where = joined.value(sql["where_am_i"])
            if self._where.startswith("1"):
                joined.execute("SAVEPOINT duetime_open")
                joined.execute("RELEASE SAVEPOINT duetime_open")
        except JoinedError as error:
            if error.code == _NO_SAVEPOINT:
                raise rules.unfit(
                    "the connection is in autocommit mode and no transaction is open: nothing "
                    "could be rolled back. Begin one, or turn autocommit off."
                ) from error
            raise rules.unfit(f"the connection cannot be used ({error.text}).") from error

    def insert(self, rows: Sequence[Row]) -> list[Event | None]:
        """Store new events; for each: None when it is stored, or the event that has its id."""
        if not rows:
            return []
        fresh = sorted((row for row in rows if row[3] is None), key=_by_place)
        parts = list(event_rows(fresh, _ROOM))
        if len(parts) == 1 and len(fresh) == len(rows):
            with self._translating():  # one statement, which happens as a whole by itself
                self._insert_parts(parts)
            return [None] * len(rows)
        with self._saved():
            existing = self._insert_named(rows)
            self._insert_parts(parts)
        return existing

    def _insert_parts(self, parts: Sequence[Rendered]) -> None:
        for part in parts:
            self._joined.execute(render(self._sql["insert"], rows=part))

    def _insert_named(self, rows: Sequence[Row]) -> list[Event | None]:
        """Insert the rows whose name is new, the first of each; answer for the others."""
        first: dict[str, Row] = {}
        for row in rows:
            if row[3] is not None:
                first.setdefault(row[3], row)
        view = self._view(list(first))
        kept = {name: found for name in first if (found := _kept(view, name)) is not None}
        # In the order of names, so that two such inserts never wait for each other in a circle.
        for name in sorted(first.keys() - kept.keys()):
            existing = self._insert_name(first[name], name)
            if existing is not None:
                kept[name] = existing
        new = {name: row for name, row in first.items() if name not in kept}
        for part in event_rows(sorted(new.values(), key=_by_place), _ROOM):
            self._joined.execute(render(self._sql["insert_named"], rows=part))
        answers: list[Event | None] = []
        for row in rows:
            if row[3] is None or new.pop(row[3], None) is not None:
                answers.append(None)
                continue
            event = copy(kept.get(row[3])) or Event(first[row[3]])
            event.created = False
            answers.append(event)
        return answers

    def _insert_name(self, row: Row, name: str) -> Event | None:
        """Take a name; return the event that has it already, where somebody was first.

        Waits for another transaction that has taken it and is not committed.
        """
        lead = Rendered(render("(%(all)s)", all=Rendered(_listed(name, row))))
        for _ in range(_ROUNDS):
            try:
                self._joined.execute(render(self._sql["new_names"], rows=lead))
            except JoinedError as error:
                if error.code != _TAKEN:
                    raise
            else:
                return None
            view = self._view([name])
            found = view.committed.get(name) or view.written.get(name)
            if found is not None:
                return found
        raise _busy()

    def cancel(self, ids: Sequence[str]) -> list[Answer]:
        """Delete unclaimed events, or say why not."""
        return self._change(ids, self._cancel, Answer.CANCELLED)

    def _cancel(self, _index: int, event: Event) -> bool:
        row = event.row
        if not self._joined.execute(render(self._sql["take_free"], **_place(row))):
            return False
        if row[3] is not None:
            self._joined.execute(render(self._sql["forget_name"], name=row[3]))
        return True

    def reschedule(self, moves: Sequence[tuple[str, int]]) -> list[Answer]:
        """Move unclaimed events to new due times, or say why not."""

        def move(index: int, event: Event) -> bool:
            return self._move(event.row, moves[index][1])

        return self._change([event_id for event_id, _ in moves], move, Answer.RESCHEDULED)

    def _move(self, row: Row, due_at: int) -> bool:
        shard = rules.home(row[2], row[1], self._shards)
        if (shard, due_at) == (row[2], row[0]):
            return bool(self._joined.rows(render(self._sql["hold_free"], **_place(row))))
        name = rules.name_after(row, shard, due_at)
        new = {"new_shard": shard, "new_due_at": due_at, "name": name}
        if not self._joined.execute(render(self._sql["reschedule_at"], **_place(row), **new)):
            return False
        lead = {"name": name, "shard": shard, "due_at": due_at, "tail": row[1]}
        self._joined.execute(render(self._sql["lead_name"], **lead))
        return True

    def _change(
        self, ids: Sequence[str], change: Callable[[int, Event], bool], good: Answer
    ) -> list[Answer]:
        """Change what can be changed, one after the other."""
        if not ids:
            return []
        answers = []
        with self._saved():
            view = self._view(ids)
            for index, event_id in enumerate(ids):
                changed = event_id in ids[:index]
                refused = self._try(event_id, index, change, None if changed else view)
                answers.append(refused or good)
        return answers

    def _try(
        self, event_id: str, index: int, change: Callable[[int, Event], bool], view: _View | None
    ) -> Answer | None:
        """Change one event; return why not, or None.

        Never touches a row that is not free: its lock would stay until the caller commits, and
        keep a node from settling it. What two views disagree on is being changed by somebody.
        """
        gone = False
        for _ in range(_ROUNDS):
            written, committed = view or self._view([event_id])
            view = None
            event, sure = written.get(event_id), committed.get(event_id)
            if event is None and sure is None:
                event = self._own(event_id)
                if event is None:
                    return Answer.UNKNOWN
            refused = rules.refusal(event or sure)
            if refused is not None:
                if event is None or (sure is not None and rules.refusal(sure) is refused):
                    return refused
                self._await((sure or event).row)
                continue
            if event is None and gone:
                return Answer.UNKNOWN
            free = event or sure
            assert free is not None
            if change(index, free):
                return None
            gone = event is None  # deleted by the caller himself, or by one who has committed
        raise _busy()

    def _view(self, ids: Sequence[str]) -> _View:
        def read(db: Session) -> _View:
            with db.dirty():
                written = lookup(db, self._sql, ids)
            return _View(written, lookup(db, self._sql, ids))

        return self._look(read)

    def _own(self, event_id: str) -> Event | None:
        """Return an event that only the caller sees, because he is on another server than we.

        On the same server nobody sees more than we do, and a look could only lock something.
        """

        def where(db: Session) -> _View:
            (told,) = db.rows(self._sql["where_am_i"])[0]
            here = self._where.partition(" ")[2]
            return _View({}, {}) if _plain(told).partition(" ")[2] == here else _ELSEWHERE

        if self._look(where) is not _ELSEWHERE:
            return None
        place = place_of(event_id)
        asked = [render(self._sql["own_named"], name=event_id)]
        if place is not None:
            asked.append(render(self._sql["own_at"], **place._asdict()))
        for statement in asked:
            for (told,) in self._joined.rows(statement):
                row = _own_row(_plain(told))
                if id_of(row) == event_id:
                    return Event(row)
        return None

    def _await(self, row: Row) -> None:
        """Wait for whoever is changing a row, on our own connection; raises `store_busy`."""

        def wait(db: Session) -> _View:
            db.rows(render(self._sql["await_at"], **_place(row)))
            return _View({}, {})

        self._look(wait)

    @contextmanager
    def _saved(self) -> Iterator[None]:
        """Let all inside happen or nothing of it; the caller's transaction goes on either way."""
        with self._translating():
            self._joined.execute("SAVEPOINT duetime_within")
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            self._joined.execute("RELEASE SAVEPOINT duetime_within")

    def _roll_back(self) -> None:
        try:
            self._joined.execute("ROLLBACK TO SAVEPOINT duetime_within")
            self._joined.execute("RELEASE SAVEPOINT duetime_within")
        except JoinedError as error:
            if error.code == _NO_SAVEPOINT:
                raise _rolled_back() from error

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise our errors for the server's."""
        try:
            yield
        except JoinedError as error:
            if error.code == _TOO_LONG and self._ends_after_waiting():
                raise _rolled_back(" after waiting for a lock") from error
            raise _translate(error) from error

    def _ends_after_waiting(self) -> bool:
        """Tell whether the server rolls back all after a lock was waited for in vain."""
        try:
            return self._joined.value(self._sql["ends_after_waiting"]) == "1"
        except JoinedError:
            return False


_ELSEWHERE = _View({}, {})


def _kept(view: _View, name: str) -> Event | None:
    """Return an event that is there for certain: committed, and nobody is taking it away."""
    return view.committed.get(name) if name in view.written else None


def _place(row: Row) -> dict[str, int]:
    return {"shard": row[2], "due_at": row[0], "tail": row[1]}


def _listed(name: str, row: Row) -> str:
    return render("%(name)s,%(shard)s,%(due_at)s,%(tail)s", name=name, **_place(row))


def _plain(told: object) -> str:
    return told.decode() if isinstance(told, bytes | bytearray) else str(told)


def _own_row(told: str) -> Row:
    """Return what is known of a row as a Row; what is not needed is left empty."""
    shard, due_at, tail, claim, name = told.split(" ")
    known = bytes.fromhex(name).decode() or None
    return (int(due_at), int(tail), int(shard), known, "", b"", 0, 0, 0, int(claim), 0, None)


def _busy() -> StoreUnavailable:
    return StoreUnavailable(
        "within: these events changed as fast as they were read; the transaction stands as before.",
        code="store_busy",
    )


def _rolled_back(said: str = "") -> StoreUnavailable:
    return StoreUnavailable(
        f"within: the database has rolled back the caller's whole transaction{said}: "
        "roll back, and begin it again.",
        code="within_rolled_back",
    )


def _translate(error: JoinedError) -> Exception:
    """Return our error for one of the server's."""
    code = error.code if isinstance(error.code, int) else 0
    _, verdict = driver.judge(pymysql.MySQLError(code, error.text))
    said = f"({code})" if code in driver.QUOTING else f"({code}: {error.text})"
    if verdict is Verdict.BUSY:
        text = f"within: another transaction held what this one wanted for too long {said}."
        return StoreUnavailable(text, code="store_busy")
    if code == _CHANGED:
        text = (
            f"within: an event has changed since this transaction began {said}: roll back and "
            "begin again, or use READ COMMITTED."
        )
        return StoreUnavailable(text, code="within_snapshot")
    if verdict is Verdict.AGAIN:
        return _rolled_back(f" {said}")
    if verdict is Verdict.DUPLICATE:
        return rules.place_taken()
    if verdict in (Verdict.SCHEMA, Verdict.DATABASE):
        return SchemaError(
            f"within: the caller's connection does not reach the tables of the store {said}: "
            "give a connection to the same server."
        )
    if verdict in (Verdict.LOST, Verdict.CUT_OFF):
        text = f"within: the caller's connection broke, and its transaction with it {said}."
        return StoreUnavailable(text)
    if verdict is Verdict.FULL:
        return StoreFull(f"within: no room is left: free some space {said}.")
    if verdict is Verdict.DENIED:
        text = f"within: the caller's user may not change the tables of the store {said}."
        return StoreUnavailable(text, code="store_denied")
    if code == _READ_ONLY:
        return rules.unfit("the transaction is read-only: begin one that may write.")
    return StoreError(f"within: the server refused a value or a call {said}.", code="mysql_refused")

"""Changes inside a caller's transaction on SQLite, through either library."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from duetime.errors import (
    InvalidInput,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from duetime.event import Row, id_of
from duetime.stores.contract import Answer
from duetime.stores.sqlite import SqliteStore
from duetime.testing.promises.given import SECOND, T, in_state, kept, row

BEGIN = "BEGIN IMMEDIATE"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "shop.db")


@pytest.fixture(params=["apsw", "sqlite3"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(path: str, library: str) -> Iterator[SqliteStore]:
    store = SqliteStore(path, library=library, busy_timeout=5)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def connect(library: str) -> Iterator[Callable[..., Any]]:
    """Return what opens connections of a caller's, which begin nothing by themselves."""
    opened: list[Any] = []

    def connect(path: str, timeout: float = 0) -> Any:
        if library == "apsw":
            opened.append(apsw.Connection(path))
            opened[-1].set_busy_timeout(int(timeout * 1000))
        else:
            opened.append(sqlite3.connect(path, timeout=timeout, isolation_level=None))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def caller(store: SqliteStore, path: str, connect: Callable[..., Any]) -> Any:
    """A caller's connection, with a table of the caller's own."""
    connection = connect(path)
    connection.execute("CREATE TABLE orders(id)")
    return connection


def code_of(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.code)


def orders(caller: Any) -> int:
    return int(next(iter(caller.execute("SELECT count(*) FROM orders")))[0])


def change_all(store: SqliteStore, caller: Any) -> tuple[str, str, str]:
    """Schedule one event, cancel one and move one, with an order of the caller's."""
    moved, gone = row(T, shard=1), row(T + 1)
    store.insert([moved, gone])
    new = row(T + 2, name="new")
    caller.execute(BEGIN)
    caller.execute("INSERT INTO orders VALUES (1)")
    inside = store.within(caller)
    assert inside.insert([new]) == [None]
    assert inside.cancel([id_of(gone)]) == [Answer.CANCELLED]
    assert inside.reschedule([(id_of(moved), T + SECOND)]) == [Answer.RESCHEDULED]
    return "new", id_of(gone), id_of(moved)


def state_of(store: SqliteStore, ids: tuple[str, str, str]) -> list[int | None]:
    """Return the due times of what is there."""
    return [event.row[0] if event else None for event in store.get(ids)]


def test_it_happens_with_the_callers_commit(store: SqliteStore, caller: Any) -> None:
    """Until the caller commits nobody else sees anything of it, and then all of it."""
    ids = change_all(store, caller)
    assert state_of(store, ids) == [None, T + 1, T]
    caller.execute("COMMIT")
    assert state_of(store, ids) == [T + 2, None, T + SECOND]
    assert orders(caller) == 1


def test_a_rollback_leaves_nothing(store: SqliteStore, caller: Any) -> None:
    """What the caller rolls back has never been."""
    ids = change_all(store, caller)
    caller.execute("ROLLBACK")
    assert state_of(store, ids) == [None, T + 1, T]
    assert orders(caller) == 0
    assert store.insert([row(name="new")]) == [None]


def test_a_savepoint_of_the_callers(store: SqliteStore, caller: Any) -> None:
    """What came after a savepoint goes with it; the rest is committed."""
    inside = store.within(caller) if caller.execute(BEGIN) else None
    assert inside is not None
    inside.insert([row(name="before")])
    caller.execute("SAVEPOINT mine")
    inside.insert([row(name="after")])
    assert inside.cancel(["before"]) == [Answer.CANCELLED]
    caller.execute("ROLLBACK TO mine")
    caller.execute("COMMIT")
    assert [event and event.id for event in store.get(["before", "after"])] == ["before", None]


def test_answers_are_the_stores_own(store: SqliteStore, caller: Any) -> None:
    """Inside a transaction a change answers as it does outside, about its own changes too."""
    held = in_state(store, "claimed")
    dead = in_state(store, "dead")
    store.insert([row(name="there")])
    caller.execute(BEGIN)
    inside = store.within(caller)
    found = inside.insert([row(name="there", kind="other"), row(name="new"), row(name="new")])
    assert [event and (event.id, event.kind, event.created) for event in found] == [
        ("there", "mail", False),
        None,
        ("new", "mail", False),
    ]
    ids = ["there", "new", "nobody", held, dead]
    wanted = [Answer.CANCELLED, Answer.CANCELLED, *REFUSED]
    assert inside.reschedule([(one, T + 5) for one in ids]) == [
        Answer.RESCHEDULED,
        Answer.RESCHEDULED,
        *REFUSED,
    ]
    assert inside.cancel(ids) == wanted
    assert inside.cancel(ids)[:2] == [Answer.UNKNOWN, Answer.UNKNOWN]
    caller.execute("COMMIT")
    assert store.get(["there", "new"]) == [None, None]


REFUSED = [Answer.UNKNOWN, Answer.IN_FLIGHT, Answer.DEAD]


def test_a_transaction_is_needed(store: SqliteStore, caller: Any) -> None:
    """Without an open transaction the call is refused with the way to begin one."""
    with pytest.raises(InvalidInput, match=BEGIN) as error:
        store.within(caller)
    assert code_of(error) == "within_invalid"


def test_another_file_is_refused(
    store: SqliteStore, path: str, connect: Callable[..., Any]
) -> None:
    """A transaction on another file, in memory, or one to which ours is attached, is refused."""
    for place, attached in (
        (path + "2", None),
        (":memory:", None),
        (":memory:", path),
        (path + "3", path),
    ):
        foreign = connect(place)
        if attached:
            foreign.execute("ATTACH ? AS shop", (attached,))
        foreign.execute("BEGIN")
        with pytest.raises(InvalidInput, match="only attached" if attached else "not /") as error:
            store.within(foreign)
        assert code_of(error) == "within_invalid"
        foreign.execute("ROLLBACK")


def test_the_same_file_by_another_path(
    store: SqliteStore, path: str, connect: Callable[..., Any]
) -> None:
    """The file counts, not the way to it."""
    Path(path + ".link").symlink_to(path)
    caller = connect(path + ".link")
    caller.execute(BEGIN)
    assert store.within(caller).insert([row(name="a")]) == [None]
    caller.execute("COMMIT")
    assert kept(store, "a").id == "a"


def test_the_other_library_is_refused(path: str, tmp_path: Path) -> None:
    """A connection of the other SQLite library is refused, naming the URL that would do."""
    elsewhere = str(tmp_path / "another.db")  # not the store's file: that alone would do harm
    for name, foreign, url in (
        ("apsw", sqlite3.connect(elsewhere), r"sqlite\+sqlite3:///"),
        ("sqlite3", apsw.Connection(elsewhere), r" sqlite:///"),
    ):
        store = SqliteStore(path, library=name)
        store.migrate()
        with pytest.raises(InvalidInput, match=url) as error:
            store.within(foreign)
        assert code_of(error) == "within_library"
        store.close()
        foreign.close()


def test_what_is_no_connection_is_refused(store: SqliteStore, caller: Any) -> None:
    """An object of another kind, or a connection that is closed, is refused."""
    caller.close()
    for given in (object(), None, "shop.db", caller):
        with pytest.raises(InvalidInput) as error:
            store.within(given)
        assert code_of(error) == "within_invalid"


def test_a_connection_of_another_thread_is_refused(path: str) -> None:
    """A connection of sqlite3 is of use in the thread that opened it, and refused in others."""
    store = SqliteStore(path, library="sqlite3")
    store.migrate()
    caller = sqlite3.connect(path)
    with ThreadPoolExecutor(1) as pool, pytest.raises(InvalidInput, match="thread") as error:
        pool.submit(store.within, caller).result()
    assert code_of(error) == "within_invalid"
    caller.close()
    store.close()


def test_tables_that_are_missing(path: str, library: str, connect: Callable[..., Any]) -> None:
    """A file without our tables names what to run, and the caller's transaction goes on."""
    store = SqliteStore(path, library=library)
    caller = connect(path)
    caller.execute("CREATE TABLE orders(id)")
    caller.execute(BEGIN)
    caller.execute("INSERT INTO orders VALUES (1)")
    with pytest.raises(SchemaError, match="duetime migrate"):
        store.within(caller).insert([row()])
    caller.execute("COMMIT")
    assert orders(caller) == 1
    store.close()


def test_tables_of_another_version(path: str, library: str, connect: Callable[..., Any]) -> None:
    """Tables that a newer program made are refused inside a transaction, too."""
    SqliteStore(path, library=library).migrate()
    caller = connect(path)
    caller.execute("INSERT INTO duetime_version VALUES (99, '0099_later', 'x', 0)")
    store = SqliteStore(path, library=library)
    caller.execute(BEGIN)
    with pytest.raises(SchemaError) as error:
        store.within(caller).cancel(["a"])
    assert code_of(error) == "schema_newer"
    caller.execute("ROLLBACK")
    store.close()


def test_a_snapshot_that_is_no_longer_the_newest(
    store: SqliteStore, caller: Any, library: str
) -> None:
    """Read first, then overtaken by another writer: refused at once, saying BEGIN IMMEDIATE."""
    caller.execute("BEGIN")
    assert orders(caller) == 0
    store.insert([row(name="overtaker")])
    inside = store.within(caller)
    for call in (lambda: inside.insert([row(name="a")]), lambda: inside.cancel(["overtaker"])):
        with pytest.raises(StoreUnavailable, match=BEGIN) as error:
            call()
        assert code_of(error) == "store_busy"
    assert orders(caller) == 0  # the transaction is as it was
    caller.execute("ROLLBACK")
    caller.execute(BEGIN)
    assert inside.cancel(["overtaker"]) == [Answer.CANCELLED]
    caller.execute("COMMIT")
    assert store.get(["overtaker"]) == [None]


def test_a_writer_is_waited_for(path: str, store: SqliteStore, library: str) -> None:
    """A transaction that has read nothing yet waits for another writer, as its time-out says."""
    other: Any = (
        apsw.Connection(path)
        if library == "apsw"
        else sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    )
    other.execute(BEGIN)
    freed: list[bool] = []

    def free() -> bool:
        if not freed:
            freed.append(True)
            other.execute("COMMIT")
        return True

    caller: Any
    if library == "apsw":
        caller = apsw.Connection(path)
        caller.set_busy_handler(lambda _: free())
    else:
        caller = sqlite3.connect(path, timeout=20)
        timer = threading.Timer(0.05, free)
        caller.set_trace_callback(
            lambda sql: timer.start() if sql.startswith("UPDATE duetime_meta") else None
        )
    caller.execute("BEGIN")
    assert store.within(caller).insert([row(name="a")]) == [None]
    assert freed
    caller.execute("COMMIT")
    assert kept(store, "a").id == "a"
    caller.close()
    other.close()


def test_a_writer_that_stays_is_told(store: SqliteStore, caller: Any, path: str) -> None:
    """Another's transaction that outlasts the time-out is `store_busy`, and nothing happened."""
    with store._database.writing():
        caller.execute("BEGIN")
        with pytest.raises(StoreUnavailable) as error:
            store.within(caller).insert([row(name="a")])
    assert code_of(error) == "store_busy"
    caller.execute("COMMIT")
    assert store.get(["a"]) == [None]


def test_a_refused_call_leaves_the_transaction_as_it_was(store: SqliteStore, caller: Any) -> None:
    """After a call that raised, what came before it in the transaction can be committed."""
    store.insert([row(T, tail=5)])
    caller.execute(BEGIN)
    inside = store.within(caller)
    inside.insert([row(name="good")])
    caller.execute("INSERT INTO orders VALUES (1)")
    for bad, code in (([row(name="x"), wrong_row()], "sqlite_refused"), (taken(), "place_taken")):
        with pytest.raises(StoreError) as error:
            inside.insert(bad)
        assert code_of(error) == code
    inside.insert([row(name="better")])
    caller.execute("COMMIT")
    assert [event and event.id for event in store.get(["good", "better", "x"])] == [
        "good",
        "better",
        None,
    ]
    assert orders(caller) == 1


def wrong_row() -> Row:
    return (*row()[:4], None, *row()[5:])  # type: ignore[return-value] # a kind of None


def taken() -> list[Row]:
    return [row(name="x"), row(T, tail=5, name="y")]


def test_a_full_file(store: SqliteStore, caller: Any) -> None:
    """Without room nothing of the call is left, and the error says what became of the rest."""
    pages = next(iter(caller.execute("PRAGMA page_count")))[0]
    caller.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    caller.execute(BEGIN)
    with pytest.raises(StoreFull) as error:
        store.within(caller).insert([row(name="a", payload=b"1" * 100_000)])
    gone = "rolled back your whole transaction" in str(error.value)
    assert caller.in_transaction is not gone
    caller.execute("PRAGMA max_page_count = 1000000").fetchall()
    if not gone:
        caller.execute("COMMIT")
    assert store.get(["a"]) == [None]


def test_sqlite3_begins_by_itself(path: str) -> None:
    """With sqlite3's default a first change begins a transaction that the caller's commit ends."""
    store = SqliteStore(path, library="sqlite3")
    store.migrate()
    with sqlite3.connect(path) as caller:
        assert store.within(caller).insert([row(name="a")]) == [None]
        assert caller.in_transaction
        assert store.get(["a"]) == [None]
    assert kept(store, "a").id == "a"
    assert store.within(caller).cancel(["a"]) == [Answer.CANCELLED]
    caller.rollback()
    assert kept(store, "a").id == "a"
    with pytest.raises(StoreError):
        store.within(caller).insert([row(T + 1, name="b"), wrong_row()])
    assert not caller.in_transaction
    caller.close()
    store.close()


def test_what_the_caller_makes_of_rows_does_not_matter(path: str) -> None:
    """Row factories, text factories and tracers of the caller see nothing of ours, and stay."""
    store = SqliteStore(path, library="sqlite3")
    store.migrate()
    store.insert([row(name="a", shard=3)])
    caller = sqlite3.connect(path)
    caller.row_factory = sqlite3.Row
    caller.text_factory = bytes
    inside = store.within(caller)
    found = inside.insert([row(name="a")])[0]
    assert found is not None
    assert (found.id, found.kind, type(found.row)) == ("a", "mail", tuple)
    assert inside.reschedule([("a", T + 9)]) == [Answer.RESCHEDULED]
    assert (caller.row_factory, caller.text_factory) == (sqlite3.Row, bytes)
    caller.commit()
    caller.close()
    store.close()
    store = SqliteStore(path)
    traced = apsw.Connection(path)
    traced.row_trace = lambda _, columns: dict(enumerate(columns))
    traced.exec_trace = lambda *_: False
    with pytest.raises(apsw.ExecTraceAbort):
        traced.execute(BEGIN)
    traced.exec_trace = None
    traced.execute(BEGIN)
    traced.exec_trace = lambda *_: False
    found = store.within(traced).insert([row(name="a")])[0]
    assert found is not None
    assert found.row[0] == T + 9
    traced.exec_trace = None
    traced.execute("COMMIT")
    traced.close()
    store.close()

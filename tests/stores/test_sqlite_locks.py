"""SQLite under others, and on a disk that fails: who waits, and what an error says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import apsw
import pytest

from duetime.clock import SystemClock
from duetime.errors import (
    AnswerLost,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from duetime.event import Row, id_of
from duetime.stores.contract import Answer, Filter, Kinds
from duetime.stores.sqlite import SqliteStore, connection
from duetime.stores.sqlite.claiming import Wanted
from duetime.stores.sqlite.driver import Connection, driver_named
from duetime.testing.promises.given import T, kept, number, row
from tests.stores.conftest import code_of


def test_a_locked_file_is_waited_for_in_vain(store: SqliteStore, other: Connection) -> None:
    """Locked longer than the time-out, a write says that it did not happen; later it does."""
    other.run("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as error:
        store.insert([row(name="a")])
    assert code_of(error) == "sqlite_busy"
    other.run("ROLLBACK")
    assert store.get(["a"]) == [None]
    assert store.insert([row(name="a")]) == [None]


def test_waiting_writers_do_not_add_up(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a writer of its own process that waits for the file, a write fails in time, too."""
    monkeypatch.setattr(connection, "_LONGEST_QUEUE", 0.01)
    with store._database.writing(), ThreadPoolExecutor(1) as pool:
        with pytest.raises(StoreUnavailable) as error:
            pool.submit(store.insert, [row(name="a")]).result(10)
        assert code_of(error) == "sqlite_busy"
    assert store.insert([row(name="a")]) == [None]


def test_waiting_is_in_short_pauses(
    path: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer looks for the lock again every 0.5 to 5 ms, and writes once it is free."""
    store = SqliteStore(path, library=library)
    store.migrate()
    other = driver_named(library).connect(path, lambda _: False)
    other.run("BEGIN IMMEDIATE")
    pauses: list[int] = []

    def pause(_: SystemClock, micros: int) -> None:
        pauses.append(micros)
        if len(pauses) == 50:
            other.run("ROLLBACK")

    monkeypatch.setattr(SystemClock, "sleep", pause)
    assert store.insert([row()]) == [None]
    assert len(pauses) == 50
    assert (pauses[0], max(pauses)) == (500, 5000)
    store.close()
    other.close()


def test_reads_wait_for_nobody(store: SqliteStore, other: Connection) -> None:
    """While another writes, every read answers from the last commit."""
    store.insert([row(name="a")])
    other.run("BEGIN IMMEDIATE; DELETE FROM duetime_events")
    assert kept(store, "a").id == "a"
    assert len(store.find(Filter(), 10)) == 1
    assert store.counts(T).scheduled == {"mail": 1}
    assert len(store.peek([0], 0, T, 1)) == 1
    assert store.owners([0], T) == set()
    assert store.check()
    other.run("ROLLBACK")


def test_nothing_to_claim_writes_nothing(store: SqliteStore, other: Connection) -> None:
    """A claim that finds nothing takes no lock and writes nothing."""
    store.insert([row(kind="a"), row(T + 9), row(T + 5, claim=number(), attempt=1)])
    other.run("BEGIN IMMEDIATE")
    assert store.claim(number(), range(32), T + 1, T + 8, 10) == []
    assert store.claim(number(), range(32), T, T, 10, Kinds(without=("a",))) == []
    with pytest.raises(StoreUnavailable):
        store.claim(number(), range(32), T, T, 10)
    other.run("ROLLBACK")


def test_a_claim_that_cannot_be_read_is_an_answer_lost(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that was made but not read says so; asked again, it returns all that it holds."""
    store.insert([row(T + i) for i in range(3)])
    mine = number()
    with monkeypatch.context() as patch:
        patch.setattr(Wanted, "read", unreadable)
        with pytest.raises(AnswerLost):
            store.claim(mine, range(32), 0, T + 9, 10)
    assert store.counts(T).claimed == {"mail": 3}
    assert len(store.claim(mine, range(32), 0, T + 9, 10)) == 3


def unreadable(*_: object) -> list[Row]:
    raise StoreUnavailable("no reader")


def test_after_a_full_claim_less_may_be_left(store: SqliteStore, other: Connection) -> None:
    """A claim that took its limit is followed by ones that take the rest, then write nothing."""
    store.insert([row(T + i, shard=i % 3) for i in range(14)])
    took = [len(store.claim(number(), range(32), 0, T + 20, 5)) for _ in range(4)]
    assert took == [5, 5, 4, 0]
    other.run("BEGIN IMMEDIATE")
    assert store.claim(number(), range(32), 0, T + 20, 5) == []
    other.run("ROLLBACK")


def test_an_insert_that_is_asked_again_after_a_move(store: SqliteStore) -> None:
    """An event that has moved meanwhile is not stored a second time at its old place."""
    fresh = row()
    store.insert([fresh])
    assert store.reschedule([(id_of(fresh), T + 5)]) == [Answer.RESCHEDULED]
    assert store.insert([fresh]) == [None]
    assert [event.row[0] for event in store.find(Filter(), 5)] == [T + 5]


def test_a_refused_value_changes_nothing(store: SqliteStore) -> None:
    """A row that the tables refuse takes its whole call with it, and the next call works."""
    wrong: Row = (*row()[:4], None, *row()[5:])  # type: ignore[assignment] # a kind of None
    with pytest.raises(StoreError) as error:
        store.insert([row(name="good"), wrong])
    assert code_of(error) == "sqlite_refused"
    assert store.get(["good"]) == [None]
    assert store.insert([row(name="good")]) == [None]


def test_two_events_at_one_place(store: SqliteStore) -> None:
    """A named row at the place of another event is refused, not lost."""
    store.insert([row(T, tail=5)])
    with pytest.raises(StoreError) as error:
        store.insert([row(T, tail=5, name="a")])
    assert code_of(error) == "place_taken"
    assert store.get(["a"]) == [None]


def test_many_threads_at_once(store: SqliteStore) -> None:
    """Threads that write and read at once all get their answers."""
    rows = [row(T + i, name=f"n{i}") for i in range(120)]

    def work(each: Row) -> tuple[Answer, int]:
        store.insert([each])
        assert kept(store, each[3] or "").row == each
        found = len(store.find(Filter(), 5)) + len(store.peek([0], T, T + 200, 5))
        return store.cancel([each[3] or ""])[0], found

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, rows))
    assert {answer for answer, _ in answers} == {Answer.CANCELLED}
    assert all(found >= 2 for _, found in answers)


def test_a_slow_reader_holds_nobody(store: SqliteStore) -> None:
    """Reads in progress, however many, keep neither a read nor a write waiting."""
    with ThreadPoolExecutor(1) as pool:
        for _ in range(8):
            with store._database.reading() as db:
                db.rows("SELECT 1")
                assert pool.submit(store.insert, [row()]).result(5) == [None]
                assert pool.submit(store.peek, [0], 0, T, 1).result(5)


class Disk(apsw.VFS):
    """A file system whose syncs and writes can fail; the default one while it exists."""

    def __init__(self) -> None:
        super().__init__("failing", "unix", makedefault=True)
        self.sync_error: Exception | None = None
        self.write_error: Exception | None = None

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    """A file of the failing disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self.disk.sync_error:
            raise self.disk.sync_error
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self.disk.write_error:
            raise self.disk.write_error
        super().xWrite(data, offset)


@pytest.fixture
def disk() -> Iterator[Disk]:
    before = apsw.vfs_names()[0]
    disk = Disk()
    yield disk
    disk.unregister()
    apsw.set_default_vfs(before)


@pytest.mark.parametrize("name", ["a", None])
def test_a_failed_commit_is_an_answer_lost(disk: Disk, path: str, name: str | None) -> None:
    """When the sync of a commit fails nobody knows whether it happened, and the answer says so."""
    store = SqliteStore(path)
    store.migrate()
    fresh = row(name=name)
    disk.sync_error = apsw.IOError("sync")
    with pytest.raises(AnswerLost):
        store.insert([fresh])
    disk.sync_error = None
    assert [event and event.id for event in store.insert([fresh])] in ([None], ["a"])
    assert kept(store, id_of(fresh)).row == fresh
    store.close()


def test_a_full_disk_is_refused_and_recovers(disk: Disk, path: str) -> None:
    """Without room nothing is changed, reads go on, and with room the same store writes again."""
    store = SqliteStore(path)
    store.migrate()
    store.insert([row(name="a")])
    disk.write_error = apsw.FullError("full")
    for _ in range(3):
        with pytest.raises(StoreFull):
            store.insert([row(name="b")])
        assert kept(store, "a").id == "a"
        assert store.get(["b"]) == [None]
    disk.write_error = None
    assert store.insert([row(name="b")]) == [None]
    store.close()


def test_a_failing_disk_is_unavailable(disk: Disk, path: str) -> None:
    """A write error before the commit says that nothing happened."""
    store = SqliteStore(path)
    store.migrate()
    disk.write_error = apsw.IOError("write")
    with pytest.raises(StoreUnavailable):
        SqliteStore(path + "2").migrate()
    disk.write_error = None
    assert store.insert([row()]) == [None]
    store.close()

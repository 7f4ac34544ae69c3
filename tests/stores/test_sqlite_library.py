"""Two SQLite libraries: what an old one may do, and that they never meet on one file."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from duetime.errors import ConfigError, StoreUnsupported
from duetime.stores.sqlite import SqliteStore, checkpoint, driver, store
from duetime.stores.sqlite.driver import Connection, Driver, driver_named
from duetime.testing.promises.given import T, row
from tests.stores.conftest import code_of

PAGE = 4096 + 24  # bytes in the log


class Watched:
    """A connection that notes its checkpoints, and whether another could write meanwhile."""

    def __init__(self, connection: Connection, seen: list[bool], other: Connection) -> None:
        self._connection = connection
        self._seen = seen
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        if "wal_checkpoint" in sql:
            try:
                self._other.run("BEGIN IMMEDIATE; ROLLBACK")
            except Exception:  # noqa: BLE001 - of either library
                self._seen.append(True)
            else:
                self._seen.append(False)
        return self._connection.rows(sql, values)


def an_old(library: str, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Let stores believe that a library is an affected one."""
    old = driver_named(library)._replace(version="3.51.2")
    monkeypatch.setattr(store, "driver_named", lambda _: old)
    return old


def settings_of(store: SqliteStore) -> set[Any]:
    """Return when the connections of a store checkpoint by themselves, in pages of the log."""
    with store._database.writing() as writer, store._database.reading() as reader:
        return {db.rows("PRAGMA wal_autocheckpoint")[0] for db in (writer, reader)}


def test_a_current_library_checkpoints_by_itself(path: str) -> None:
    """SQLite without the bug copies its log into the file after 20,000 pages."""
    store = SqliteStore(path)
    store.migrate()
    assert settings_of(store) == {(20_000,)}
    store.close()


def test_an_affected_library_never_checkpoints_by_itself(
    path: str, library: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the WAL-reset bug no connection checkpoints by itself, and the log warns by name."""
    an_old(library, monkeypatch)
    with caplog.at_level(logging.WARNING, "duetime"):
        store = SqliteStore(path)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "sqlite_version"
    ]
    store.migrate()
    assert settings_of(store) == {(0,)}
    assert [each.level for each in store.check() if each.name == "sqlite_version"] == ["warning"]
    store.close()


def test_an_affected_library_checkpoints_under_the_write_lock(
    path: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checkpoints now and then, only while nobody else can write, and the log is begun anew."""
    old = an_old(library, monkeypatch)
    SqliteStore(path).migrate()
    other = old.connect(path, lambda _: False)
    held: list[bool] = []
    watched = old._replace(connect=lambda *given: Watched(old.connect(*given), held, other))
    monkeypatch.setattr(store, "driver_named", lambda _: watched)
    monkeypatch.setattr(checkpoint, "_CAREFUL_PAGES", 60)
    users = SqliteStore(path)
    for i in range(400):
        users.insert([row(T + i)])
        users.peek([0], 0, T, 1)
    assert len(held) >= 10
    assert all(held)
    assert Path(path + "-wal").stat().st_size < 400 * PAGE
    assert sum(users.counts(T).scheduled.values()) == 400
    users.close()
    other.close()


WRITER = """
import sys
from duetime.stores.sqlite import SqliteStore, checkpoint, store
from duetime.stores.sqlite.driver import driver_named

old = driver_named("sqlite3")._replace(version="3.51.2")
store.driver_named = lambda _: old
checkpoint._CAREFUL_PAGES = 30
path, me = sys.argv[1:]
mine = SqliteStore(path, library="sqlite3", synchronous="NORMAL", busy_timeout=60)
for i in range(300):
    due_at = 1_800_000_000_000_000 + i
    mine.insert([(due_at, int(me) * 1000 + i, i % 32, None, "k", b"1" * 500, *[0] * 5, None)])
    mine.peek([i % 32], 0, due_at, 1)
mine.close()
"""


@pytest.mark.processes
def test_processes_share_a_file_through_an_affected_library(path: str) -> None:
    """Processes that checkpoint in turns lose no write, and leave the file sound."""
    users = SqliteStore(path, library="sqlite3")
    users.migrate()
    command = [sys.executable, "-W", "error", "-c", WRITER, path]
    writers = [subprocess.Popen([*command, str(me)], stderr=subprocess.PIPE) for me in range(3)]
    told = [writer.communicate(timeout=50)[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], told
    assert sum(users.counts(T).scheduled.values()) == 900
    assert [each.level for each in users.check() if each.name == "integrity"] == ["ok"]
    assert Path(path + "-wal").stat().st_size < 900 * PAGE
    users.close()


def test_two_libraries_never_meet(path: str, library: str) -> None:
    """A file that one store has open is not opened through another library in this process."""
    other = {"apsw": "sqlite3", "sqlite3": "apsw"}[library]
    first, second = (SqliteStore(path, library=name) for name in (library, other))
    first.migrate()
    for call in (second.migrate, second.check, lambda: second.get(["x"])):
        with pytest.raises(StoreUnsupported) as error:
            call()
        assert code_of(error) == "sqlite_two_libraries"
    first.insert([row(name="a")])
    first.close()
    assert [event and event.id for event in second.get(["a"])] == ["a"]
    second.close()


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite without strict tables is refused before anything is opened."""
    monkeypatch.setattr(driver, "_OLDEST", (99, 0, 0))
    with pytest.raises(ConfigError) as error:
        SqliteStore("x.db", library="sqlite3")
    assert code_of(error) == "driver_missing"

"""Where SQLite keeps its file: what is made, what is refused, what check finds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from duetime.errors import (
    ConfigError,
    SchemaError,
    StoreUnavailable,
    StoreUnsupported,
)
from duetime.stores.contract import Filter
from duetime.stores.sqlite import SqliteStore, findings
from duetime.stores.sqlite.driver import driver_named
from duetime.testing.promises.given import T, row
from tests.forked import forked
from tests.stores.conftest import code_of


def test_files_are_private(tmp_path: Path, library: str) -> None:
    """The database, its log and the directories made for it are open to their owner alone."""
    path = tmp_path / "a" / "b" / "events.db"
    store = SqliteStore(str(path), library=library)
    store.migrate()
    store.insert([row()])
    modes = {
        each.name: stat.S_IMODE(each.stat().st_mode)
        for each in (path.parent.parent, path.parent, *path.parent.iterdir())
    }
    assert modes == {
        "a": 0o700,
        "b": 0o700,
        "events.db": 0o600,
        "events.db-wal": 0o600,
        "events.db-shm": 0o600,
    }
    store.close()


def test_a_symlink_is_refused(tmp_path: Path) -> None:
    """A symbolic link at the path is refused, whether it leads somewhere or not."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "target.db")
    for _ in range(2):
        with pytest.raises(StoreUnsupported) as error:
            SqliteStore(str(link)).migrate()
        assert code_of(error) == "sqlite_symlink"
        SqliteStore(str(tmp_path / "target.db")).migrate()


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory at the path is refused."""
    with pytest.raises(StoreUnsupported) as error:
        SqliteStore(str(tmp_path)).migrate()
    assert code_of(error) == "sqlite_not_a_file"


def test_a_foreign_file_is_refused_unchanged(tmp_path: Path, library: str) -> None:
    """A file that is no SQLite database is refused and left as it is."""
    path = tmp_path / "notes.txt"
    text = "Dear diary, this is not a database. " * 100
    path.write_text(text)
    store = SqliteStore(str(path), library=library)
    for call in (store.migrate, store.check, lambda: store.get(["x"])):
        with pytest.raises(StoreUnsupported) as error:
            call()
        assert code_of(error) == "sqlite_damaged"
    assert path.read_text() == text


def test_a_users_own_database_is_shared(path: str, library: str) -> None:
    """Our tables live beside the user's own, which are left alone."""
    Path(path).touch()
    own = driver_named(library).connect(path, lambda _: False)
    own.run("CREATE TABLE events(name); INSERT INTO events VALUES ('mine')")
    store = SqliteStore(path, library=library)
    with pytest.raises(SchemaError) as error:
        store.get(["x"])
    assert code_of(error) == "schema_missing"
    assert own.first("PRAGMA journal_mode") == ("delete",)
    store.migrate()
    store.insert([row()])
    assert own.rows("SELECT * FROM events") == [("mine",)]
    store.close()
    own.close()


@pytest.mark.parametrize(
    ("bad", "code"), [(":memory:", "sqlite_memory"), ("", "sqlite_path"), ("a\0b", "sqlite_path")]
)
def test_paths_that_cannot_be(bad: str, code: str) -> None:
    """A path that names no file is refused with a code of its own."""
    with pytest.raises(ConfigError) as error:
        SqliteStore(bad)
    assert code_of(error) == code


@pytest.mark.parametrize("setting", ["OFF", "full", "EXTRA", "1; DROP TABLE x"])
def test_less_durability_is_refused(path: str, setting: str) -> None:
    """Anything but FULL and NORMAL is refused."""
    with pytest.raises(ConfigError) as error:
        SqliteStore(path, synchronous=setting)
    assert code_of(error) == "sqlite_synchronous"


@pytest.mark.parametrize(("setting", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_durability_is_what_was_asked_for(
    path: str, library: str, setting: str, level: int
) -> None:
    """The writer runs in write-ahead mode at the synchronous level that was asked for."""
    store = SqliteStore(path, library=library, synchronous=setting)
    store.migrate()
    with store._database.writing() as db:
        assert db.first("PRAGMA synchronous") == (level,)
        assert db.first("PRAGMA journal_mode") == ("wal",)
    store.close()


def test_a_read_only_directory(tmp_path: Path) -> None:
    """Where nothing may be written, the error says so."""
    place = tmp_path / "locked"
    place.mkdir()
    for parent in (place, *place.parents):
        if parent.owner() == place.owner():
            parent.chmod(0o755)
    place.chmod(0o555)
    # Once as root: "nobody" may not be allowed to read the modules that are loaded on first use.
    SqliteStore(str(tmp_path / "events.db")).migrate()
    assert forked(lambda: _migrate_as_nobody(str(place / "events.db"))) == 42


def _migrate_as_nobody(path: str) -> int:
    try:
        if os.geteuid() == 0:
            os.setuid(65_534)
        SqliteStore(path).migrate()
    except StoreUnavailable as error:
        return 42 if "Permission denied" in str(error) else 3
    return 1


def test_a_replaced_file_is_noticed(store: SqliteStore, path: str, library: str) -> None:
    """A write to a file that was removed is refused; what is put in its place is not damaged."""
    store.insert([row(name="old")])
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).rename(path + ".gone" + suffix)
    with pytest.raises(StoreUnavailable) as error:
        store.insert([row(name="lost")])
    assert code_of(error) == "sqlite_replaced"
    with pytest.raises(SchemaError):
        store.insert([row(name="lost")])
    new = SqliteStore(path, library=library)
    new.migrate()
    new.insert([row(name="new")])
    assert store.insert([row(name="both")]) == [None]
    assert sorted(event.id for event in new.find(Filter(), 10)) == ["both", "new"]
    new.close()


@pytest.mark.parametrize(
    ("version", "level"),
    [
        *(("3.6.23", "ok"), ("3.7.0", "warning"), ("3.51.2", "warning"), ("3.51.3", "ok")),
        *(("3.44.5", "warning"), ("3.44.6", "ok"), ("3.50.6", "warning"), ("3.50.7", "ok")),
        *(("3.45.0", "warning"), ("3.51.0", "warning"), ("4.0.0", "ok")),
    ],
)
def test_check_knows_affected_libraries(version: str, level: str) -> None:
    """A library with the WAL-reset bug is warned of; repaired ones of older lines are not."""
    found = findings.library(driver_named("apsw")._replace(version=version))
    assert (found.name, found.level) == ("sqlite_version", level)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/data nfs4 rw 0 0
me@host: /media/far\\040away fuse.sshfs rw 0 0
//host/share /srv cifs rw 0 0
tmpfs /mnt/data/tmp tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "level"),
    [
        ("/var/events.db", "ok"),
        ("/mnt/data/events.db", "error"),
        ("/mnt/database/events.db", "ok"),
        ("/mnt/data/tmp/events.db", "ok"),
        ("/media/far away/events.db", "error"),
        ("/srv/x/y.db", "error"),
    ],
)
def test_check_knows_network_file_systems(path: str, level: str) -> None:
    """A file on a network file system is named an error."""
    assert findings.file_system(path, MOUNTS).level == level


def test_check_sees_open_files(store: SqliteStore, path: str) -> None:
    """A file that others may open is warned of."""
    assert {each.level for each in store.check() if each.name != "sqlite_version"} == {"ok"}
    Path(path).chmod(0o644)
    assert [each.name for each in store.check() if each.level != "ok"][-1:] == ["file_mode"]


def test_check_sees_damage(store: SqliteStore, path: str, library: str) -> None:
    """Damage inside the file is found."""
    store.insert([row(T + i, payload=b"x" * 500) for i in range(500)])
    store.close()
    with Path(path).open("r+b") as file:
        file.seek(-3 * 4096, os.SEEK_END)
        file.write(b"\xa5" * 4096)
    damaged = SqliteStore(path, library=library)
    assert [each.level for each in damaged.check() if each.name == "integrity"] == ["error"]
    damaged.close()

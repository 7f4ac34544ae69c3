"""Migrations that meet, are cut off or meet another program; and what `check` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from duetime.errors import SchemaError
from duetime.event import id_of
from duetime.stores.contract import Finding
from duetime.stores.mysql import MysqlStore, findings
from duetime.stores.mysql.findings import Settings
from duetime.stores.mysql.session import Session
from duetime.testing.promises.given import T, row
from tests.stores.mysql.conftest import Admin

_serial = count(1)
Open = Callable[..., MysqlStore]


@pytest.fixture
def fresh(admin: Admin) -> Iterator[Open]:
    """Return a function that opens stores on tables that are not made yet."""
    prefix = f"up{next(_serial)}_"
    made: list[MysqlStore] = []

    def open_store(**options: Any) -> MysqlStore:
        made.append(MysqlStore(admin.url, prefix=prefix, **options))
        return made[-1]

    yield open_store
    for store in made:
        store.close()
    for (table,) in admin("SHOW TABLES"):
        if table.startswith(prefix):
            admin(f"DROP TABLE {table}")


def test_tables_are_made_once(fresh: Open) -> None:
    """The first migration names its steps, the next finds none, and shards stay as first set."""
    assert fresh(shards=8).migrate() == ["0001_events"]
    again = fresh(shards=99)
    assert again.migrate() == []
    assert again.shards == 8
    third = fresh(shards=99)
    third.insert([row()])
    assert third.shards == 8


def test_without_tables_it_is_told(fresh: Open) -> None:
    """A call before the tables are made tells what to run."""
    with pytest.raises(SchemaError) as caught:
        fresh().get(["x"])
    assert caught.value.code == "schema_missing"
    assert "duetime migrate" in str(caught.value)


def test_migrations_that_meet_make_tables_once(fresh: Open) -> None:
    """Of several migrations at once one makes the tables, and all succeed."""
    stores = [fresh(shards=8) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        steps = list(pool.map(lambda store: store.migrate(), stores))
    assert sorted(steps) == [[], [], [], ["0001_events"]]
    assert stores[0].insert([row()]) == [None]


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_migration_that_was_cut_off_goes_on(
    fresh: Open, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A migration that ended between two statements is finished by the next one."""
    store = fresh(shards=8)
    left = after
    inner = Session.execute

    def break_off(session: Session, statement: str) -> int:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return inner(session, statement)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "execute", break_off)
        with pytest.raises(KeyboardInterrupt):
            store.migrate()
    with pytest.raises(SchemaError):
        fresh().get(["x"])
    assert fresh(shards=8).migrate() == ["0001_events"]
    events = [row(), row(name="a")]
    assert store.insert(events) == [None, None]
    assert store.shards == 8
    assert [event and event.id for event in store.get(list(map(id_of, events)))] == list(
        map(id_of, events)
    )


def test_tables_of_a_newer_program_are_refused(fresh: Open, admin: Admin) -> None:
    """Tables that know more steps than this program are refused, by calls and by migrate."""
    store = fresh()
    store.migrate()
    admin(f"INSERT INTO {store.prefix}version VALUES (2, '0002_more', 'abc', 1)")
    for call in (store.migrate, lambda: fresh().counts(T)):
        with pytest.raises(SchemaError) as caught:
            call()
        assert caught.value.code == "schema_newer"


def test_tables_of_another_build_are_refused(fresh: Open, admin: Admin) -> None:
    """A step that was taken with another content is refused."""
    store = fresh()
    store.migrate()
    admin(f"UPDATE {store.prefix}version SET checksum = 'abc' WHERE number = 1")
    with pytest.raises(SchemaError) as caught:
        fresh().counts(T)
    assert caught.value.code == "schema_changed"


def found(store: MysqlStore) -> dict[str, Finding]:
    return {finding.name: finding for finding in store.check()}


def test_a_fresh_database_is_good(fresh: Open) -> None:
    """On a server with default settings every finding is good, and each has its own name."""
    store = fresh()
    store.migrate()
    findings_ = store.check()
    assert [finding for finding in findings_ if finding.level != "ok"] == []
    assert len({finding.name for finding in findings_}) == len(findings_) >= 8


def test_missing_tables_are_a_finding(fresh: Open) -> None:
    """A check before the tables are made says so and does not fail."""
    finding = found(fresh())["schema"]
    assert (finding.level, "duetime migrate" in finding.text) == ("error", True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("ENGINE=MyISAM", "storage_engine"),
        ("DEFAULT CHARACTER SET latin1", "character_set"),
        ("MODIFY name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "collation"),
    ],
)
def test_spoilt_tables_are_found(fresh: Open, admin: Admin, change: str, name: str) -> None:
    """A table of another engine, character set or collation is an error with its name."""
    store = fresh()
    store.migrate()
    admin(f"ALTER TABLE {store.prefix}names {change}")
    finding = found(store)[name]
    assert finding.level == "error"
    assert f"{store.prefix}names" in finding.text


GOOD = Settings("10.11.6-MariaDB", log_bin="ON")


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("8.0.36", "ok"),
        ("8.4.0", "ok"),
        ("9.7.0", "ok"),
        ("8.0.3", "error"),
        ("5.7.44-log", "error"),
        ("10.6.0-MariaDB", "ok"),
        ("5.5.5-10.11.6-MariaDB", "ok"),
        ("11.4.2-MariaDB-log", "ok"),
        ("10.5.29-MariaDB", "error"),
        ("nonsense", "error"),
    ],
)
def test_versions(version: str, level: str) -> None:
    """Servers older than MySQL 8.0.4 and MariaDB 10.6 are refused."""
    assert findings.version(version).level == level


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"binlog_format": "ok", "sync_binlog": "ok"}),
        ({"log_bin": "OFF", "binlog_format": "STATEMENT", "sync_binlog": "0"}, {"binlog": "ok"}),
        ({"binlog_format": "STATEMENT"}, {"binlog_format": "error", "sync_binlog": "ok"}),
        ({"sync_binlog": "0"}, {"binlog_format": "ok", "sync_binlog": "warning"}),
    ],
)
def test_binary_logs(change: dict[str, Any], expected: dict[str, str]) -> None:
    """A binary log in statement form is refused, one that is not flushed warned of."""
    judged = findings.binlog(GOOD._replace(**change))
    assert {finding.name: finding.level for finding in judged} == expected


def test_durability_and_room() -> None:
    """Commits that are not flushed, replicas, and small packets are told."""
    flushed = [GOOD._replace(innodb_flush_log_at_trx_commit=value) for value in "120"]
    assert [findings.flush(each).level for each in flushed] == ["ok", "warning", "warning"]
    assert findings.writable(GOOD).level == "ok"
    assert findings.writable(GOOD._replace(read_only="ON")).level == "error"
    assert findings.writable(GOOD._replace(innodb_read_only="ON")).level == "error"
    sizes = (16 << 20, 2 << 20, 64 << 10)
    assert [findings.packet(size).level for size in sizes] == ["ok", "warning", "error"]


@pytest.mark.parametrize(
    ("offset", "level"),
    [(0, "ok"), (-4_900_000, "ok"), (5_100_000, "warning"), (-400_000_000, "error")],
)
def test_clocks(offset: int, level: str) -> None:
    """A server's clock more than 5 s off is warned of, more than 5 min refused."""
    assert findings.clock_offset(offset).level == level

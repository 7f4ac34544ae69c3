"""Migrations that meet, are cut off or meet another program; and what `check` finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duetime.clock import SystemClock
from duetime.errors import ConfigError, SchemaError, StoreUnavailable, StoreUnsupported
from duetime.event import id_of
from duetime.stores.contract import Answer, Finding
from duetime.stores.postgres import PostgresStore, findings
from duetime.stores.postgres.findings import Oldest, Settings, Table
from duetime.stores.postgres.session import Session
from duetime.stores.sql import Migration
from duetime.testing.promises.given import SECOND, T, claim_all, kept, row
from tests.stores.postgres.conftest import Admin, code_of, dropped, made

Open = Callable[..., PostgresStore]


@pytest.fixture
def fresh(bare: Admin) -> Iterator[Open]:
    """Return a function that opens stores on tables that are not made yet."""
    opened: list[PostgresStore] = []

    def open_store(*steps: str, **options: Any) -> PostgresStore:
        store = PostgresStore(bare.url, **options)
        further = [Migration(n, f"{n:04}_more", f"sum {s}", s) for n, s in enumerate(steps, 2)]
        store._steps = [*store._steps, *further]
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.mark.parametrize("prefix", ["x; drop", "Upper", "1st", 'quo"te', "a" * 64, "\u00fc", "a b"])
def test_prefixes_that_cannot_be(prefix: str) -> None:
    """A table prefix that is no plain name is refused before it becomes SQL."""
    with pytest.raises(ConfigError) as caught:
        PostgresStore("postgresql://localhost/x", prefix=prefix)
    assert code_of(caught) == "prefix_invalid"


@pytest.mark.parametrize("prefixes", [("a_", "b_"), ("", "duetime_"), ("select", "order_")])
def test_namespaces_are_apart(fresh: Open, prefixes: tuple[str, str]) -> None:
    """Stores with different prefixes in one database never see each other's events and nodes."""
    one, two = (fresh(prefix=prefix) for prefix in prefixes)
    assert one.migrate() == two.migrate() == ["0001_events"]
    one.insert([row(name="a"), row(T + 1)])
    assert two.get(["a"]) == [None]
    assert two.insert([row(name="a", kind="other")]) == [None]
    assert two.beat("beta", 0, b"").number == one.beat("alpha", 0, b"").number == 1
    assert len(claim_all(one)) == 2
    assert two.cancel(["a"]) == [Answer.CANCELLED]
    assert kept(one, "a").kind == "mail"


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
    """A call before the tables are made tells what to run, and makes nothing."""
    store = fresh()
    for call in (lambda: store.get(["x"]), lambda: store.beat("a", 0, b"")):
        with pytest.raises(SchemaError, match="duetime migrate") as caught:
            call()
        assert code_of(caught) == "schema_missing"


def test_an_older_schema_is_upgraded(fresh: Open) -> None:
    """Older tables are refused, naming both versions, until they are migrated; nothing is lost."""
    first = fresh()
    first.migrate()
    first.insert([row(name="a")])
    newer = fresh("CREATE TABLE second(x int)", "CREATE TABLE third(x int)")
    with pytest.raises(SchemaError, match=r"version 1; .* needs version 3") as caught:
        newer.get(["a"])
    assert code_of(caught) == "schema_older"
    assert newer.migrate() == ["0002_more", "0003_more"]
    assert newer.migrate() == []
    assert kept(newer, "a").id == "a"


def test_an_open_connection_outlives_a_new_column(fresh: Open, bare: Admin) -> None:
    """A program that runs while a column is added goes on: its statements name their columns."""
    store = fresh()
    store.migrate()
    old = row()
    store.insert([old])
    bare("ALTER TABLE duetime_events ADD COLUMN more TEXT DEFAULT 'x'")
    assert kept(store, id_of(old)).row == old
    store.insert([row(), row()])
    assert len(claim_all(store)) == 3


def test_migrations_that_meet_make_tables_once(fresh: Open) -> None:
    """Of several migrations at once one makes the tables, and all succeed."""
    stores = [fresh("CREATE TABLE second(x int)", shards=8) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        steps = list(pool.map(lambda store: store.migrate(), stores))
    assert sorted(step for taken in steps for step in taken) == ["0001_events", "0002_more"]
    assert stores[0].insert([row()]) == [None]
    assert {store.shards for store in stores} == {8}


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_migration_that_was_cut_off_goes_on(
    fresh: Open, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A migration that ended between two statements is finished by the next one."""
    steps = ("CREATE TABLE second(x int)",)
    store = fresh(*steps, shards=8)
    left = after
    inner = Session.script

    def break_off(session: Session, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        inner(session, text)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "script", break_off)
        with pytest.raises(KeyboardInterrupt):
            store.migrate()
    with pytest.raises(SchemaError):
        fresh(*steps).get(["x"])
    assert fresh(*steps, shards=8).migrate() == ["0001_events", "0002_more"][after > 2 :]
    events = [row(), row(name="a")]
    assert store.insert(events) == [None, None]
    assert store.shards == 8


def test_a_step_that_fails_leaves_nothing(fresh: Open, bare: Admin) -> None:
    """A step that fails is undone whole, and those before it stay."""
    store = fresh("CREATE TABLE second(x int); SELECT * FROM nowhere")
    with pytest.raises(SchemaError):
        store.migrate()
    assert bare("SELECT to_regclass('second')") == [(None,)]
    assert bare("SELECT number FROM duetime_version") == [(1,)]


def test_a_migration_does_not_queue_behind_a_reader(fresh: Open, bare: Admin) -> None:
    """While somebody's transaction holds a table, a migration gives up soon and holds up nobody."""
    store = fresh()
    store.migrate()
    newer = fresh("ALTER TABLE duetime_events ADD COLUMN more TEXT")
    reader = bare.connect(autocommit=False)
    reader.execute(b"SELECT count(*) FROM duetime_events")
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(newer.migrate)
        while not migrating.done():
            began = time.monotonic()
            store.insert([row()])
            longest = max(longest, time.monotonic() - began)
        with pytest.raises(StoreUnavailable) as caught:
            migrating.result()
    assert code_of(caught) == "store_busy"
    assert longest < 1.0
    reader.close()
    assert newer.migrate() == ["0002_more"]


def test_tables_of_a_newer_program_are_refused(fresh: Open, bare: Admin) -> None:
    """Tables that know more steps than this program are refused, by calls and by migrate."""
    store = fresh()
    store.migrate()
    bare("INSERT INTO duetime_version VALUES (2, '0002_more', 'abc', 1)")
    for call in (store.migrate, lambda: fresh().counts(T)):
        with pytest.raises(SchemaError) as caught:
            call()
        assert code_of(caught) == "schema_newer"


def test_tables_of_another_build_are_refused(fresh: Open, bare: Admin) -> None:
    """A step that was taken with another content is refused."""
    store = fresh()
    store.migrate()
    bare("UPDATE duetime_version SET checksum = 'abc' WHERE number = 1")
    with pytest.raises(SchemaError) as caught:
        fresh().counts(T)
    assert code_of(caught) == "schema_changed"


def found(store: PostgresStore) -> dict[str, Finding]:
    return {finding.name: finding for finding in store.check()}


def test_a_fresh_database_is_good(fresh: Open) -> None:
    """On a server with default settings every finding is good, and each has its own name."""
    store = fresh()
    store.migrate()
    told = store.check()
    assert [finding for finding in told if finding.level != "ok"] == []
    assert len({finding.name for finding in told}) == len(told) >= 8


def test_missing_tables_are_a_finding(fresh: Open) -> None:
    """A check before the tables are made says so and does not fail."""
    finding = found(fresh())["schema"]
    assert (finding.level, "duetime migrate" in finding.text) == ("error", True)


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ("ALTER DATABASE {0} SET synchronous_commit = off", "synchronous_commit", "warning"),
        ("ALTER DATABASE {0} SET default_transaction_read_only = on", "read_only", "error"),
        ("ALTER TABLE duetime_names SET UNLOGGED", "unlogged", "error"),
        (
            "ALTER TABLE duetime_events SET (autovacuum_enabled = off)",
            "table_autovacuum",
            "warning",
        ),
        ("UPDATE duetime_version SET checksum = 'abc'", "schema", "error"),
    ],
)
def test_what_breaks_a_promise_is_found(
    fresh: Open, bare: Admin, change: str, name: str, level: str
) -> None:
    """A setting that endangers events is a finding with its name."""
    store = fresh()
    store.migrate()
    bare(change.format(bare.database))
    assert found(store)[name].level == level


def test_a_long_transaction_is_named(
    fresh: Open, bare: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps a transaction open for long is named by process, user and program."""
    store = fresh()
    store.migrate()
    monkeypatch.setattr(findings, "_LONG", SECOND // 10)
    with bare.connect(autocommit=False, application_name="report") as link:
        link.execute(b"SELECT 1")
        deadline = time.monotonic() + 5
        while (finding := found(store)["long_transaction"]).level == "ok":
            assert time.monotonic() < deadline
        assert f"process {link.info.backend_pid} (postgres, report, idle in trans" in finding.text


def test_a_clock_that_is_off_is_found(bare: Admin) -> None:
    """A server's clock that differs from this machine's is a finding."""

    class Ahead(SystemClock):
        def wall(self) -> int:
            return super().wall() + 60 * SECOND

    store = PostgresStore(bare.url, clock=Ahead())
    assert found(store)["clock"].level == "warning"
    store.close()


def test_another_encoding_is_refused(bare: Admin) -> None:
    """A database that cannot hold every text is refused by migrate and named by check."""
    latin = made(bare.address, f"{bare.database}_latin", "ENCODING LATIN1")
    store = PostgresStore(latin.url)
    try:
        with pytest.raises(StoreUnsupported) as caught:
            store.migrate()
        assert code_of(caught) == "postgres_encoding"
        assert found(store)["encoding"].level == "error"
    finally:
        store.close()
        dropped(latin)


GOOD = Settings("15.4", 150004, "UTF8", "on", "on", "on", "on", "off", is_replica=False)


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ({"version": "12.1", "number": 120001}, "postgres_version", "error"),
        ({"version": "13.0", "number": 130000}, "postgres_version", "ok"),
        ({"encoding": "SQL_ASCII"}, "encoding", "error"),
        ({"is_replica": True}, "read_only", "error"),
        ({"fsync": "off"}, "fsync", "warning"),
        ({"full_page_writes": "off"}, "full_page_writes", "warning"),
        ({"synchronous_commit": "off"}, "synchronous_commit", "warning"),
        ({"synchronous_commit": "local"}, "durability", "ok"),
        ({"autovacuum": "off"}, "autovacuum", "warning"),
    ],
)
def test_servers_are_judged(change: dict[str, Any], name: str, level: str) -> None:
    """Each setting that matters is judged by itself."""
    settings = GOOD._replace(**change)
    told = [*findings.server(settings), *findings.durability(settings)]
    assert {finding.name: finding.level for finding in told}[name] == level
    others = [finding.level for finding in told if finding.name != name]
    assert set(others) == {"ok"}


@pytest.mark.parametrize(
    ("offset", "level"),
    [(0, "ok"), (-4_900_000, "ok"), (5_100_000, "warning"), (-400_000_000, "error")],
)
def test_clocks(offset: int, level: str) -> None:
    """A server's clock more than 5 s off is warned of, more than 5 min refused."""
    assert findings.clock_offset(offset).level == level


def test_tables_are_judged() -> None:
    """What a role may not do with a table is an error that names the table."""
    good = Table("a", "p", "fillfactor=70", allowed=True)
    told = list(findings.tables([good, good._replace(name="b", allowed=False)]))
    assert [(each.level, each.name) for each in told] == [("error", "privileges")]
    assert " b:" in told[0].text
    assert [each.level for each in findings.tables([good])] == ["ok"]
    assert list(findings.tables([])) == []


def test_the_oldest_transaction_is_judged() -> None:
    """A transaction is long from a minute on; what is not known of it is left open."""
    one = Oldest(7, "", "", "", T)
    assert findings.oldest([one], T + 59 * SECOND).level == "ok"
    assert "process 7 (?, ?, ?)" in findings.oldest([one], T + 61 * SECOND).text
    assert findings.oldest([], T).level == "ok"

"""The tables in an SQLite file: namespaces, versions, migrations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from duetime.errors import (
    ConfigError,
    SchemaError,
    StoreError,
)
from duetime.stores.contract import Answer
from duetime.stores.sql import Migration
from duetime.stores.sqlite import SqliteStore
from duetime.testing.promises.given import T, claim_all, kept, row
from tests.stores.conftest import code_of


@pytest.mark.parametrize("prefix", ["x; drop", "Upper", "1st", 'quo"te', "a" * 64, "ü", "sqlite_"])
def test_prefixes_that_cannot_be(path: str, prefix: str) -> None:
    """A table prefix that is no plain name is refused before it becomes SQL."""
    with pytest.raises(ConfigError) as error:
        SqliteStore(path, prefix=prefix)
    assert code_of(error) == "prefix_invalid"


@pytest.mark.parametrize("prefixes", [("a_", "b_"), ("", "duetime_"), ("select", "order_")])
def test_namespaces_are_apart(path: str, library: str, prefixes: tuple[str, str]) -> None:
    """Stores with different prefixes in one file never see each other's events and nodes."""
    one, two = (SqliteStore(path, library=library, prefix=prefix) for prefix in prefixes)
    assert one.migrate() == two.migrate() == ["0001_events"]
    one.insert([row(name="a"), row(T + 1)])
    assert two.get(["a"]) == [None]
    assert two.insert([row(name="a", kind="other")]) == [None]
    assert two.beat("beta", 0, b"").number == one.beat("alpha", 0, b"").number == 1
    assert len(claim_all(one)) == 2
    assert two.cancel(["a"]) == [Answer.CANCELLED]
    assert kept(one, "a").kind == "mail"
    assert one.counts(T).claimed == {"mail": 2}
    one.close()
    two.close()


def test_only_migrate_makes_a_file(path: str, library: str) -> None:
    """A call on a file that is not there names what to run, and makes nothing."""
    store = SqliteStore(path, library=library)
    calls = (
        lambda: store.get(["x"]),
        lambda: store.insert([row()]),
        lambda: store.beat("a", 0, b""),
    )
    for call in calls:
        with pytest.raises(SchemaError, match="duetime migrate") as error:
            call()
        assert code_of(error) == "schema_missing"
    assert [each.level for each in store.check() if each.name == "schema"] == ["error"]
    assert not Path(path).exists()


def with_steps(path: str, library: str, *steps: str) -> SqliteStore:
    """Return a store of a program that knows these further schema steps."""
    store = SqliteStore(path, library=library)
    further = [Migration(n, f"{n:04}_more", f"sum {sql}", sql) for n, sql in enumerate(steps, 2)]
    store._steps = [*store._steps, *further]
    return store


def test_an_older_schema_is_upgraded(store: SqliteStore, path: str, library: str) -> None:
    """Older tables are refused, naming both versions, until they are migrated; nothing is lost."""
    store.insert([row(name="a")])
    newer = with_steps(path, library, "CREATE TABLE second(x)", "CREATE TABLE third(x)")
    with pytest.raises(SchemaError, match=r"version 1; .* needs version 3") as error:
        newer.get(["a"])
    assert code_of(error) == "schema_older"
    assert newer.migrate() == ["0002_more", "0003_more"]
    assert newer.migrate() == []
    assert kept(newer, "a").id == "a"
    newer.close()


def test_a_newer_schema_is_refused(store: SqliteStore, path: str, library: str) -> None:
    """Tables that a newer program made are refused, naming both versions."""
    newer = with_steps(path, library, "CREATE TABLE second(x)")
    newer.migrate()
    newer.close()
    older = SqliteStore(path, library=library)
    for call in (older.migrate, lambda: older.get(["a"]), lambda: older.insert([row()])):
        with pytest.raises(SchemaError, match=r"version 2; .* up to version 1") as error:
            call()
        assert code_of(error) == "schema_newer"
    assert [each.level for each in older.check() if each.name == "schema"] == ["error"]
    older.close()


@pytest.mark.parametrize(("name", "suits"), [("note.since0001", True), ("note.since0002", False)])
def test_a_newer_schema_that_suits_is_used(
    store: SqliteStore, path: str, library: str, name: str, *, suits: bool
) -> None:
    """Tables with a newer step are used where it says that it suits this one, and only there."""
    newer = SqliteStore(path, library=library)
    sql = "ALTER TABLE duetime_events ADD COLUMN note TEXT"
    newer._steps = [*newer._steps, Migration(2, f"0002_{name}", "sum", sql)]
    assert newer.migrate() == [f"0002_{name}"]
    newer.insert([row(name="a")])
    newer.close()
    older = SqliteStore(path, library=library)
    if suits:
        assert older.migrate() == []
        assert kept(older, "a").id == "a"
        assert older.insert([row(name="b")]) == [None]
        assert len(claim_all(older)) == 2
    else:
        with pytest.raises(SchemaError) as error:
            older.get(["a"])
        assert code_of(error) == "schema_newer"
    older.close()


def test_another_builds_schema_is_refused(store: SqliteStore, path: str, library: str) -> None:
    """A step that differs from the one that was taken is refused."""
    with_steps(path, library, "CREATE TABLE second(x)").migrate()
    with pytest.raises(SchemaError) as error:
        with_steps(path, library, "CREATE TABLE another(x)").migrate()
    assert code_of(error) == "schema_changed"


def test_a_failed_migration_leaves_nothing(store: SqliteStore, path: str, library: str) -> None:
    """A migration that fails midway changes nothing and can be run again."""
    broken = with_steps(path, library, "CREATE TABLE second(x)", "CREATE TABLE second(x)")
    with pytest.raises(StoreError):
        broken.migrate()
    broken.close()
    assert store.migrate() == []
    assert with_steps(path, library, "CREATE TABLE second(x)").migrate() == ["0002_more"]


def test_migrating_together(path: str, library: str) -> None:
    """Of several that migrate at once one takes the steps, and all find the tables."""
    stores = [SqliteStore(path, library=library) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        steps = list(pool.map(SqliteStore.migrate, stores))
    assert sorted(steps) == [[], [], [], ["0001_events"]]
    for each in stores:
        assert each.get(["x"]) == [None]
        each.close()


def test_the_tables_know_their_shards(store: SqliteStore, path: str, library: str) -> None:
    """The number of shards is fixed when the tables are made; later stores learn it."""
    later = SqliteStore(path, library=library, shards=5)
    later.migrate()
    assert later.shards == 32
    third = SqliteStore(path, library=library, shards=7)
    third.get(["x"])
    assert third.shards == 32
    later.close()
    third.close()

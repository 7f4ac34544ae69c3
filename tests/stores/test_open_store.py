"""From settings to a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from duetime.config import Settings
from duetime.errors import ConfigError, SchemaError
from duetime.stores import open_store
from duetime.stores.memory import MemoryStore
from duetime.stores.sqlite import SqliteStore
from tests.stores.test_sqlite_schema import with_steps


def test_memory_is_opened_by_its_url() -> None:
    """The URL memory:// is the memory model with the shards of the settings."""
    store = open_store(Settings(store="memory://", shards=9))
    assert isinstance(store, MemoryStore)
    assert store.shards == 9


@pytest.mark.parametrize(
    ("scheme", "through"),
    [("sqlite", "apsw"), ("sqlite+apsw", "apsw"), ("sqlite+sqlite3", "sqlite3")],
)
def test_a_file_is_opened_by_its_url(path: str, scheme: str, through: str) -> None:
    """A URL of sqlite:// is a file with the settings' namespace; only `create` makes its tables."""
    settings = Settings(store=f"{scheme}:///{path}", namespace="shop", shards=9)
    store = open_store(settings)
    assert isinstance(store, SqliteStore)
    assert (store.path, store.prefix) == (path, "shop_")
    assert store._database.driver.name == through
    assert not Path(path).exists()
    made = open_store(settings, create=True)
    assert made.get(["x"]) == store.get(["x"]) == [None]
    assert made.shards == 9
    made.close()
    store.close()


def test_other_versions_are_left_to_migrate(store: SqliteStore, path: str, library: str) -> None:
    """Tables of another version are not touched by opening."""
    with_steps(path, library, "CREATE TABLE second(x)").migrate()
    with pytest.raises(SchemaError) as error:
        open_store(Settings(store=f"sqlite+{library}:///{path}"), create=True)
    assert error.value.code == "schema_newer"


@pytest.mark.parametrize("namespace", ["x; drop", "Upper", "", "a" * 32])
def test_namespaces_that_cannot_be(path: str, namespace: str) -> None:
    """A namespace that is no plain name is refused before anything is opened."""
    with pytest.raises(ConfigError):
        open_store(Settings(store=f"sqlite:///{path}", namespace=namespace), create=True)
    assert not Path(path).exists()

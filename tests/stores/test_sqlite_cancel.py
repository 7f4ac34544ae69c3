"""Cancelling many events in one call of SQLite answers as cancelling them one by one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from duetime.event import Row, id_of
from duetime.stores.sqlite import SqliteStore

DUE = 2_000_000_000_000_000


def row(tail: int, name: str | None = None) -> Row:
    return (DUE + tail, tail, tail % 4, name, "k", b"null", 0, 0, 0, 0, DUE, None)


@pytest.fixture
def store(tmp_path: Path, library: str) -> Iterator[SqliteStore]:
    store = SqliteStore(str(tmp_path / "events.db"), library=library, shards=4)
    store.migrate()
    yield store
    store.close()


def test_all_of_many_are_cancelled(store: SqliteStore) -> None:
    """Where every event can be taken back, all are, and nothing is left."""
    rows = [row(tail) for tail in range(1, 51)]
    store.insert(rows)
    assert set(store.cancel([id_of(one) for one in rows])) == {"cancelled"}
    assert not store.counts(DUE).scheduled


def test_one_that_cannot_be_cancelled_changes_no_other_answer(store: SqliteStore) -> None:
    """Among many, one twice, one claimed, one done and one named: each gets its own answer."""
    rows = [row(tail) for tail in range(1, 11)]
    store.insert([*rows, row(11, "mine")])
    ids = [id_of(one) for one in rows]
    claimed = store.claim(1 << 32, (3,), 0, DUE + 3, 1)
    assert [id_of(one) for one in claimed] == [ids[2]]
    never = id_of(row(99))
    asked = [ids[0], ids[1], ids[0], ids[2], never, ids[3]]
    assert store.cancel(asked) == [
        "cancelled",
        "cancelled",
        "unknown",
        "in_flight",
        "unknown",
        "cancelled",
    ]
    assert store.cancel([ids[4], "mine"]) == ["cancelled", "cancelled"]
    assert sum(store.counts(DUE).scheduled.values()) == 5
    assert sum(store.counts(DUE).claimed.values()) == 1

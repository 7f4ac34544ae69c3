"""How the server carries statements out: by the primary key, and never more rows than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duetime.event import Row, id_of
from duetime.stores.contract import Filter, Kinds, Range, Settlement
from duetime.stores.mysql import MysqlStore
from duetime.testing.promises.given import SECOND, T, claim_all, move, number, row
from tests.stores.mysql.conftest import PREFIX, Admin
from tests.stores.mysql.watching import watching

COUNT, SHARDS, LIMIT = 6000, 6, 50
RANGES = {"range", "ref", "eq_ref", "const"}


@pytest.fixture
def full(store: MysqlStore, admin: Admin) -> MysqlStore:
    """Return a store with thousands of events that are due and thousands that are not."""
    for start in range(0, COUNT, 1000):
        store.insert([row(T + i * 1000, shard=i % SHARDS) for i in range(start, start + 1000)])
    admin(f"ANALYZE TABLE {PREFIX}events")
    return store


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a context in which statements are counted and what they read is noted."""
    return lambda: watching(monkeypatch)


def held(store: MysqlStore) -> list[Row]:
    return store.claim(number(), [0, 1], T, T + 100 * 1000, 100)


CALLS: dict[str, Callable[[MysqlStore, list[Row]], object]] = {
    "peek": lambda store, _: store.peek(range(SHARDS), T, T + 99_000, LIMIT),
    "peek one": lambda store, _: store.peek([3], 0, T + SECOND, LIMIT),
    "claim": lambda store, _: store.claim(number(), [2, 3], T, T + 99_000, LIMIT),
    "claim kinds": lambda store, _: store.claim(
        number(), [2, 3], T, T + 99_000, LIMIT, Kinds(("mail",), ("x",))
    ),
    "claim one shard": lambda store, _: store.claim(number(), [4], 0, T + SECOND, LIMIT),
    "owners": lambda store, _: store.owners(range(SHARDS), T + 99_000),
    "rescue": lambda store, _: store.rescue(range(SHARDS), 9, T + 99_000, T),
    "settle range": lambda store, mine: store.settle(
        Settlement(ranges=[Range(mine[0][9], (0, 1), T, T + 99_000)])
    ),
    "settle lists": lambda store, mine: store.settle(
        Settlement(done=mine[:9], moves=[move(each, T + SECOND) for each in mine[9:20]])
    ),
    "cancel": lambda store, _: store.cancel([id_of(each) for each in find(store, 20)]),
    "get": lambda store, _: store.get([id_of(each) for each in find(store, 20)]),
    "find": lambda store, _: store.find(Filter(), 20),
}


def find(store: MysqlStore, count: int) -> list[Row]:
    return [event.row for event in store.find(Filter(due_from=T + 3 * SECOND), count)]


@pytest.mark.parametrize("call", CALLS)
def test_the_primary_key_is_used(
    full: MysqlStore, admin: Admin, watch: Callable[[], Any], call: str
) -> None:
    """Every statement of the hot path finds its rows by the primary key, none reads a table."""
    mine = held(full)
    with watch() as seen:
        CALLS[call](full, mine)
    plans = [plan for statement, _ in seen.statements for plan in explained(admin, statement)]
    assert plans
    assert [plan for plan in plans if not by_primary_key(plan)] == []


def by_primary_key(plan: dict[str, Any]) -> bool:
    return plan["type"] in RANGES and plan["key"] == "PRIMARY"


def explained(admin: Admin, statement: str) -> list[dict[str, Any]]:
    """Return how rows of our tables are found; what an INSERT does needs no plan."""
    if "INSERT" in statement or "REPLACE" in statement:
        return []
    plans = admin.plan(statement)
    return [plan for plan in plans if str(plan["table"]).startswith((PREFIX, "e", "n"))]


def test_an_insert_alone_is_one_statement(store: MysqlStore, watch: Callable[[], Any]) -> None:
    """A caller who is alone pays one statement to schedule, and one to cancel."""
    store.get(["x"])
    fresh = row()
    with watch() as seen:
        store.insert([fresh])
        store.cancel([id_of(fresh)])
    assert len(seen.statements) == 2


@pytest.mark.parametrize("shards", [[3], [0, 1, 2], range(SHARDS)])
def test_a_claim_reads_no_more_than_its_limit(
    full: MysqlStore, watch: Callable[[], Any], shards: list[int]
) -> None:
    """However many events are due, a claim reads about as many rows as it takes."""
    with watch() as seen:
        assert len(full.claim(number(), shards, T, T + 6 * SECOND, LIMIT)) == LIMIT
    assert LIMIT <= seen.read("SKIP LOCKED") <= 3 * (LIMIT + 3)
    assert LIMIT <= seen.read("UPDATE duetime") <= LIMIT + 3


def test_a_claim_of_few_reads_few(full: MysqlStore, watch: Callable[[], Any]) -> None:
    """What is not yet due is not read."""
    with watch() as seen:
        assert len(full.claim(number(), range(SHARDS), T, T + 11_000, 1000)) == 12
    assert seen.read("SKIP LOCKED") <= 3 * (12 + 2 * SHARDS)
    assert seen.read("UPDATE duetime") <= 12 + 2 * SHARDS


def test_a_peek_reads_no_more_than_it_shows(full: MysqlStore, watch: Callable[[], Any]) -> None:
    """A look at a backlog reads the limit, and the limit of each shard when there is more."""
    with watch() as seen:
        assert len(full.peek([2], T, T + 6 * SECOND, LIMIT)) == LIMIT
    assert seen.read("SELECT CONCAT_WS") <= LIMIT + 2
    with watch() as seen:
        assert len(full.peek(range(SHARDS), T, T + 6 * SECOND, LIMIT)) == LIMIT
    assert seen.read("SELECT CONCAT_WS") <= (SHARDS + 1) * (LIMIT + 2)


def test_a_settlement_reads_its_range(full: MysqlStore, watch: Callable[[], Any]) -> None:
    """A settled range reads the rows between its bounds, not the table."""
    mine = held(full)
    first, last = mine[0][0], mine[-1][0]
    with watch() as seen:
        settled = full.settle(Settlement(ranges=[Range(mine[0][9], (0, 1), first, last)]))
    assert settled.ranges == len(mine)
    assert seen.read("DELETE") <= len(mine) + 5


def test_small_tables_are_not_read_whole(admin: Admin, watch: Callable[[], Any]) -> None:
    """On a table of a few rows, too, only the rows that are meant are looked at and locked."""
    store = MysqlStore(admin.url, prefix="small_")
    store.migrate()
    try:
        store.insert([row(T + i // 2) for i in range(11)])
        admin("ANALYZE TABLE small_events")
        mine = claim_all(store)
        with watch() as seen:
            store.settle(Settlement(done=mine[:6], moves=[move(mine[7], T + SECOND)]))
        store.insert([row(T + i // 2) for i in range(6)])
        texts = [text for text, _ in seen.statements if text.startswith("DELETE")]
        plans = [plan for text in texts for plan in admin.plan(text)]
        assert plans
        assert [plan for plan in plans if plan["type"] == "ALL"] == []
    finally:
        store.close()
        for (table,) in admin("SHOW TABLES"):
            if table.startswith("small_"):
                admin(f"DROP TABLE {table}")

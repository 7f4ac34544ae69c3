"""How much SQLite reads for a statement, and a spike to its last event."""

from __future__ import annotations

import pytest

from duetime.event import id_of
from duetime.stores.contract import Range, Settlement
from duetime.stores.sql import load_queries
from duetime.stores.sqlite import SqliteStore
from duetime.testing.promises.given import T, number, row

HOT = [
    *("claim", "claim_kinds", "claim_until", "claim_until_kinds", "claim_count"),
    *("claim_count_kinds", "claim_boundary", "claim_boundary_kinds", "claimed", "peek"),
    *("peek_kinds", "peek_shards", "peek_shards_kinds", "settle_range", "settle_row"),
    *("settle_move", "cancel_at", "drop_at"),
    *("reschedule_at", "read_at", "find", "owners", "rescue", "read_name", "names_among"),
    *("any_name_between", "drop_name_at", "read_dead", "find_dead"),
]


@pytest.mark.parametrize("name", HOT)
def test_hot_statements_seek(store: SqliteStore, name: str) -> None:
    """No statement of the hot path reads more of a table than its range."""
    sql = load_queries("duetime.stores.sqlite", "duetime_")[name]
    with store._database.reading() as db:
        holes = len({part for part in range(1, 20) if f"?{part}" in sql})
        plan = [line[3] for line in db.rows(f"EXPLAIN QUERY PLAN {sql}", (None,) * holes)]
    tables = [line for line in plan if "duetime_" in line]
    assert tables, plan
    assert all(line.startswith("SEARCH duetime_") for line in tables), plan
    assert not [line for line in plan if "TEMP B-TREE FOR ORDER BY" in line], plan


def test_a_spike_is_claimed_to_the_last_event(store: SqliteStore) -> None:
    """Of 20,000 events at one instant each claim of 1,000 takes exactly 1,000, none twice."""
    rows = [row(T, shard=i % 32) for i in range(20_000)]
    for start in range(0, len(rows), 2_000):
        store.insert(rows[start : start + 2_000])
    taken: list[str] = []
    while held := store.claim(number(), range(32), T, T, 1_000):
        assert len(held) == 1_000
        taken += map(id_of, held)
        shards = tuple({each[2] for each in held})
        assert store.settle(Settlement(ranges=[Range(held[0][9], shards, T, T)])).ranges == 1_000
    assert sorted(taken) == sorted(map(id_of, rows))

"""PostgreSQL is a store, and does what the reference model does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duetime.stores.memory import MemoryStore
from duetime.stores.postgres import PostgresStore, driver
from duetime.testing.store_suite import StoreSuite
from tests.stores.postgres.conftest import Admin, empty
from tests.stores.test_differential import CALLS, SHARDS, Call, Script, contents, visible


class TestPostgresStore(StoreSuite):
    """PostgreSQL keeps every promise, to a role that may not change tables, too."""

    @pytest.fixture
    def store(self, make: Callable[..., PostgresStore], humble: str) -> PostgresStore:
        return make(humble)


class TestEngineWithoutCtid(StoreSuite):
    """Where rows have no ctid, as on CockroachDB and YugabyteDB, every promise holds, too."""

    @pytest.fixture
    def store(
        self, make: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
    ) -> PostgresStore:
        monkeypatch.setattr(driver, "has_ctid", lambda engine: not engine)
        return make()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(calls=st.lists(CALLS, min_size=5, max_size=30))
def test_the_same_calls_give_the_same_answers(admin: Admin, calls: list[Call]) -> None:
    """Any sequence of calls shows the same on PostgreSQL as on the reference model."""
    empty(admin, "few_")
    model, script = MemoryStore(SHARDS), Script()
    store = PostgresStore(admin.url, prefix="few_")
    store.get(["-"])  # learns the number of shards
    try:
        for name, drawn in calls:
            call = script.next(name, drawn)
            expected = call(model)
            assert visible(call(store)) == visible(expected), (name, drawn)
            assert contents(store) == contents(model), (name, drawn)
            if name == "claim":
                script.held += expected
    finally:
        store.close()

"""PostgreSQL against the reference model: the same calls, the same answers, the same contents."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duetime.stores.memory import MemoryStore
from duetime.stores.postgres import PostgresStore
from tests.stores.postgres.conftest import Admin, empty
from tests.stores.test_differential import CALLS, SHARDS, Call, Script, contents, visible


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, min_size=5, max_size=40))
def test_the_same_calls_give_the_same_answers(admin: Admin, calls: list[Call]) -> None:
    """Any sequence of calls shows the same on PostgreSQL as on the reference model."""
    empty(admin, "few_")
    store = PostgresStore(admin.url, prefix="few_")
    model, script = MemoryStore(SHARDS), Script()
    store.time()
    try:
        for name, drawn in calls:
            make = script.next(name, drawn)
            expected = make(model)
            assert visible(make(store)) == visible(expected), (name, drawn)
            assert contents(store) == contents(model), (name, drawn)
            if name == "claim":
                script.held += expected
    finally:
        store.close()

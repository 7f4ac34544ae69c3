"""MySQL and MariaDB are one store, and it keeps every promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection

from duetime.stores.memory import MemoryStore
from duetime.stores.mysql import MysqlStore
from duetime.stores.mysql.session import Session
from duetime.testing.store_suite import StoreSuite
from tests.stores.mysql.conftest import Admin, empty
from tests.stores.test_differential import CALLS, SHARDS, Call, Script, contents, visible


class TestMysqlStore(StoreSuite):
    """Both servers keep every promise, to a user who may not change tables, too."""

    @pytest.fixture
    def store(self, make: Callable[..., MysqlStore], humble: str) -> MysqlStore:
        return make(humble)


class TestEngineThatSkipsNothing(StoreSuite):
    """Where rows cannot be skipped, as on TiDB, claims lock plainly, and every promise holds."""

    @pytest.fixture
    def store(
        self, make: Callable[..., MysqlStore], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[MysqlStore]:
        told: list[str] = []
        server_info = Connection.get_server_info

        def say_tidb(connection: Connection) -> str:
            return str(server_info(connection)) + "-TiDB-v8.5.6"

        def look(session: Session, text: str) -> object:
            told.append(text)
            return column(session, text)

        column = Session.column
        monkeypatch.setattr(Connection, "get_server_info", say_tidb)
        monkeypatch.setattr(Session, "column", look)
        yield make()
        assert not any("SKIP LOCKED" in text for text in told)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(CALLS, min_size=5, max_size=30))
def test_the_same_calls_give_the_same_answers(few_shards: Admin, calls: list[Call]) -> None:
    """Any sequence of calls shows the same on a server as on the reference model."""
    empty(few_shards, "few_")
    model, script = MemoryStore(SHARDS), Script()
    store = MysqlStore(few_shards.url, prefix="few_", shards=SHARDS)
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

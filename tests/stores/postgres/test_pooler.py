"""Behind a pooler that gives each transaction another connection, nothing is different."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from duetime.errors import StoreUnavailable
from duetime.event import id_of
from duetime.stores.contract import Settlement
from duetime.stores.postgres import PostgresStore
from duetime.stores.postgres.driver import LIMITS
from duetime.testing.promises.given import T, claim_all, row
from duetime.testing.store_suite import StoreSuite
from tests.servers.pooler import Pooler
from tests.stores.postgres.conftest import PREFIX, Admin


@pytest.fixture(params=["refuses options", "drops options"])
def pooler(admin: Admin, request: pytest.FixtureRequest) -> Iterator[Pooler]:
    refuses = request.param == "refuses options"
    with Pooler(admin.address, admin.database, refuses=refuses) as pooler:
        yield pooler


@pytest.fixture
def pooled(
    make: Callable[..., PostgresStore], admin: Admin, pooler: Pooler
) -> Iterator[PostgresStore]:
    """Return a store behind the pooler, closed before it."""
    store = make(admin.address._replace(port=pooler.port).url(admin.database))
    yield store
    store.close()


@pytest.fixture(scope="module")
def behind(admin: Admin) -> Iterator[Pooler]:
    with Pooler(admin.address, admin.database, size=6, refuses=True) as pooler:
        yield pooler


@pytest.mark.slow
class TestBehindAPooler(StoreSuite):
    """Every promise holds behind a pooler."""

    @pytest.fixture
    def store(
        self, make: Callable[..., PostgresStore], admin: Admin, behind: Pooler
    ) -> Iterator[PostgresStore]:
        store = make(admin.address._replace(port=behind.port).url(admin.database))
        yield store
        store.close()


def test_this_pooler_is_one(admin: Admin, pooler: Pooler) -> None:
    """What depends on its connection fails behind this pooler: the tests here are not blind."""
    url = admin.address._replace(port=pooler.port).url(admin.database)
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as link:
        pids = {link.execute("SELECT pg_backend_pid()", prepare=False).fetchone() for _ in "123"}
        assert len(pids) == 3
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            [link.execute("SELECT 1") for _ in range(4)]


def test_limits_hold_within_each_transaction(pooled: PostgresStore) -> None:
    """A change has its time-outs and its isolation, though the connection cannot keep them."""
    settings = [*LIMITS, "transaction_isolation", "enable_seqscan"]
    columns = ", ".join(f"current_setting('{name}')" for name in settings)
    for _ in range(4):
        found = pooled._database.run(lambda db: db.changed(f"SELECT {columns}".encode(), ()))
        assert found == [(*LIMITS.values(), "read committed", "off")]


def test_nothing_stays_on_a_connection(pooled: PostgresStore, admin: Admin, pooler: Pooler) -> None:
    """What the store sets for itself is not found by the pooler's other clients."""
    for _ in range(6):
        pooled.insert([row()])
    url = admin.address._replace(port=pooler.port).url(admin.database)
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as link:
        found = {link.execute("SHOW lock_timeout").fetchone() for _ in range(6)}
    assert found == {("0",)}


def test_a_lock_is_not_waited_for_longer(pooled: PostgresStore, admin: Admin) -> None:
    """A row that somebody holds is waited for no longer than without a pooler."""
    fresh = row()
    pooled.insert([fresh])
    with admin.connect(autocommit=False) as link:
        link.execute(f"SELECT 1 FROM {PREFIX}events FOR UPDATE".encode())
        with pytest.raises(StoreUnavailable) as caught:
            pooled.cancel([id_of(fresh)])
    assert caught.value.code == "store_busy"


def test_more_callers_than_connections(pooled: PostgresStore, pooler: Pooler) -> None:
    """An event goes its whole way over whichever connections there are."""
    before = pooler.transactions
    pooled.insert([row(T + i, name=f"n{i}" if i % 2 else None) for i in range(50)])
    held = claim_all(pooled)
    assert len(held) == 50
    assert pooled.settle(Settlement(done=held)).done == 50
    assert pooler.transactions > before

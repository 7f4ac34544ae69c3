"""The definition of a store: a class of tests that every store passes, yours too."""

from __future__ import annotations

from duetime.testing.promises.claiming import Claiming
from duetime.testing.promises.inserting import Inserting
from duetime.testing.promises.keeping import Keeping
from duetime.testing.promises.reading import Reading
from duetime.testing.promises.settling import Settling
from duetime.testing.promises.sharing import Sharing
from duetime.testing.promises.steering import Steering

__all__ = ["StoreSuite", "WithinSuite"]


class StoreSuite(Inserting, Steering, Claiming, Settling, Keeping, Reading):
    """All promises of a store, as pytest tests; a store's test is a subclass with one fixture.

        class TestMyStore(StoreSuite):
            @pytest.fixture
            def store(self):
                store = MyStore(...)
                store.migrate()
                yield store
                store.close()

    The fixture `store` supplies a fresh, migrated store with at least 8 shards. Each test's
    docstring is the promise that it holds the store to.
    """


class WithinSuite(Sharing):
    """The promises of `within`, for a store that can take part in a caller's transaction.

        class TestMyStoreWithin(WithinSuite):
            @pytest.fixture
            def store(self): ...  # as for StoreSuite

            @pytest.fixture
            def begin(self, store):
                return lambda: MyTransaction(...)  # has connection, commit() and rollback()

    `begin` opens a transaction on the store's database, as `promises.sharing.Transaction` says.
    """

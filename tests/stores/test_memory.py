"""The memory model is a store."""

from __future__ import annotations

import pytest

from duetime.stores.memory import MemoryStore
from duetime.testing.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    """The memory model keeps every promise."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

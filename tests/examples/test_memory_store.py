"""The store of one's own, in one file, is a store."""

from __future__ import annotations

import pytest

from duetime.testing.store_suite import StoreSuite
from examples.memory_store import DictStore


class TestDictStore(StoreSuite):
    """The example keeps every promise of a store."""

    @pytest.fixture
    def store(self) -> DictStore:
        return DictStore()

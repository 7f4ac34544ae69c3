"""What a user with the least rights may do; that it is enough to run, `test_suite` shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duetime.errors import StoreUnavailable
from duetime.stores.mysql import MysqlStore
from tests.stores.mysql.conftest import Admin


def test_migrating_needs_more(humble: str, admin: Admin) -> None:
    """A user who may not make tables is told so by `migrate`, and nothing is made."""
    store = MysqlStore(humble, prefix="humble_")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            store.migrate()
    finally:
        store.close()
    assert caught.value.code == "store_denied"
    assert admin("SHOW TABLES LIKE 'humble%'") == []


def test_check_needs_no_more(make: Callable[..., MysqlStore], humble: str) -> None:
    """A user with the least rights can look at everything that `check` judges."""
    names = {finding.name for finding in make(humble).check()}
    assert {"mysql_version", "storage_engine", "collation", "schema", "clock"} <= names

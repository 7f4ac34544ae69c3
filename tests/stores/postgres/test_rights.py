"""What a role with the least rights may do; that it is enough to run, `test_suite` shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from duetime.errors import StoreUnavailable
from duetime.stores.postgres import PostgresStore
from tests.stores.postgres.conftest import Admin


def test_migrating_needs_more(humble: str, admin: Admin) -> None:
    """A role that may not make tables is told so by `migrate`, and nothing is made."""
    admin("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is by default from version 15 on
    store = PostgresStore(humble, prefix="humble_")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            store.migrate()
    finally:
        store.close()
    assert caught.value.code == "store_denied"
    assert admin("SELECT to_regclass('humble_version')") == [(None,)]


def test_check_needs_no_more(make: Callable[..., PostgresStore], humble: str) -> None:
    """A role with the least rights can look at everything that `check` judges."""
    levels = {finding.name: finding.level for finding in make(humble).check()}
    assert {"postgres_version", "durability", "privileges", "schema", "clock"} <= set(levels)
    assert set(levels.values()) == {"ok"}


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE"])
def test_a_right_that_lacks_is_found(
    make: Callable[..., PostgresStore], humble: str, admin: Admin, right: str
) -> None:
    """A role that lacks one right on one table is told which table."""
    role = humble.partition("://")[2].partition("@")[0]
    admin(f"REVOKE {right} ON duetime_dead FROM {role}")
    try:
        finding = {each.name: each for each in make(humble).check()}["privileges"]
    finally:
        admin(f"GRANT {right} ON duetime_dead TO {role}")
    assert finding.level == "error"
    assert "duetime_dead" in finding.text

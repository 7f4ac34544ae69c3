"""What each error of PostgreSQL means for the store."""

from __future__ import annotations

import psycopg
import pytest

from duetime.stores.postgres import driver
from duetime.stores.postgres.driver import Verdict


class _Failure(psycopg.Error):
    """An error with this SQLSTATE."""

    def __init__(self, state: str | None) -> None:
        super().__init__("text")
        self.sqlstate = state


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("40001", Verdict.AGAIN),
        ("40P01", Verdict.AGAIN),
        ("55P03", Verdict.BUSY),
        ("57014", Verdict.SLOW),
        ("57P01", Verdict.LOST),
        ("57P02", Verdict.LOST),
        ("57P03", Verdict.LOST),
        ("08000", Verdict.LOST),
        ("08006", Verdict.LOST),
        ("53300", Verdict.LOST),
        ("53100", Verdict.FULL),
        ("25006", Verdict.READ_ONLY),
        ("23505", Verdict.DUPLICATE),
        ("42501", Verdict.DENIED),
        ("28P01", Verdict.DENIED),
        ("42P01", Verdict.SCHEMA),
        ("3D000", Verdict.DATABASE),
        ("22021", Verdict.OTHER),
        (None, Verdict.OTHER),
    ],
)
def test_errors_are_judged(state: str | None, verdict: Verdict) -> None:
    """Each error of the server has one meaning."""
    assert driver.judge(_Failure(state)) is verdict


@pytest.mark.parametrize(
    ("engine", "has"),
    [
        ("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu", True),
        ("PostgreSQL 15.12-YB-2025.1.0.0-b0 on x86_64-pc-linux-gnu", False),
        ("CockroachDB CCL v25.2.0 (x86_64-pc-linux-gnu, built 2025/05/09)", False),
    ],
)
def test_engines_without_ctid_are_known(engine: str, has: bool) -> None:  # noqa: FBT001 - a table
    """What an engine says of itself tells whether its rows have a ctid."""
    assert driver.has_ctid(engine) is has

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

"""Values as text: safe to show, short to read."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.cli import text
from duetime.clock import MICROS


@given(st.text())
def test_escaped_text_is_printable(value: str) -> None:
    """Whatever comes in, only printable characters come out, and printable text stays."""
    assert text.escape(value).isprintable()
    assert text.escape(value) == value or not value.isprintable()


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_json_is_ascii(value: object) -> None:
    """JSON for programs is one line of ASCII, and comes back."""
    line = text.to_json(value)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == value


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "now"),
        (-999, "now"),
        (250_000, "in 250ms"),
        (-3 * MICROS, "3s ago"),
        (90 * MICROS, "in 1m 30s"),
        (899_999_999, "in 15m"),
        (3600 * MICROS, "in 1h"),
        (3605 * MICROS, "in 1h"),
        (90_000 * MICROS, "in 1d 1h"),
        (-40 * 86_400 * MICROS, "40d ago"),
    ],
)
def test_distances_are_short(micros: int, shown: str) -> None:
    """A distance shows its two largest units."""
    assert text.relative(micros) == shown


def test_times_are_rfc_3339() -> None:
    """A time is shown in UTC with a Z."""
    assert text.stamp(datetime(2027, 1, 31, 9, tzinfo=UTC)) == "2027-01-31T09:00:00Z"

"""What callers may pass: each wrong input has its code, and nothing else escapes."""

from __future__ import annotations

import contextlib
import enum
import math
import timeit
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime import event, inputs
from duetime.clock import MICROS, from_micros, to_micros
from duetime.config import Settings
from duetime.errors import InvalidInput

SETTINGS = Settings()
MOMENT = datetime(2027, 1, 31, 9, 0, tzinfo=UTC)
NOW = to_micros(MOMENT)
MADE = event.make_id(1, NOW, 5)


class Kind(enum.StrEnum):
    EXPIRE = "order.expire"


class Name(enum.StrEnum):
    ONE = "a-1"


def refusal(call: Callable[..., Any], *arguments: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        call(*arguments)
    assert caught.value.field is not None
    return caught.value


def due(at: Any = None, after: Any = None, settings: Settings = SETTINGS) -> int:
    return inputs.due(at, after, NOW, settings)


def test_neither_means_now() -> None:
    """Without a time an event is due now."""
    assert due() == NOW


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=-5))])
def test_an_aware_time_is_exact(zone: Any) -> None:
    """A time in any zone is that instant, to the microsecond."""
    later = MOMENT + timedelta(days=200, microseconds=1)
    assert due(at=later.astimezone(zone)) == to_micros(later)


@pytest.mark.parametrize(
    ("after", "micros"),
    [
        (0, 0),
        (90, 90 * MICROS),
        (0.57, 570_000),
        (1.1, 1_100_000),
        (timedelta(milliseconds=1), 1000),
        (1e-6, 1),
        (1.0000005, 1_000_001),
        (0.0000001, 1),
    ],
)
def test_a_delay_counts_from_now(after: Any, micros: int) -> None:
    """A delay is a timedelta or seconds; what is less than a microsecond rounds up."""
    assert due(after=after) == NOW + micros


@given(st.integers(0, 10**13))
def test_binary_fractions_do_not_add_a_microsecond(micros: int) -> None:
    """Whole microseconds written as float seconds stay those microseconds."""
    assert inputs.delay(micros / MICROS) == micros


@given(st.floats(0, 1e6))
def test_rounding_is_upwards(seconds: float) -> None:
    """A delay is never shorter than asked for, but for a thousandth of a microsecond."""
    assert Fraction(seconds) * MICROS - Fraction(1, 500) <= inputs.delay(seconds)


def test_both_are_refused() -> None:
    """At and after together are refused."""
    assert refusal(due, MOMENT, 5).code == "due_both"


def test_a_naive_time_is_refused() -> None:
    """A time without an offset is refused with advice."""
    error = refusal(due, datetime(2027, 1, 1))  # noqa: DTZ001  # naive is the point
    assert error.code == "due_naive"
    assert "aware" in str(error)
    assert refusal(inputs.aware, MOMENT.replace(tzinfo=None)).code == "due_naive"


@pytest.mark.parametrize(
    ("at", "advice"),
    [
        (1_800_000_000, "after="),
        (1_800_000_000_000, "milliseconds?"),
        ("2027-01-01T00:00:00Z", "fromisoformat"),
        (date(2027, 1, 1), "date"),
        (timedelta(1), "after="),
        (True, "bool"),
        (math.nan, "float"),
        (1j, "complex"),
        (Decimal("sNaN"), "Decimal"),
        (b"now", "bytes"),
    ],
)
def test_at_takes_only_datetimes(at: Any, advice: str) -> None:
    """Anything but a datetime is refused as a time, and the message helps."""
    error = refusal(due, at)
    assert error.code == "due_type"
    assert advice in str(error)


@pytest.mark.parametrize(
    "after",
    [math.nan, math.inf, -math.inf, True, "5", 1j, Decimal(1), Decimal("sNaN"), Fraction(1), [5]],
)
def test_after_takes_only_durations(after: Any) -> None:
    """Anything but a timedelta or a finite number is refused as a delay."""
    error = refusal(due, None, after)
    assert (error.code, error.field) == ("due_type", "after")


@pytest.mark.parametrize(
    "after", [-1, -1e-9, -1e300, timedelta(microseconds=-1), timedelta.min, 10**18, 1e18, 10**400]
)
def test_negative_and_absurd_delays_are_refused(after: Any) -> None:
    """A delay is not negative and not longer than eight thousand years."""
    assert refusal(due, None, after).code == "delay_range"


def test_seconds_that_look_like_milliseconds_are_pointed_out() -> None:
    """A number far beyond the horizon raises the question of its unit."""
    error = refusal(due, None, 1_800_000_000_000 // 10)
    assert error.code == "due_out_of_range"
    assert "milliseconds?" in str(error)
    assert "milliseconds?" not in str(refusal(due, None, timedelta(days=40_000)))


@pytest.mark.parametrize(
    "at",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
        MOMENT + timedelta(days=36_526),
    ],
)
def test_beyond_the_horizon_is_refused(at: datetime) -> None:
    """What lies beyond the horizon is refused and never overflows."""
    assert refusal(due, at).code == "due_out_of_range"


def test_the_horizon_itself_is_allowed() -> None:
    """A delay of just the horizon is accepted, a microsecond more is not."""
    settings = Settings(max_horizon=3600.0)
    assert due(after=3600, settings=settings) == NOW + 3600 * MICROS
    error = refusal(due, None, timedelta(hours=1, microseconds=1), settings)
    assert error.code == "due_out_of_range"


def test_year_9999_is_the_end_whatever_the_horizon() -> None:
    """No horizon reaches beyond the last year that a datetime can show."""
    settings = Settings(max_horizon=252_460_800_000)
    last = datetime.max.replace(tzinfo=UTC)
    assert due(at=last, settings=settings) == to_micros(last)
    assert refusal(due, None, 252_460_700_000, settings).code == "due_out_of_range"


def test_the_past_is_now() -> None:
    """An event due in the past is due now, even if that was before 1970."""
    assert due(at=MOMENT - timedelta(microseconds=1)) == NOW
    assert due(at=datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))) == NOW


def test_the_past_can_be_refused() -> None:
    """With past=reject an event due in the past is refused; now is not past."""
    settings = Settings(past="reject")
    assert refusal(due, MOMENT - timedelta(seconds=1), None, settings).code == "due_past"
    assert due(at=MOMENT, settings=settings) == NOW


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31T09:00:00Z", MOMENT),
        ("2027-01-31t10:00:00+01:00", MOMENT),
        ("2027-01-31 09:00:00.5z", MOMENT + timedelta(milliseconds=500)),
        ("2027-01-31T09:00:00.123456000Z", MOMENT + timedelta(microseconds=123_456)),
        ("2027-01-31T09:00:00.123456001Z", MOMENT + timedelta(microseconds=123_457)),
        ("2027-01-31T08:59:59.999999999Z", MOMENT),
    ],
)
def test_a_written_time_is_read(text: str, expected: datetime) -> None:
    """RFC 3339 is read, and digits beyond the microsecond round up."""
    moment = inputs.parse_moment(text)
    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2027-01-31T09:00:00", "due_naive"),
        ("2026-02-30T00:00:00Z", "due_invalid"),
        ("2027-01-31T24:00:00Z", "due_invalid"),
        ("2027-01-31T23:59:60Z", "due_invalid"),
        ("2027-01-31T09:00:00+25:00", "due_invalid"),
        ("2027-01-31T09:00:00+01:60", "due_invalid"),
        ("2027-01-31", "due_invalid"),
        ("tomorrow", "due_invalid"),
        ("", "due_invalid"),
        ("٢٠٢٧-01-31T09:00:00Z", "due_invalid"),
        ("2027-01-31T09:00:00Z\n", "due_invalid"),
        ("9999-12-31T23:59:59.9999999Z", "due_out_of_range"),
        ("9999-12-31T23:59:59-01:00", "due_out_of_range"),
        ("0001-01-01T00:00:00+01:00", "due_out_of_range"),
    ],
)
def test_a_badly_written_time_is_refused(text: str, code: str) -> None:
    """Times that do not exist, or name no instant, are refused."""
    assert refusal(inputs.parse_moment, text).code == code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", timedelta(seconds=90)),
        ("1.5", timedelta(seconds=1.5)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
        ("250ms", timedelta(milliseconds=250)),
        ("0.1us", timedelta(microseconds=1)),
    ],
)
def test_a_written_delay_is_read(text: str, expected: timedelta) -> None:
    """A number with a unit, or seconds without one; fractions of a microsecond round up."""
    assert inputs.parse_delay(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "1y", "1 h", "1h30m", "NaN", "1e3", "٣s", "+5", "1" * 99]
)
def test_a_badly_written_delay_is_refused(text: str) -> None:
    """A delay in any other form is refused."""
    assert refusal(inputs.parse_delay, text).code == "due_type"


@pytest.mark.parametrize("text", ["-1", "-5m", "999999999999999999", "9999999999999w"])
def test_a_written_delay_has_limits(text: str) -> None:
    """A written delay is neither negative nor absurd."""
    assert refusal(inputs.parse_delay, text).code == "delay_range"


@given(st.text(max_size=40))
def test_parsers_raise_only_their_own_errors(text: str) -> None:
    """Whatever is written, the parsers answer or refuse."""
    for parse in (inputs.parse_moment, inputs.parse_delay):
        with contextlib.suppress(InvalidInput):
            assert parse(text) is not None


@pytest.mark.parametrize("text", ["a", "A", "0", "-", "_", "x" * 64, "order-42_b", "e123"])
def test_ids_are_accepted(text: str) -> None:
    """Letters, digits, underscore and hyphen make an id, up to 64 of them."""
    assert inputs.event_id(text) == text
    assert inputs.known_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "a ", " a", "a\n", "a/b", "a.b", "x" * 65, "ä", "a\0", "\u202e", 5, None, b"a"],
)
def test_other_ids_are_refused(text: Any) -> None:
    """Everything else is refused, so that no database can merge two ids."""
    assert refusal(inputs.event_id, text).code == "id_invalid"
    assert refusal(inputs.known_id, text).code == "id_invalid"


def test_made_ids_are_reserved() -> None:
    """A new event cannot be given an id of our own form; it can be looked up by one."""
    assert refusal(inputs.event_id, MADE).code == "id_reserved"
    assert inputs.known_id(MADE) == MADE
    assert inputs.event_id(MADE.upper()) == MADE.upper()


@pytest.mark.parametrize("text", ["order.expire", "a", "A:b-c_9", "0", "x" * 64, "os.system"])
def test_kinds_are_accepted(text: str) -> None:
    """A kind is a plain name; one that looks like code is only a name as well."""
    assert inputs.kind(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-x",
        "_x",
        "a b",
        "a\n",
        "../x",
        "a/b",
        "x" * 65,
        "x" * 300,
        "a\u202eb",
        "é",
        7,
        None,
    ],
)
def test_other_kinds_are_refused(text: Any) -> None:
    """Paths, signs in front, control and right-to-left characters are refused."""
    error = refusal(inputs.kind, text)
    assert error.code == "kind_invalid"
    assert str(error).isascii()
    assert len(str(error)) < 250


def test_members_of_an_enum_are_names() -> None:
    """A StrEnum member becomes a plain str, as databases want it."""
    assert type(inputs.kind(Kind.EXPIRE)) is str
    assert inputs.kind(Kind.EXPIRE) == "order.expire"
    assert type(inputs.known_id(Name.ONE)) is str


@pytest.mark.parametrize("limit", [-1, 0, 10_001, 10**9, True, 5.0, "5", None])
def test_pages_have_limits(limit: Any) -> None:
    """A page holds 1 to 10,000 events."""
    assert refusal(inputs.page, limit).code == "page_invalid"
    assert inputs.page(10_000) == 10_000


@pytest.mark.parametrize("retries", [-1, 10_001, 2**31, "3", 1.0, True, math.nan])
def test_retries_have_limits(retries: Any) -> None:
    """Retries are a whole number from 0."""
    assert refusal(inputs.backoff, retries, 1, 2, 600).code == "retries_range"


@pytest.mark.parametrize(
    ("first", "factor", "maximum"),
    [
        (math.nan, 2, 600),
        (-1, 2, 600),
        (1, 0.5, 600),
        (1, 1e308, 600),
        (1, math.nan, 600),
        (1, 2, math.inf),
        (700, 2, 600),
        ("1", 2, 600),
        (True, 2, 600),
        (10**400, 2, 10**400),
    ],
)
def test_backoffs_have_limits(first: Any, factor: Any, maximum: Any) -> None:
    """A backoff has finite, growing, bounded pauses."""
    assert refusal(inputs.backoff, 18, first, factor, maximum).code == "backoff_range"


def test_backoffs_are_accepted() -> None:
    """The default, no retries at all, and retries without end are all right."""
    inputs.backoff(18, 1, 2.0, 600)
    inputs.backoff(0, 0, 1, 0)
    inputs.backoff(None, 600, 1000, 600)


def test_a_due_time_comes_back_as_it_was_given() -> None:
    """From the caller's datetime to microseconds and back nothing changes."""
    at = MOMENT + timedelta(days=3, microseconds=7)
    assert from_micros(due(at=at)) == at


@pytest.mark.parametrize(
    "call",
    [
        lambda: inputs.due(None, 900, NOW, SETTINGS),
        lambda: inputs.due(MOMENT, None, NOW, SETTINGS),
        lambda: inputs.kind("order.expire"),
        lambda: inputs.event_id("order-42"),
    ],
    ids=["after", "at", "kind", "id"],
)
def test_checks_are_cheap(call: Callable[[], Any]) -> None:
    """A check costs microseconds: the best of many runs, because a busy machine only adds."""
    assert min(timeit.repeat(call, number=1000, repeat=20)) / 1000 < 10e-6

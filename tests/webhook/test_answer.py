"""What an answer means for its event."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS, to_micros
from duetime.outcome import Dead, Done, Outcome, Retry
from duetime.retry import Backoff
from duetime.webhook.answer import Answer, Fault, asked_wait, is_well, outcome_of
from duetime.webhook.policy import Limits

NOON = datetime(2027, 3, 1, 12, 0, 0, tzinfo=UTC)
WALL = to_micros(NOON)
LIMITS = Limits(retry_after=3600)
BACKOFF = Backoff(first=8, factor=2, maximum=600)


def outcome(status: int = 0, failures: int = 0, limits: Limits = LIMITS, **more: object) -> Outcome:
    answer = Answer(status=status, **more)  # type: ignore[arg-type] # a mix of types
    return outcome_of(answer, failures, BACKOFF, WALL, limits, lambda: 0.5)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_any_2xx_is_done(status: int) -> None:
    """An answer of the 200s is what a webhook is for."""
    assert outcome(status) == Done()


@pytest.mark.parametrize(
    "status",
    [199, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 425, 500, 502, 504],
)
def test_all_else_is_tried_again_by_the_policy(status: int) -> None:
    """A redirect, a refusal and an error are failed attempts, and the kind's backoff goes on."""
    assert outcome(status) == Retry(error=f"answered {status}")
    assert outcome(status, retry_after="7") == Retry(error=f"answered {status}")


@pytest.mark.parametrize("fault", [f for f in Fault if f.name not in ("BUSY", "OPEN", "CLOSED")])
def test_no_answer_is_tried_again_by_the_policy(fault: Fault) -> None:
    """Whatever came in the way, the attempt failed and is made again, even after a good status."""
    result = outcome(200, fault=fault, detail="why")
    assert result == Retry(error=f"{fault.value} (why)")


def test_410_is_the_end() -> None:
    """A receiver that is gone for good is not asked again."""
    result = outcome(410)
    assert isinstance(result, Dead)
    assert "410" in result.reason


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.CLOSED])
def test_what_was_not_tried_does_not_count(fault: Fault) -> None:
    """Where there was no room, the event comes again and no attempt was burnt."""
    assert outcome(fault=fault, wait=2_500_000) == Retry(after=2.5, counted=False)


def test_an_open_circuit_burns_attempts_no_faster_than_the_policy() -> None:
    """While a receiver is left alone, its events wait at least as long as their backoff says."""
    assert outcome(fault=Fault.OPEN, wait=2 * MICROS, failures=3) == Retry(
        after=32.0, error=Fault.OPEN.value
    )
    later = outcome(fault=Fault.OPEN, wait=100 * MICROS, failures=3)
    assert isinstance(later, Retry)
    assert later.after == 105.0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100", 100),
        (" 100 ", 100),
        ("0", 0),
        ("1" * 10, 3600),
        ("1" * 30, 3600),
        (format_datetime(NOON.replace(minute=2), usegmt=True), 120),
        ("Monday, 01-Mar-27 12:02:00 GMT", 120),
        ("Mon Mar  1 12:02:00 2027", 120),
        (format_datetime(NOON.replace(hour=11), usegmt=True), 0),
        (format_datetime(NOON.replace(year=2099), usegmt=True), 3600),
    ],
)
def test_retry_after_is_honoured_within_bounds(status: int, text: str, seconds: int) -> None:
    """A busy receiver says when to come again: in seconds or as a date, an hour at most here."""
    answer = Answer(status=status, retry_after=text)
    assert asked_wait(answer, WALL, LIMITS) == seconds * MICROS
    result = outcome(status, retry_after=text)
    assert isinstance(result, Retry)
    assert result.after == max(4.0, seconds * 1.05)


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1.5", "1e9", "٣", "1" * 31, "Mon, 32 Mar 2027 99:99:99 GMT", "\x00"]
)
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    """What cannot be read is as if it were not there."""
    assert asked_wait(Answer(status=503, retry_after=text), WALL, LIMITS) is None
    assert outcome(503, retry_after=text) == Retry(error="answered 503")


@given(st.text(max_size=60), st.integers(0, 999))
def test_a_wait_stays_in_its_bounds(text: str, status: int) -> None:
    """No Retry-After makes a wait that is negative or longer than allowed."""
    wait = asked_wait(Answer(status=status, retry_after=text), WALL, LIMITS)
    assert wait is None or 0 <= wait <= 3600 * MICROS


def test_reasons_are_short_and_escaped() -> None:
    """What a stranger sent reaches the history cut, on one line, without control characters."""
    result = outcome(fault=Fault.TLS, detail="\x1b[31m\r\n" + "é" * 500)
    assert isinstance(result, Retry)
    assert result.error is not None
    assert len(result.error) <= 200
    assert result.error.isprintable()


def test_the_answer_is_kept_only_on_request() -> None:
    """The body of an answer goes into the history where that is enabled, cut and escaped."""
    body = b"<script>\n\x1b\xff" + b"x" * 1000
    assert outcome(500, body=body) == Retry(error="answered 500")
    kept = outcome(500, body=body, limits=Limits(keep_answer=30))
    assert isinstance(kept, Retry)
    assert kept.error is not None
    assert kept.error.startswith("answered 500: <script>\\n\\x1b\\ufffdx")
    assert len(kept.error) == len("answered 500: ") + 30


@pytest.mark.parametrize(
    ("status", "well"),
    [(200, True), (302, True), (404, True), (410, True), (408, False), (429, False), (500, False)],
)
def test_health_is_not_success(status: int, *, well: bool) -> None:
    """A receiver that refuses is well; one that fails or cannot take more is not."""
    assert is_well(Answer(status=status)) is well
    assert not is_well(Answer(status=status, fault=Fault.BROKEN))

"""What came of a call, and what it means for the event and for the receiver's health."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

import msgspec

from duetime.clock import MICROS, to_micros
from duetime.outcome import Dead, Done, Outcome, Retry
from duetime.retry import Backoff
from duetime.webhook.policy import Limits

__all__ = ["Answer", "Fault", "asked_wait", "is_well", "outcome_of"]

_GONE = 410
_BUSY = (429, 503)  # their Retry-After is honoured
_UNWELL = (408, 429)  # below 500, and still a sign that the receiver cannot take more
_LONGEST = 200  # characters of a reason, apart from the answer's body
_SPREAD = 0.1  # of a wait that was asked for is added at random, so that not all come back at once
_SECONDS = re.compile(r"[0-9]{1,30}", re.ASCII)


class Fault(Enum):
    """Why there is no whole answer."""

    RESOLVING = "the host's name could not be resolved"
    BLOCKED = "its address may not be called"
    CONNECTING = "no connection"
    TLS = "no trusted TLS connection"
    TIMEOUT = "no whole answer in time"
    BROKEN = "the answer broke off"
    TOO_LONG = "the answer is too long"
    BUSY = "too many calls to this receiver at once"  # not tried
    OPEN = "the receiver failed too often; it is left alone for a while"  # not tried
    CLOSED = "the sender was closed"  # not tried to its end


class Answer(msgspec.Struct, kw_only=True):
    """What came of one call."""

    status: int = 0  # of HTTP; 0 where none came
    fault: Fault | None = None
    detail: str = ""  # of the fault
    retry_after: str | None = None  # the header, as it came
    body: bytes = b""  # as much as was read
    wait: int = 0  # µs: how long not to come again, where it was not tried
    took: int = 0  # µs


def is_well(answer: Answer) -> bool:
    """Tell whether the receiver is there and can take more, be it only to refuse."""
    if answer.fault is not None:
        return False
    return answer.status < 500 and answer.status not in _UNWELL


def asked_wait(answer: Answer, wall: int, limits: Limits) -> int | None:
    """Return how long (µs) a 429 or 503 asks us to wait, bounded; None where it does not say.

    `wall` is the time in µs since 1970 UTC, against which a date is held.
    """
    text = (answer.retry_after or "").strip()
    if answer.status not in _BUSY or not text:
        return None
    most = int(limits.retry_after * MICROS)
    if _SECONDS.fullmatch(text):
        return min(int(text) * MICROS, most)
    try:
        moment = parsedate_to_datetime(text)
        # HTTP knows one zone; its oldest form of a date does not name it.
        micros = to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - wall
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0, min(micros, most))


def outcome_of(
    answer: Answer,
    failures: int,
    backoff: Backoff,
    wall: int,
    limits: Limits,
    random: Callable[[], float],
) -> Outcome:
    """Return what an answer means for its event, which has failed so many times before."""
    if answer.fault is Fault.BUSY or answer.fault is Fault.CLOSED:
        return Retry(after=_seconds(answer.wait), counted=False)
    if answer.fault is None and 200 <= answer.status < 300:
        return Done()
    reason = _reason(answer, limits.keep_answer)
    if answer.fault is None and answer.status == _GONE:
        return Dead(f"{reason}: the receiver wants no more of them")
    asked = asked_wait(answer, wall, limits)
    if answer.fault is Fault.OPEN:
        asked = answer.wait
    if asked is None:
        return Retry(error=reason)
    # Never sooner than by the policy: who asks for a second in vain is not asked 18 times in 18 s.
    wait = max(backoff.delay(failures + 1, random), int(asked * (1 + _SPREAD * random())))
    return Retry(after=_seconds(wait), error=reason)


def _seconds(micros: int) -> float:
    return micros / MICROS


def _reason(answer: Answer, keep: int) -> str:
    """Return one short line; what a stranger sent is escaped."""
    if answer.fault is not None:
        text = answer.fault.value + (f" ({_plain(answer.detail)})" if answer.detail else "")
    else:
        text = f"answered {answer.status}"
    text = text[:_LONGEST]
    if keep and answer.body and answer.fault is None:
        body = answer.body[: 4 * keep].decode("utf-8", "replace")
        text += f": {_plain(body)[:keep]}"
    return text


def _plain(text: str) -> str:
    return ascii(text)[1:-1]

"""What callers may pass, checked before anything is written: times, ids, kinds, limits.

Each check takes a fraction of a microsecond when all is well, because `schedule` is a hot path.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from duetime import event
from duetime.clock import MICROS, to_micros
from duetime.config import Settings
from duetime.errors import InvalidInput

__all__ = [
    "MAX_DELAY",
    "MAX_PAGE",
    "MAX_PAUSE",
    "MAX_RETRIES",
    "aware",
    "backoff",
    "delay",
    "due",
    "event_id",
    "kind",
    "known_id",
    "moment",
    "page",
    "parse_delay",
    "parse_moment",
]

MAX_DELAY = 252_460_800_000  # s: 8,000 years; what is longer was not meant as a delay
MAX_PAGE = 10_000  # events per page of a listing
MAX_PAUSE = 366 * 86_400  # s between two attempts
MAX_RETRIES = 10_000
_LAST = to_micros(datetime.max.replace(tzinfo=UTC))  # µs: the end of year 9999
_MICRO = timedelta(microseconds=1)
_NANO = 0.001  # µs: binary fractions such as 0.57 s overshoot by less, and are not rounded up
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_DELAY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d|w)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?([Zz]|[+-]\d\d:[0-5]\d)?", re.ASCII
)
_UNITS = {
    "us": _MICRO,
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def due(at: object, after: object, now: int, settings: Settings) -> int:
    """Return when an event is to fire, in µs since 1970 UTC; neither argument means now.

    `at` is an aware datetime, `after` a timedelta or seconds; fractions of a microsecond round
    up. A time in the past is `now`, or refused where `settings.past` is "reject".
    Raises InvalidInput: `due_both`, `due_naive`, `due_type`, `due_past`, `delay_range` or
    `due_out_of_range`.
    """
    if at is None:
        if after is None:
            return now
        micros = now + delay(after)
    elif after is not None:
        raise _refuse("due_both", "at", "Give at= or after=, not both")
    else:
        micros = to_micros(aware(at))
    if micros - now > settings.max_horizon * MICROS or micros > _LAST:
        raise _too_late(at, after, micros - now, settings)
    if micros >= now:
        return micros
    if settings.past == "reject":
        raise _refuse(
            "due_past", "at", f"at={at} lies {(now - micros) / MICROS:,.3f} s in the past"
        )
    return now


def moment(at: object) -> datetime:
    """Return an aware datetime as it is. Raises InvalidInput: `due_naive` or `due_type`."""
    if isinstance(at, datetime) and at.utcoffset() is not None:
        return at
    raise _not_a_moment(at)


def aware(moment: object) -> datetime:
    """Return a datetime that names an instant. Raises InvalidInput: `due_naive` or `due_type`."""
    if isinstance(moment, datetime) and moment.utcoffset() is not None:
        return moment
    raise _not_a_moment(moment)


def delay(after: object, field: str = "after") -> int:
    """Return a delay, a timedelta or seconds, in µs; fractions of a microsecond round up.

    Raises InvalidInput: `due_type`, or `delay_range` when it is negative or absurd.
    """
    if isinstance(after, timedelta):
        micros = after // _MICRO
    elif isinstance(after, (int, float)) and not isinstance(after, bool):
        if not -math.inf < after < math.inf:
            raise _refuse("due_type", field, f"{field} is {after}, which is no number of seconds")
        if abs(after) > MAX_DELAY:
            hint = _milliseconds(after / 1000 if isinstance(after, float) else after // 1000)
            raise _refuse("delay_range", field, f"{field} is more than 8,000 years{hint}")
        micros = math.ceil(after * MICROS - _NANO) if isinstance(after, float) else after * MICROS
    else:
        raise _refuse(
            "due_type",
            field,
            f"{field} must be a timedelta or a number of seconds, not {type(after).__name__}",
        )
    if micros < 0 or (isinstance(after, float) and after < 0):
        raise _refuse("delay_range", field, f"{field} is negative")
    return micros


def parse_moment(text: str, field: str = "at") -> datetime:
    """Return an RFC 3339 time such as 2027-01-31T09:00:00.5+01:00 as an aware datetime.

    More than six digits of a second round up. Raises InvalidInput: `due_naive` without an offset,
    else `due_invalid` or `due_out_of_range`.
    """
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise _refuse(
            "due_invalid", field, f"{field} must look like 2027-01-31T09:00:00Z (RFC 3339)"
        )
    day, clock, fraction, offset = match.groups()
    if offset is None:
        raise _naive(field)
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
    except ValueError as error:
        raise _refuse("due_invalid", field, f"{field}={text} is no time: {error}") from None
    digits = (fraction or "0").ljust(6, "0")
    micros = int(digits[:6]) + bool(digits[6:].strip("0"))
    try:
        return (moment + micros * _MICRO).astimezone(UTC)
    except OverflowError:
        raise _refuse(
            "due_out_of_range", field, f"{field}={text} is outside years 1-9999"
        ) from None


def parse_delay(text: str, field: str = "after") -> timedelta:
    """Return a delay written as 90, 90s, 15m, 2h, 1d, 1w, 250ms or 10us (seconds without a unit).

    Raises InvalidInput: `due_type` or `delay_range`.
    """
    match = _DELAY.fullmatch(text)
    if match is None or len(text) > 40:
        negative = text.startswith("-") and _DELAY.fullmatch(text[1:]) is not None
        code = "delay_range" if negative else "due_type"
        raise _refuse(code, field, f"{field} must look like 90, 90s, 15m, 2h, 1d or 250ms")
    whole, _, fraction = match[1].partition(".")
    unit = _UNITS[match[2] or "s"] // _MICRO
    scale = 10 ** len(fraction)
    micros: int = -(-int(whole + fraction) * unit // scale)
    if micros > MAX_DELAY * MICROS:
        raise _refuse("delay_range", field, f"{field} is more than 8,000 years")
    return micros * _MICRO


def event_id(text: object) -> str:
    """Return an id that a caller gives to a new event: 1 to 64 letters, digits, "_" or "-".

    Raises InvalidInput: `id_invalid`, or `id_reserved` for one that looks made by Duetime.
    """
    name = known_id(text)
    if len(name) == 34 and event.is_made_id(name):
        raise _refuse(
            "id_reserved",
            "id",
            "An id of 'e' and 33 hexadecimal digits is of the form that Duetime makes itself; "
            "give another one, or none",
        )
    return name


def known_id(text: object) -> str:
    """Return an id to look an event up by, made by Duetime or given. Raises `id_invalid`."""
    if not isinstance(text, str) or _ID.fullmatch(text) is None:
        raise _name(text, "id", "id_invalid", 'letters, digits, "_" and "-"')
    return text if type(text) is str else str.__str__(text)


def kind(text: object) -> str:
    """Return a kind: a letter or digit, then up to 63 more of those or "_", ".", ":", "-".

    It selects a handler that was registered under it; nothing is ever imported by this name.
    Members of a `StrEnum` will do. Raises InvalidInput: `kind_invalid`.
    """
    if not isinstance(text, str) or _KIND.fullmatch(text) is None:
        raise _name(
            text, "kind", "kind_invalid", 'letters, digits, "_", ".", ":" and "-", not first a sign'
        )
    return text if type(text) is str else str.__str__(text)


def page(limit: object) -> int:
    """Return how many events a page may hold: 1 to 10,000. Raises InvalidInput: `page_invalid`."""
    return _whole(limit, "limit", "page_invalid", 1, MAX_PAGE)


def backoff(retries: object, first: object, factor: object, maximum: object) -> None:
    """Check the numbers of a backoff: retries (None: without end), seconds, growth, seconds.

    Raises InvalidInput: `retries_range` unless 0 <= retries <= 10,000; `backoff_range` unless
    0 <= first <= maximum <= 366 days and 1 <= factor <= 1000.
    """
    if retries is not None:
        _whole(retries, "retries", "retries_range", 0, MAX_RETRIES)
    least = _number(first, "first", "backoff_range", 0, MAX_PAUSE)
    most = _number(maximum, "maximum", "backoff_range", 0, MAX_PAUSE)
    _number(factor, "factor", "backoff_range", 1, 1000)
    if most < least:
        text = f"maximum ({most:,} s) is less than the first pause ({least:,} s)"
        raise _refuse("backoff_range", "maximum", text)


def _whole(value: Any, field: str, code: str, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise _refuse(code, field, f"{field} must be a whole number from {low:,} to {high:,}")


def _number(value: Any, field: str, code: str, low: float, high: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    raise _refuse(code, field, f"{field} must be a number from {low:,} to {high:,}")


def _refuse(code: str, field: str, text: str) -> InvalidInput:
    return InvalidInput(f"{text}.", code=code, field=field)


def _name(value: Any, field: str, code: str, allowed: str) -> InvalidInput:
    if not isinstance(value, str):
        return _refuse(code, field, f"{field} must be a str, not {type(value).__name__}")
    return _refuse(
        code,
        field,
        f"{field} {value[:70]!a} has {len(value)} characters; 1 to 64 are allowed: {allowed}",
    )


def _naive(field: str) -> InvalidInput:
    return _refuse(
        "due_naive",
        field,
        f"{field} has no offset from UTC, so it names no instant: "
        "pass an aware time (datetime.now(UTC), a ZoneInfo, +01:00) or a delay",
    )


def _not_a_moment(at: Any) -> InvalidInput:
    if isinstance(at, datetime):
        return _naive("at")
    advice = ""
    if isinstance(at, (int, float)) and not isinstance(at, bool):
        advice = "; for seconds from now use after="
        advice = _milliseconds(at) if at > 1e11 else advice
    elif isinstance(at, str):
        advice = "; datetime.fromisoformat() makes one"
    elif isinstance(at, timedelta):
        advice = "; for a delay use after="
    elif isinstance(at, date):
        advice = "; a date names no time of day"
    return _refuse(
        "due_type", "at", f"at must be an aware datetime, not {type(at).__name__}{advice}"
    )


def _too_late(at: Any, after: Any, ahead: int, settings: Settings) -> InvalidInput:
    limit = f"at most {settings.max_horizon / 86_400:,.0f} days ahead, and not beyond year 9999"
    hint = ""
    if at is None and not isinstance(after, timedelta):
        hint = _milliseconds(ahead / MICROS / 1000, settings.max_horizon)
    field = "after" if at is None else "at"
    return _refuse("due_out_of_range", field, f"{field} must lie {limit}{hint}")


def _milliseconds(seconds: float, most: float = math.inf) -> str:
    return " (milliseconds? Duetime counts in seconds)" if 0 < seconds <= most else ""

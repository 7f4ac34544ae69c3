"""Values as text: safe to show, short to read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from duetime.clock import MICROS, from_micros
from duetime.event import Event, State

__all__ = [
    "document",
    "duration",
    "escape",
    "escape_lines",
    "payload_text",
    "relative",
    "stamp",
    "to_json",
]

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def escape(text: str) -> str:
    """Return text without characters that move the cursor, hide or reorder what is shown."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def stamp(moment: datetime) -> str:
    """Return a UTC time in RFC 3339, with as many digits of the second as it has."""
    return moment.isoformat().replace("+00:00", "Z")


def relative(micros: int) -> str:
    """Return a distance from now in µs: "in 14m 3s", "2d 1h ago", "now"."""
    if abs(micros) < 1000:
        return "now"
    return f"in {duration(micros)}" if micros > 0 else f"{duration(-micros)} ago"


def duration(micros: int) -> str:
    """Return a duration in µs with its two largest units: "1h 5m", "3s", "250ms"."""
    if micros < MICROS:
        return f"{micros // 1000}ms"
    seconds = (micros + MICROS // 2) // MICROS
    parts: list[str] = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def to_json(value: Any) -> str:
    """Return one line of JSON in ASCII, so that no character of it can disturb a terminal."""
    return json.dumps(value)


def payload_text(event: Event, *, indent: int | None = None) -> str:
    """Return an event's payload as JSON, or what is wrong with it."""
    try:
        return escape_lines(json.dumps(event.payload, ensure_ascii=False, indent=indent))
    except ValueError:
        return f"(no JSON: {event.row[5][:40]!r})"


def escape_lines(text: str) -> str:
    """Return text of several lines with each of them escaped."""
    return "\n".join(map(escape, text.split("\n")))


def document(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object: all that is known of it."""
    try:
        payload = {"payload": event.payload}
    except ValueError:
        payload = {"payload_error": "no JSON"}
    found: dict[str, Any] = {
        "id": event.id,
        "kind": event.kind,
        "state": event.state.value,
        "due_at": stamp(event.due_at),
        **payload,
        "attempt": event.attempt,
        "failures": event.failures,
        "crashes": event.crashes,
        "created_at": stamp(event.created_at),
        "history": event.history,
    }
    if event.state is State.DEAD:
        died_at = None if event.died_at is None else stamp(from_micros(event.died_at))
        found |= {"died_at": died_at, "reason": event.reason}
    return found

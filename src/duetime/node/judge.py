"""From what a handler returned or raised to what is to be written: pure, without side effects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from duetime import codec
from duetime.clock import MICROS, from_micros, to_micros
from duetime.errors import CorruptPayload
from duetime.event import (
    ATTEMPT,
    CRASHES,
    DUE_AT,
    FAILURES,
    HISTORY,
    PARKING,
    PAYLOAD,
    SHARD,
    TAIL,
    Row,
    history_of,
)
from duetime.outcome import UNCHANGED, Dead, Retry
from duetime.retry import Backoff
from duetime.stores.contract import Death, Move

__all__ = ["Rules", "crashed", "describe", "give_back", "interrupted", "judge", "note", "park"]

_ERROR = 4096  # characters kept of the newest error
_OLD_ERROR = 300  # characters kept of errors before


class Rules(NamedTuple):
    """What judging needs to know of the settings."""

    kept: int  # entries in a history
    max_payload: int  # bytes
    shards: int
    random: Callable[[], float]


def judge(
    row: Row,
    result: Retry | Dead | BaseException,
    backoff: Backoff,
    now: int,
    rules: Rules,
) -> Move | Death:
    """Return what becomes of an event whose attempt did not end as done.

    Anything raised is a failure; Retry counts like one, unless it says otherwise; both are given
    up when the backoff is exhausted. A Retry that cannot be understood is a failure too, never a
    loss.
    """
    failures = row[FAILURES] + 1
    if isinstance(result, Dead):
        reason = _said(result.reason)
        history = note(row[HISTORY], now, row[ATTEMPT], "dead", reason, rules.kept)
        return Death(row, now, _cut(reason), failures, history)
    if isinstance(result, CorruptPayload) and not _is_readable(row):
        history = note(row[HISTORY], now, row[ATTEMPT], "dead", str(result), rules.kept)
        return Death(row, now, str(result), failures, history)
    payload, due, error, tried = row[PAYLOAD], None, None, True
    if isinstance(result, Retry):
        try:
            due = _asked(result, now)
            if result.payload is not UNCHANGED:
                payload = codec.encode(result.payload, rules.max_payload)
            error = None if result.error is None else _said(result.error)
            tried = bool(result.counted)
        except Exception as fault:  # noqa: BLE001 - a field of the wrong type fails in any way
            error = describe(fault)
    else:
        error = describe(result)
    failures -= not tried
    outcome = "retry" if isinstance(result, Retry) else "failed"
    entries = row[HISTORY]
    if tried or error is not None:
        entries = note(entries, now, row[ATTEMPT], outcome, error, rules.kept)
    if tried and backoff.exhausted(failures):
        reason = f"given up after {failures} attempts" + (f": {error}" if error else "")
        return Death(row, now, _cut(reason), failures, entries)
    if due is None:
        due = now + backoff.delay(failures, rules.random)
    return Move(
        row, _home(row, rules.shards), due, payload, row[ATTEMPT], failures, row[CRASHES], entries
    )


def _is_readable(row: Row) -> bool:
    """Tell whether a payload is JSON: of a batch, only the corrupt ones must die of it."""
    try:
        codec.decode(row[PAYLOAD])
    except ValueError:
        return False
    return True


def park(row: Row) -> Move:
    """Return the move of an event whose kind nobody here knows: no attempt, no failure."""
    return _move(row, PARKING, row[DUE_AT])


def give_back(row: Row) -> Move:
    """Return the move of an event that was claimed and not begun, back to its own place."""
    return _move(row, row[SHARD], row[DUE_AT])


def interrupted(row: Row) -> Move:
    """Return the move of an event whose handler was stopped: the attempt counts, no failure."""
    return _move(row, row[SHARD], row[DUE_AT])._replace(attempt=row[ATTEMPT])


def _move(row: Row, shard: int, due_at: int) -> Move:
    """Return a move that takes the attempt back and changes nothing else."""
    return Move(
        row,
        shard,
        due_at,
        row[PAYLOAD],
        row[ATTEMPT] - 1,
        row[FAILURES],
        row[CRASHES],
        row[HISTORY],
    )


def crashed(row: Row, now: int, kept: int) -> Death:
    """Return the death of an event whose attempts ended too often with their node's death."""
    reason = f"its node died during {row[CRASHES]} attempts: it may be what kills them"
    history = note(row[HISTORY], now, row[ATTEMPT], "crashed", reason, kept)
    return Death(row, now, reason, row[FAILURES], history)


def note(
    history: bytes | None, now: int, attempt: int, outcome: str, error: str | None, kept: int
) -> bytes:
    """Return the history with one more entry; only the newest `kept` stay, old errors cut."""
    entries = history_of(history)
    for entry in entries:
        if "error" in entry:
            entry["error"] = str(entry["error"])[:_OLD_ERROR]
    newest: dict[str, Any] = {
        "at": from_micros(now).isoformat(),
        "attempt": attempt,
        "outcome": outcome,
    }
    if error is not None:
        newest["error"] = _cut(error)
    return msgspec.json.encode([*entries, newest][-kept:] if kept else [])


def describe(error: BaseException) -> str:
    """Return an exception as a text, whatever its own methods do."""
    try:
        text = str(error)
    except BaseException as other:  # noqa: BLE001 - even a broken __str__ must not stop a node
        text = f"(its text cannot be had: {type(other).__name__})"
    return _cut(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _said(what: object) -> str:
    """Return what a handler gave as a text: nothing checks that it is one."""
    if isinstance(what, str):
        return what
    try:
        return describe(what) if isinstance(what, BaseException) else str(what)
    except Exception:  # noqa: BLE001 - as in describe
        return f"(a {type(what).__name__} without text)"


def _cut(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _ERROR else text[:_ERROR] + "…"


def _home(row: Row, shards: int) -> int:
    """Return the shard to go back to: a parked event that ran gets one again."""
    return row[SHARD] if row[SHARD] != PARKING else row[TAIL] % shards


def _asked(retry: Retry, now: int) -> int | None:
    if retry.at is not None and retry.after is not None:
        raise ValueError("Retry takes at= or after=, not both")
    if retry.at is not None:
        if retry.at.tzinfo is None:
            raise ValueError("Retry(at=…) needs an aware datetime")
        return max(now, to_micros(retry.at))
    if retry.after is None:
        return None
    after = retry.after
    seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
    if not 0 <= seconds < 100 * 366 * 86400:
        raise ValueError(f"Retry(after={after}) must be between 0 and 100 years")
    return now - int(-seconds * MICROS // 1)

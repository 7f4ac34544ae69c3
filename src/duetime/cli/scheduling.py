"""The command `schedule`: one event from arguments, or many from lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from duetime import codec, inputs
from duetime.cli.choices import Times, times
from duetime.cli.faults import OK, Refused
from duetime.cli.session import Session, common
from duetime.cli.text import document, relative, stamp
from duetime.config import Settings
from duetime.errors import InvalidInput
from duetime.event import CREATED_AT, DUE_AT, Event

__all__ = ["schedule"]

_FIELDS = ("kind", "payload", "at", "after", "id")
Wish = dict[str, Any]


@click.command(short_help="Schedule an event, or many.")
@click.argument("kind", required=False)
@click.argument("payload", required=False)
@common
@times
@click.option("--id", "event_id", metavar="ID", help="A name of your own, unique while it is kept.")
@click.option("--payload-file", metavar="FILE", help="Read the payload from a file, or stdin (-).")
@click.option("--lines", metavar="FILE", help="Schedule many: a file of JSON lines, or stdin (-).")
def schedule(
    session: Session,
    kind: str | None,
    payload: str | None,
    when: Times,
    event_id: str | None,
    payload_file: str | None,
    lines: str | None,
) -> int:
    """Schedule an event of KIND with a JSON PAYLOAD, due now, --at a time or --after a delay.

    Prints its id. The same --id again changes nothing and prints the same.

    With --lines each line is an object {"kind", "payload", "at" or "after", "id"}: `at` in
    RFC 3339, `after` as on the command line or a number of seconds. All lines are checked before
    anything is written.
    """
    context = click.get_current_context()
    if lines is not None:
        if kind or payload or when or event_id or payload_file:
            raise click.UsageError("Give --lines alone: the lines say the rest.", context)
        return _schedule_lines(session, lines)
    if kind is None:
        raise click.UsageError("Give a KIND, or --lines.", context)
    if payload is not None and payload_file is not None:
        raise click.UsageError("Give PAYLOAD or --payload-file, not both.", context)
    text = payload if payload_file is None else _read(payload_file)
    value = None if text is None else _loads(text, "payload")
    event = session.scheduler.schedule(kind, value, id=event_id, **when)
    _tell(session, event)
    return OK


def _tell(session: Session, event: Event) -> None:
    if session.output.as_json:
        session.output.document(document(event) | {"created": event.created})
        return
    session.output.line(event.id)
    since = event.row[CREATED_AT] if event.created else session.now()
    due = f"due {relative(event.row[DUE_AT] - since)} ({stamp(event.due_at)})"
    if event.created:
        session.output.say(f"scheduled {event.kind}, {due}", style="green")
    else:
        text = f"exists already: {event.kind}, {event.state.value}, {due}; nothing was changed"
        session.output.say(text, style="yellow")


def _schedule_lines(session: Session, name: str) -> int:
    source = "stdin" if name == "-" else name
    now = session.now()
    wishes = []
    for number, line in enumerate(_read(name).split("\n"), 1):
        if not line.strip():
            continue
        try:
            wishes.append(_wish(line, now, session.settings))
        except InvalidInput as error:
            text = f"{source}:{number}: {error} Nothing was scheduled."
            raise Refused(text, code=error.code, field=error.field) from None
    events = session.scheduler.schedule_many(wishes)
    for event in events:
        if session.output.as_json:
            session.output.document(document(event) | {"created": event.created})
        else:
            session.output.line(event.id)
    new = sum(event.created for event in events)
    existed = f", {len(events) - new:,} existed already" if new < len(events) else ""
    session.output.say(f"scheduled {new:,}{existed}", style="green")
    return OK


def _wish(line: str, now: int, settings: Settings) -> Wish:
    """Return one line as arguments of `schedule`, checked in full. Raises InvalidInput."""
    wish = _loads(line, "line")
    if not isinstance(wish, dict):
        raise InvalidInput("A line must be a JSON object.", code="body_type", field="line")
    for name in wish:
        if name not in _FIELDS:
            text = f"There is no field {name[:40]!a}: {', '.join(_FIELDS)}."
            raise InvalidInput(text, code="field_unknown", field=name)
    if "kind" not in wish:
        raise InvalidInput("The field kind is missing.", code="kind_invalid", field="kind")
    checked: Wish = {"kind": inputs.kind(wish["kind"]), "payload": wish.get("payload")}
    if wish.get("id") is not None:
        checked["id"] = inputs.event_id(wish["id"])
    if wish.get("at") is not None:
        checked["at"] = _text(wish["at"], "at", inputs.parse_moment)
    if isinstance(wish.get("after"), str):
        checked["after"] = inputs.parse_delay(wish["after"])
    elif wish.get("after") is not None:
        checked["after"] = wish["after"]
    inputs.due(checked.get("at"), checked.get("after"), now, settings)
    codec.encode(checked["payload"], settings.max_payload)
    return checked


def _text(value: Any, field: str, parse: Callable[[str, str], Any]) -> Any:
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string (RFC 3339).", code="due_type", field=field)
    return parse(value, field)


def _read(name: str) -> str:
    """Return all of a file, or of stdin. Raises Refused where it is not UTF-8."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        source = "stdin" if name == "-" else name
        line = data.count(b"\n", 0, error.start) + 1
        raise Refused(f"{source}:{line}: this is not UTF-8.", code="json_invalid") from None


def _loads(text: str, field: str) -> Any:
    """Read JSON as strictly as the store keeps it: no double keys, no NaN."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except json.JSONDecodeError as error:
        hint = ""
        if field == "payload":
            hint = " A text is written with quotes inside quotes: '\"text\"'."
        raise InvalidInput(
            f"The {field} is no JSON: {error.msg} (column {error.colno}).{hint}",
            code="json_invalid",
            field=field,
        ) from None
    except RecursionError:
        raise InvalidInput(
            f"The {field} is nested too deeply.", code="payload_depth", field=field
        ) from None
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"The {field} holds a number that is too long.", code="payload_number", field=field
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(
            f"The key {double[:40]!a} stands there twice.",
            code="json_duplicate_key",
            field="payload",
        )
    return values


def _constant(name: str) -> float:
    raise InvalidInput(f"{name} is no JSON.", code="payload_nan", field="payload")

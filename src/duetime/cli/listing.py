"""Commands that show events: list, show, dead."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from duetime import inputs
from duetime.cli.choices import filters, found
from duetime.cli.faults import OK, Refused
from duetime.cli.output import Column
from duetime.cli.session import Session, common
from duetime.cli.text import document, escape, payload_text, relative, stamp
from duetime.clock import from_micros, to_micros
from duetime.event import DUE_AT, Event, Row, State, place_of

__all__ = ["dead", "list_", "show"]

_COLUMNS = (
    Column("ID"),
    Column("KIND", most=25),
    Column("DUE"),
    Column("STATE"),
    Column("TRY", right=True),
    Column("PAYLOAD", least=100, rest=True),
)
_DEAD_COLUMNS = (
    Column("ID"),
    Column("KIND", most=25),
    Column("DIED"),
    Column("FAILED", right=True, least=90),
    Column("CRASHED", right=True, least=110),
    Column("REASON", rest=True),
)

_limit = click.option("--limit", type=int, default=50, show_default=True, help="At most so many.")
_all = click.option("--all", "everything", is_flag=True, help="As many as there are.")
_after = click.option("--from", "begin", metavar="ID", help="Go on behind this event.")


@click.command("list")
@common
@filters(states=True)
@_limit
@_all
@_after
def list_(
    session: Session, wanted: dict[str, Any], limit: int, begin: str | None, *, everything: bool
) -> int:
    """List waiting events, soonest first.

    Into a pipe: id, kind, due time, state, attempt, payload, separated by tabs. With --json one
    event per line. Dead events are listed by --state dead, or `duetime dead`.
    """
    dying = wanted.get("state") is State.DEAD
    return _list(session, wanted, limit, begin, everything=everything, dying=dying)


@click.command(short_help="List events that were given up.")
@common
@filters(states=False)
@_limit
@_all
@_after
def dead(
    session: Session, wanted: dict[str, Any], limit: int, begin: str | None, *, everything: bool
) -> int:
    """List events that were given up, the earliest death first.

    Into a pipe: id, kind, time of death, failures, crashes, reason, separated by tabs.
    """
    wanted["state"] = State.DEAD
    return _list(session, wanted, limit, begin, everything=everything, dying=True)


def _list(
    session: Session,
    wanted: dict[str, Any],
    limit: int,
    begin: str | None,
    *,
    everything: bool,
    dying: bool,
) -> int:
    output, now = session.output, session.now()
    inputs.page(limit)
    events = found(session, wanted, None if begin is None else _cursor(session, begin))
    count, last = 0, ""

    def seen() -> Iterator[Event]:
        nonlocal count, last
        for event in events if everything else islice(events, limit):
            count, last = count + 1, event.id
            yield event

    if output.as_json:
        for event in seen():
            output.document(document(event))
        return OK
    if dying:
        output.table(_DEAD_COLUMNS, (_dead_cells(event, now) for event in seen()))
    else:
        output.table(_COLUMNS, (_cells(event, now) for event in seen()))
    if not count:
        output.say("No events.")
    elif count == limit and not everything:
        output.say(f"There may be more: --from {last}, --limit or --all.")
    return OK


def _cells(event: Event, now: int) -> tuple[Any, ...]:
    due = (stamp(event.due_at), relative(event.row[DUE_AT] - now))
    return event.id, event.kind, due, event.state.value, event.attempt, payload_text(event)


def _dead_cells(event: Event, now: int) -> tuple[Any, ...]:
    died_at = event.died_at or event.row[DUE_AT]
    died = (stamp(from_micros(died_at)), relative(died_at - now))
    return event.id, event.kind, died, event.failures, event.crashes, event.reason or ""


def _cursor(session: Session, begin: str) -> Event:
    """Return the event to go on behind; one that is gone has left its place in a made id."""
    event = session.scheduler.get(inputs.known_id(begin))
    place = place_of(begin)
    if event is None and place is not None:
        row: Row = (place.due_at, place.tail, place.shard, None, "", b"null", 0, 0, 0, 0, 0, None)
        event = Event(row)
    if event is None:
        raise Refused(f"There is no event {escape(begin)} to go on behind.", code="event_unknown")
    return event


@click.command()
@click.argument("event_id", metavar="ID")
@common
def show(session: Session, event_id: str) -> int:
    """Show all that is known of one event."""
    event = session.scheduler.get(inputs.known_id(event_id))
    if event is None:
        text = f"There is no event {event_id}, or it is already done or cancelled."
        raise Refused(text, code="event_unknown")
    if session.output.as_json:
        session.output.document(document(event))
        return OK
    now = session.now()
    facts: list[tuple[str, str]] = [
        ("id", event.id),
        ("kind", event.kind),
        ("state", event.state.value),
        ("due", _when(event.row[DUE_AT], now)),
        ("created", _when(to_micros(event.created_at), now)),
        ("attempts", str(event.attempt)),
        ("failures", str(event.failures)),
        ("crashes", str(event.crashes)),
    ]
    if event.state is State.DEAD:
        facts += [("died", _when(event.died_at or 0, now)), ("reason", event.reason or "")]
    facts.append(("payload", payload_text(event)))
    session.output.facts(facts)
    _show_history(session, event)
    return OK


def _show_history(session: Session, event: Event) -> None:
    past = [_past(note) for note in _history(event)]
    if past and session.output.terminal:
        columns = ("TRY", "AT", "OUTCOME")
        error = Column("ERROR", rest=True, wraps=True)
        click.echo()
        session.output.table((*map(Column, columns), error), past)
    elif past:
        session.output.table((), [("history", *entry) for entry in past])


def _when(micros: int, now: int) -> str:
    return f"{stamp(from_micros(micros))} ({relative(micros - now)})"


def _history(event: Event) -> list[dict[str, Any]]:
    try:
        return event.history
    except ValueError:
        return []


def _past(note: dict[str, Any]) -> tuple[Any, ...]:
    at = str(note.get("at", "")).replace("+00:00", "Z")
    return (note.get("attempt", ""), at, note.get("outcome", ""), note.get("error", ""))

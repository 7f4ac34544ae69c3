"""Which events a command is about: times, filters, ids, and the question before many change."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import click

from duetime import inputs
from duetime.cli.faults import Refused
from duetime.cli.session import Session
from duetime.clock import from_micros
from duetime.errors import InvalidInput
from duetime.event import Event, State

__all__ = ["Times", "confirm", "filters", "found", "given_ids", "times"]

F = TypeVar("F", bound=Callable[..., Any])
PAGE = 1000
_DELAY = re.compile(r"[0-9.]+[a-z]*")

Times = dict[str, Any]  # either "at", a datetime, or "after", a timedelta; or neither


def times(function: F) -> F:
    """Give a command --at and --after, and the one that was used as `when`."""

    @click.option("--at", metavar="TIME", help="RFC 3339 with offset: 2027-01-31T09:00:00+01:00.")
    @click.option("--after", metavar="DELAY", help="From now: 90, 90s, 15m, 2h, 1d, 250ms.")
    @functools.wraps(function)
    def wrapper(*args: Any, at: str | None, after: str | None, **rest: Any) -> Any:
        if at is not None and after is not None:
            raise click.UsageError("Give --at or --after, not both.", click.get_current_context())
        when: Times = {}
        if at is not None:
            when["at"] = inputs.parse_moment(at)
        if after is not None:
            when["after"] = inputs.parse_delay(after)
        return function(*args, when=when, **rest)

    return wrapper  # type: ignore[return-value]  # click replaces the signature anyway


def filters(*, states: bool) -> Callable[[F], F]:
    """Give a command --kind, --due-from, --due-until and, where it matters, --state."""

    def decorate(function: F) -> F:
        options = [
            click.option("--kind", metavar="KIND", help="Only events of this kind."),
            click.option("--due-from", metavar="TIME", help="Due then or later: a time or delay."),
            click.option("--due-until", metavar="TIME", help="Due before: a time or delay."),
        ]
        if states:
            choice = click.Choice([state.value for state in State])
            options.insert(1, click.option("--state", type=choice, help="Only in this state."))

        @functools.wraps(function)
        def wrapper(
            session: Session,
            *,
            kind: str | None,
            due_from: str | None,
            due_until: str | None,
            state: str | None = None,
            **rest: Any,
        ) -> Any:
            given = {
                "kind": None if kind is None else inputs.kind(kind),
                "state": None if state is None else State(state),
                "due_from": _moment(session, due_from, "--due-from"),
                "due_until": _moment(session, due_until, "--due-until"),
            }
            wanted = {name: value for name, value in given.items() if value is not None}
            return function(session, wanted=wanted, **rest)

        for option in reversed(options):
            wrapper = option(wrapper)
        return wrapper  # type: ignore[return-value]  # click replaces the signature anyway

    return decorate


def _moment(session: Session, text: str | None, field: str) -> datetime | None:
    """Read a time, or a delay counted from the store's now."""
    if text is None:
        return None
    if _DELAY.fullmatch(text):
        return from_micros(session.now()) + inputs.parse_delay(text, field)
    return inputs.parse_moment(text, field)


def found(session: Session, wanted: dict[str, Any], after: Event | None = None) -> Iterator[Event]:
    """Yield all events that a filter finds, page by page."""
    while True:
        page = session.scheduler.find(**wanted, limit=PAGE, after=after)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


def given_ids(ids: tuple[str, ...]) -> list[str]:
    """Return checked ids, each once; a single "-" reads them from stdin, one per line.

    Of a line only the first word counts, so that what `duetime list` prints can be piped in.
    """
    if ids == ("-",):
        lines = sys.stdin.buffer.read().decode(errors="replace").splitlines()
        words = [(n, line.split()[0]) for n, line in enumerate(lines, 1) if line.strip()]
        for number, word in words:
            try:
                inputs.known_id(word)
            except InvalidInput as error:
                raise Refused(f"stdin:{number}: {error}", code=error.code) from None
        return list(dict.fromkeys(word for _, word in words))
    return list(dict.fromkeys(map(inputs.known_id, ids)))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before many events are changed; where nobody can answer, --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        text = f"{question} There is no terminal to ask at: confirm with --yes."
        raise click.UsageError(text, click.get_current_context())
    click.confirm(question, abort=True, err=True)

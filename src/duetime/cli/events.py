"""Commands that change events: cancel, reschedule, fire-now, redrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import click

from duetime.cli.choices import PAGE, Times, confirm, filters, found, given_ids, times
from duetime.cli.faults import OK, REFUSED
from duetime.cli.session import Session, common
from duetime.stores.contract import Answer

__all__ = ["cancel", "fire_now", "redrive", "reschedule"]

_REASONS = {
    Answer.IN_FLIGHT: "it is claimed or running: too late",
    Answer.UNKNOWN: "there is no such event, or it is already done or cancelled",
    Answer.DEAD: "it was given up: see `duetime show`, or send it round again with `redrive`",
    Answer.SCHEDULED: "it is not dead but waiting",
}
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command(short_help="Take events back.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@common
@filters(states=True)
@_yes
def cancel(session: Session, ids: tuple[str, ...], wanted: dict[str, Any], *, yes: bool) -> int:
    """Take events back: by id, ids on stdin (-), or by filter.

    An event that is answered "cancelled" will not start. Exit code 1 if any was not cancelled.
    """
    many = session.scheduler.cancel_many
    return _change(session, ids, wanted, many, Answer.CANCELLED, "Cancel", yes=yes)


@click.command(short_help="Send dead events round again.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@common
@filters(states=False)
@click.option("--all", "everything", is_flag=True, help="All dead events.")
@_yes
def redrive(
    session: Session, ids: tuple[str, ...], wanted: dict[str, Any], *, everything: bool, yes: bool
) -> int:
    """Send dead events round again: by id, ids on stdin (-), by filter, or all of them.

    They keep their ids and history; their count of failures starts again at 0.
    """
    if everything and (ids or wanted):
        raise click.UsageError("Give --all alone.", click.get_current_context())
    if wanted or everything:
        wanted["state"] = "dead"
    many = session.scheduler.redrive_many
    return _change(session, ids, wanted, many, Answer.REDRIVEN, "Redrive", yes=yes)


@click.command(short_help="Move an event to another time.")
@click.argument("event_id", metavar="ID")
@common
@times
def reschedule(session: Session, event_id: str, when: Times) -> int:
    """Move an event to another time; it will not start at the old one."""
    if not when:
        raise click.UsageError("Give --at or --after.", click.get_current_context())
    ids = given_ids((event_id,))
    answers = [session.scheduler.reschedule(ids[0], **when)]
    return _answer(session, ids, answers, Answer.RESCHEDULED)


@click.command("fire-now")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@common
def fire_now(session: Session, ids: tuple[str, ...]) -> int:
    """Make events due at once."""
    known = given_ids(ids)
    answers = [session.scheduler.fire_now(event_id) for event_id in known]
    return _answer(session, known, answers, Answer.RESCHEDULED)


def _change(
    session: Session,
    ids: tuple[str, ...],
    wanted: dict[str, Any],
    change: Callable[[list[str]], Sequence[Answer]],
    good: Answer,
    verb: str,
    *,
    yes: bool,
) -> int:
    if bool(ids) == bool(wanted):
        text = "Give ids or a filter, not both." if ids else "Give ids or a filter."
        raise click.UsageError(text, click.get_current_context())
    if ids:
        known = given_ids(ids)
        return _answer(session, known, _in_pages(change, known), good)
    known = [event.id for event in found(session, wanted)]
    if not known:
        session.output.say("No event matches.")
        if session.output.as_json:
            session.output.document({"matched": 0})
        return OK
    plural = "" if len(known) == 1 else "s"
    confirm(f"{verb} {len(known):,} event{plural}?", yes=yes)
    answers = _in_pages(change, known)
    counts = Counter(answer.value for answer in answers)
    if session.output.as_json:
        session.output.document({"matched": len(known), **counts})
    else:
        for name, count in counts.most_common():
            session.output.line(name, count)
    return OK if set(answers) == {good} else REFUSED


def _in_pages(change: Callable[[list[str]], Sequence[Answer]], ids: list[str]) -> list[Answer]:
    return [a for i in range(0, len(ids), PAGE) for a in change(ids[i : i + PAGE])]


def _answer(session: Session, ids: list[str], answers: Sequence[Answer], good: Answer) -> int:
    """Print each answer; explain those that were not hoped for."""
    for event_id, answer in zip(ids, answers, strict=True):
        if session.output.as_json:
            session.output.document({"id": event_id, "answer": answer.value})
        else:
            session.output.line(event_id, answer.value)
    for answer in dict.fromkeys(answers):
        if answer is not good and answer in _REASONS:
            count = f" ({answers.count(answer):,} times)" if len(answers) > 1 else ""
            session.output.say(f"{answer.value}{count}: {_REASONS[answer]}", style="yellow")
    return OK if all(answer is good for answer in answers) else REFUSED

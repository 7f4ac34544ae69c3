"""Commands about the scheduler itself: stats, migrate, check, config, version."""

from __future__ import annotations

import platform
from importlib import metadata

import click
import msgspec

from duetime.cli.faults import OK, REFUSED, SCHEMA
from duetime.cli.output import Column
from duetime.cli.session import Session, common
from duetime.config import redact, trace

__all__ = ["check", "config", "migrate", "stats", "version"]

_STATES = ("scheduled", "claimed", "parked", "dead")


@click.command()
@common
def stats(session: Session) -> int:
    """Count the events in each state, by kind.

    Into a pipe: kind, scheduled, claimed, parked, dead, separated by tabs.
    """
    counts = session.scheduler.counts()
    by_state = {state: dict(getattr(counts, state)) for state in _STATES}
    totals = {state: sum(by_state[state].values()) for state in _STATES}
    if session.output.as_json:
        session.output.document(by_state | {"overdue": counts.overdue, "total": totals})
        return OK
    kinds = sorted({kind for state in _STATES for kind in by_state[state]})
    rows = [(kind, *(by_state[state].get(kind, 0) for state in _STATES)) for kind in kinds]
    columns = [Column("KIND"), *(Column(state.upper(), right=True) for state in _STATES)]
    shown = [(row[0], *((n, f"{n:,}" if n else "-") for n in row[1:])) for row in rows]
    if session.output.terminal and len(rows) > 1:
        shown.append(("all", *((n, f"{n:,}" if n else "-") for n in totals.values())))
    session.output.table(columns, shown)
    if not rows:
        session.output.say("No events.")
    if counts.overdue:
        text = f"{counts.overdue:,} scheduled events are overdue: is a node running?"
        session.output.say(text, style="yellow")
    return OK


@click.command()
@common
def migrate(session: Session) -> int:
    """Make the tables, or bring them up to date."""
    steps = session.scheduler.store.migrate()
    if session.output.as_json:
        session.output.document({"steps": steps})
        return OK
    for step in steps:
        session.output.line(step)
    session.output.say(f"Steps taken: {len(steps)}." if steps else "All is up to date.")
    return OK


@click.command(short_help="Look at the database and its tables.")
@common
def check(session: Session) -> int:
    """Look at the database, its settings, schema and integrity; change nothing.

    Exit code 1 if an error is found, 4 if it is the schema.
    """
    findings = session.scheduler.store.check()
    if session.output.as_json:
        session.output.document([finding._asdict() for finding in findings])
    else:
        columns = (Column("LEVEL"), Column("NAME"), Column("FOUND", rest=True, wraps=True))
        session.output.table(columns, findings)
    errors = {finding.name for finding in findings if finding.level == "error"}
    if "schema" in errors:
        return SCHEMA
    return REFUSED if errors else OK


@click.command(short_help="Show every setting and its origin.")
@common
def config(session: Session) -> int:
    """Show every setting and where it comes from; passwords are hidden.

    Into a pipe: name, value, origin, separated by tabs.
    """
    settings, origins = trace(session.config, **session.arguments)
    values = msgspec.to_builtins(settings)
    values["store"] = redact(values["store"])
    values["webhook_secrets"] = values["webhook_secrets"] and "***"
    if session.output.as_json:
        session.output.document(
            {name: {"value": value, "from": origins[name]} for name, value in values.items()}
        )
        return OK
    columns = (Column("SETTING"), Column("VALUE", most=50), Column("FROM", rest=True))
    rows = [(name, _plain(value), origins[name]) for name, value in values.items()]
    session.output.table(columns, rows)
    return OK


def _plain(value: object) -> tuple[str, str]:
    """Return a value for programs and for people."""
    if isinstance(value, bool):
        return str(value).lower(), str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}", f"{value:,.15g}"
    return str(value), f"{value:,}" if isinstance(value, int) else str(value)


@click.command()
@common
def version(session: Session) -> int:
    """Show the versions of Duetime, Python and SQLite."""
    import apsw  # noqa: PLC0415 - only this command needs it without a store

    found = {
        "duetime": _installed(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "apsw": apsw.apsw_version(),
    }
    if session.output.as_json:
        session.output.document(found)
    else:
        session.output.facts(list(found.items()))
    return OK


def _installed() -> str:
    try:
        return metadata.version("duetime")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"

"""What `duetime check` looks at on PostgreSQL: version, durability, tables, rights, clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from duetime.clock import MICROS, Clock
from duetime.errors import SchemaError
from duetime.stores.contract import Finding
from duetime.stores.postgres.arrays import texts
from duetime.stores.postgres.connection import OLDEST
from duetime.stores.postgres.session import Session

__all__ = [
    "Oldest",
    "Settings",
    "Table",
    "clock_offset",
    "durability",
    "look",
    "oldest",
    "server",
    "tables",
]

_TABLES = ("events", "names", "dead", "nodes", "meta", "version")
_WARN, _REFUSE = 5 * MICROS, 300 * MICROS  # how far off a clock may be
_NO_AUTOVACUUM = re.compile(r"(?<!\.)\bautovacuum_enabled=(off|false|no|0)\b", re.IGNORECASE)
_LONG = 60 * MICROS  # how long a transaction may be open without a word


class Settings(NamedTuple):
    """What the server says of itself."""

    version: str
    number: int
    encoding: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    autovacuum: str
    read_only: str
    is_replica: bool


class Table(NamedTuple):
    """One of our tables."""

    name: str
    persistence: str  # "p" is the one that survives a crash
    options: str
    allowed: bool  # whether this role may read and write it


class Oldest(NamedTuple):
    """Whoever has been in a transaction for longest."""

    pid: int
    user: str
    program: str
    state: str
    since: int  # µs since 1970 UTC


def look(
    db: Session,
    sql: Mapping[str, bytes],
    prefix: str,
    verify: Callable[[Session], None],
    clock: Clock,
) -> list[Finding]:
    """Return what is to be said about this server, the good things too."""
    settings = Settings(*db.rows(sql["settings"])[0])
    names = [prefix + name for name in _TABLES]
    before = clock.wall()
    now = int(db.rows(sql["clock"])[0][0])
    return [
        *server(settings),
        *durability(settings),
        *tables([Table(*each) for each in db.rows(sql["tables"], {"tables": texts(names)})]),
        clock_offset(now - (before + clock.wall()) // 2),
        oldest([Oldest(*each) for each in db.rows(sql["oldest"])], now),
        _schema(db, verify),
    ]


def server(settings: Settings) -> Iterator[Finding]:
    """Judge version, encoding, and whether the server takes writes."""
    version = f"PostgreSQL {settings.version}"
    if settings.number < OLDEST * 10_000:
        text = f"{version} is too old: it must be {OLDEST} or newer."
        yield Finding("error", "postgres_version", text)
    else:
        yield Finding("ok", "postgres_version", f"{version}.")
    if settings.encoding != "UTF8":
        text = f"The database's encoding is {settings.encoding}: make one with UTF8."
        yield Finding("error", "encoding", text)
    else:
        yield Finding("ok", "encoding", "The database's encoding is UTF8.")
    if settings.is_replica:
        text = (
            "This server is a read replica: claims are decided on the primary alone. Give its "
            "address."
        )
        yield Finding("error", "read_only", text)
    elif settings.read_only == "on":
        text = "default_transaction_read_only is on: nothing can be stored. Set it to off."
        yield Finding("error", "read_only", text)
    else:
        yield Finding("ok", "read_only", "The server takes writes.")


def durability(settings: Settings) -> Iterator[Finding]:
    """Judge whether a commit is on disk when it is acknowledged, and dead rows are cleared."""
    lost = {
        "fsync": "a crash of the machine may destroy the whole database",
        "full_page_writes": "a crash of the machine may damage tables beyond repair",
        "synchronous_commit": "a crash of the server may lose the newest events, though they were "
        "acknowledged",
    }
    off = [name for name in lost if getattr(settings, name) == "off"]
    for name in off:
        yield Finding("warning", name, f"{name} is off: {lost[name]}. Set it to on.")
    if not off:
        yield Finding("ok", "durability", "Every commit is flushed before it is acknowledged.")
    if settings.autovacuum == "off":
        text = "autovacuum is off: claims get slower with every event. Set it to on."
        yield Finding("warning", "autovacuum", text)
    else:
        yield Finding("ok", "autovacuum", "autovacuum is on.")


def tables(found: Sequence[Table]) -> Iterator[Finding]:
    """Judge what may be done with our tables, and what was set for them."""
    if not found:
        return
    denied = [table.name for table in found if not table.allowed]
    if denied:
        text = f"This role lacks SELECT, INSERT, UPDATE or DELETE on {', '.join(denied)}: GRANT it."
        yield Finding("error", "privileges", text)
    else:
        yield Finding("ok", "privileges", "This role may read and write all tables.")
    unlogged = [table.name for table in found if table.persistence != "p"]
    if unlogged:
        text = f"Unlogged: {', '.join(unlogged)}. A crash empties them: ALTER TABLE … SET LOGGED."
        yield Finding("error", "unlogged", text)
    manual = [table.name for table in found if _NO_AUTOVACUUM.search(table.options)]
    if manual:
        text = f"autovacuum is off for {', '.join(manual)}: RESET (autovacuum_enabled)."
        yield Finding("warning", "table_autovacuum", text)


def clock_offset(micros: int) -> Finding:
    """Judge how far the server's clock is from this machine's."""
    text = f"The server's clock is {micros / MICROS:+.3f} s off this machine's"
    if abs(micros) > _REFUSE:
        return Finding("error", "clock", f"{text}: one of them is wrong.")
    if abs(micros) > _WARN:
        advice = "events fire by the server's. Let both keep time (NTP)."
        return Finding("warning", "clock", f"{text}: {advice}")
    return Finding("ok", "clock", f"{text}.")


def oldest(found: Sequence[Oldest], now: int) -> Finding:
    """Judge the transaction that has been open for longest."""
    for one in found:
        age = now - one.since
        if age > _LONG:
            who = f"process {one.pid} ({one.user or '?'}, {one.program or '?'}, {one.state or '?'})"
            text = (
                f"{who} has been in a transaction for {age // MICROS} s: until it ends, no dead "
                "row can be cleared and claims get slower."
            )
            return Finding("warning", "long_transaction", text)
    return Finding("ok", "long_transaction", "No transaction has been open for long.")


def _schema(db: Session, verify: Callable[[Session], None]) -> Finding:
    try:
        verify(db)
    except SchemaError as error:
        return Finding("error", "schema", str(error))
    return Finding("ok", "schema", "The tables are those of this program.")

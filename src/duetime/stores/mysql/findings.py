"""What `duetime check` looks at on a MySQL or MariaDB server: settings, tables, clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from duetime.clock import MICROS, Clock
from duetime.errors import SchemaError
from duetime.stores.contract import Finding
from duetime.stores.mysql.galera import galera, take_a_look
from duetime.stores.mysql.literals import render
from duetime.stores.mysql.session import Session

__all__ = [
    "Settings",
    "binlog",
    "clock_offset",
    "flush",
    "look",
    "packet",
    "tables",
    "version",
    "writable",
]

_TABLES = ("events", "names", "dead", "nodes", "meta", "version")
_BINARY = ("varbinary", "binary", "blob")
_LEAST_PACKET = 4 << 20
_LITTLE_PACKET = 1 << 20
_WARN, _REFUSE = 5 * MICROS, 300 * MICROS  # how far off a clock may be


class Settings(NamedTuple):
    """What the server says of itself; a setting that it does not have is at its good value."""

    version: str = ""
    innodb_flush_log_at_trx_commit: str = "1"
    sync_binlog: str = "1"
    log_bin: str = "OFF"
    binlog_format: str = "ROW"
    read_only: str = "OFF"
    max_allowed_packet: str = "16777216"
    innodb_read_only: str = "OFF"


def look(
    db: Session,
    sql: Mapping[str, str],
    prefix: str,
    verify: Callable[[Session], None],
    clock: Clock,
) -> list[Finding]:
    """Return what is to be said about this server, the good things too."""
    settings = Settings(**{_text(name): _text(value) for name, value in db.rows(sql["settings"])})
    names = [prefix + name for name in _TABLES]
    made = db.rows(render(sql["engines"], tables=names))
    columns = db.rows(render(sql["columns"], tables=names))
    before = clock.wall()
    now = int(db.rows(sql["clock"])[0][0])
    return [
        version(settings.version),
        flush(settings),
        *binlog(settings),
        writable(settings),
        packet(int(settings.max_allowed_packet)),
        *galera(take_a_look(sql, clock)(db).said),
        *tables([(_text(a), _text(b), _text(c)) for a, b, c in made]),
        *_columns([(_text(a), _text(b), _text(c)) for a, b, c in columns]),
        clock_offset(now - (before + clock.wall()) // 2),
        _schema(db, verify),
    ]


def version(text: str) -> Finding:
    """Judge the version of the server."""
    mariadb = "mariadb" in text.lower()
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text.removeprefix("5.5.5-"))
    number = tuple(map(int, found.groups())) if found else (0, 0, 0)
    least = (10, 6, 0) if mariadb else (8, 0, 4)
    product = "MariaDB" if mariadb else "MySQL"
    if number < least:
        wanted = ".".join(map(str, least))
        return Finding(
            "error", "mysql_version", f"{product} {text} is too old: it must be {wanted} or newer."
        )
    return Finding("ok", "mysql_version", f"{product} {text}.")


def flush(settings: Settings) -> Finding:
    """Judge whether a commit is on disk when it is acknowledged."""
    value = settings.innodb_flush_log_at_trx_commit
    if value == "1":
        return Finding("ok", "innodb_flush", "Every commit is flushed.")
    return Finding(
        "warning",
        "innodb_flush",
        f"innodb_flush_log_at_trx_commit is {value}: a crash of the server may lose the events of "
        "the last second, though they were acknowledged. Set it to 1.",
    )


def binlog(settings: Settings) -> Iterator[Finding]:
    """Judge the binary log, where there is one."""
    if not _is_on(settings.log_bin):
        yield Finding("ok", "binlog", "There is no binary log.")
        return
    if settings.binlog_format.upper() == "STATEMENT":
        yield Finding(
            "error",
            "binlog_format",
            "binlog_format is STATEMENT, which InnoDB refuses in READ COMMITTED: set it to ROW.",
        )
    else:
        yield Finding("ok", "binlog_format", f"binlog_format is {settings.binlog_format}.")
    if settings.sync_binlog != "1":
        text = (
            f"sync_binlog is {settings.sync_binlog}: a power failure may undo acknowledged events, "
            "for the binary log decides what was committed, or its replicas may lack them. Set it "
            "to 1."
        )
        yield Finding("warning", "sync_binlog", text)
    else:
        yield Finding("ok", "sync_binlog", "The binary log is flushed with every commit.")


def writable(settings: Settings) -> Finding:
    """Judge whether this is a replica or another server that takes no writes."""
    if _is_on(settings.read_only) or _is_on(settings.innodb_read_only):
        return Finding(
            "error",
            "read_only",
            "This server is read-only, a replica perhaps: claims are decided on the primary alone. "
            "Give its address.",
        )
    return Finding("ok", "read_only", "The server takes writes.")


def packet(value: int) -> Finding:
    """Judge how large an event can be."""
    size = f"max_allowed_packet is {value / 2**20:g} MiB"
    if value < _LITTLE_PACKET:
        text = f"{size}: events of half of that cannot be stored. Set it to 16 MiB or more."
        return Finding("error", "max_allowed_packet", text)
    if value < _LEAST_PACKET:
        text = f"{size}: large batches are cut into small ones. Set it to 16 MiB or more."
        return Finding("warning", "max_allowed_packet", text)
    return Finding("ok", "max_allowed_packet", f"{size}.")


def tables(made: list[tuple[str, str, str]]) -> Iterator[Finding]:
    """Judge engine and character set of each (table, engine, collation)."""
    foreign = [f"{name} ({engine})" for name, engine, _ in made if engine.lower() != "innodb"]
    if foreign:
        text = (
            f"Not InnoDB: {', '.join(foreign)}. No other engine keeps a commit or a lock: "
            "ALTER TABLE … ENGINE=InnoDB."
        )
        yield Finding("error", "storage_engine", text)
    elif made:
        yield Finding("ok", "storage_engine", "All tables are InnoDB.")
    narrow = [f"{name} ({what})" for name, _, what in made if not what.startswith("utf8mb4")]
    if narrow:
        text = (
            f"Not utf8mb4: {', '.join(narrow)}. Restore the tables' character set: "
            "ALTER TABLE … DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin."
        )
        yield Finding("error", "character_set", text)


def _columns(columns: list[tuple[str, str, str]]) -> Iterator[Finding]:
    """Judge whether ids, kinds and names are compared byte by byte."""
    wrong = [f"{table}.{name}" for table, name, kind in columns if kind.lower() not in _BINARY]
    if wrong:
        text = (
            f"Not compared byte by byte: {', '.join(wrong)}. Ids that look alike would be taken "
            "for one: make these columns VARBINARY again."
        )
        yield Finding("error", "collation", text)
    elif columns:
        yield Finding("ok", "collation", "Ids and kinds are compared byte by byte.")


def clock_offset(micros: int) -> Finding:
    """Judge how far the server's clock is from this machine's."""
    text = f"The server's clock is {micros / MICROS:+.3f} s off this machine's"
    if abs(micros) > _REFUSE:
        return Finding("error", "clock", f"{text}: one of them is wrong.")
    if abs(micros) > _WARN:
        advice = "events fire by the server's. Let both keep time (NTP)."
        return Finding("warning", "clock", f"{text}: {advice}")
    return Finding("ok", "clock", f"{text}.")


def _schema(db: Session, verify: Callable[[Session], None]) -> Finding:
    try:
        verify(db)
    except SchemaError as error:
        return Finding("error", "schema", str(error))
    return Finding("ok", "schema", "The tables are those of this program.")


def _is_on(value: str) -> bool:
    """Tell whether a switch is on; read_only has more than two positions on some servers."""
    return value.upper() not in ("OFF", "0", "")


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""

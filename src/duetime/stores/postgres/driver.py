"""psycopg as this store needs it: how to connect, how long to wait, and what each error means."""

from __future__ import annotations

import re
import select
from collections.abc import Generator
from enum import Enum
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, TransactionStatus

from duetime.clock import SystemClock
from duetime.store_url import StoreUrl
from duetime.stores.postgres.arrays import register

__all__ = [
    "LIMITS",
    "PLANNER",
    "Link",
    "TookTooLong",
    "Verdict",
    "connect",
    "has_ctid",
    "is_lost",
    "is_stale",
    "judge",
    "said",
    "verdict",
    "without_limits",
]

R = TypeVar("R")
_WITHOUT_CTID = re.compile("CockroachDB|-YB-")  # they speak this language over stores of their own
_clock = SystemClock()

# What the server watches over: a lock that is not had soon is given up and asked for again, and a
# transaction whose client is gone ends without waiting for the operating system to notice.
LIMITS = {
    "lock_timeout": "300ms",
    "statement_timeout": "9500ms",
    "idle_in_transaction_session_timeout": "10s",
}
# Whatever the planner believes of tables that fill and empty within seconds, it is to read them in
# the order of their index and to stop at the limit. Left to itself it has read whole tables, and
# sorted all that was due for a thousand rows of it.
PLANNER = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_indexscan": "on",
    "enable_nestloop": "on",
    "jit": "off",
}
_ISOLATION = {"default_transaction_isolation": "read\\ committed"}
_KEEPALIVE: dict[str, str | int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class TookTooLong(psycopg.OperationalError):
    """The server did not answer in time; the connection is of no use any more."""


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits no longer than until `until`, by the boot clock in µs."""

    until = 0

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        """Wait for an answer; TookTooLong when it does not come in time."""
        return super().wait(_bounded(gen, self.until), *args, **kwargs)


def _bounded(gen: Generator[Any, Any, R], until: int) -> Generator[Any, Any, R]:
    """Pass on what a generator waits for, and stop when there was nothing until the end."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and _clock.boot() >= until:
                raise TookTooLong("no answer came in time")
            wanted = gen.send(ready)
    except StopIteration as end:
        value: R = end.value
        return value


def connect(
    url: StoreUrl, *, limits: bool, connect_timeout: float, statement_timeout: float
) -> Link:
    """Connect; with `limits`, these are sent along as start-up options. Raises psycopg.Error."""
    options = dict(
        LIMITS, statement_timeout=f"{int(statement_timeout * 1000)}ms", **PLANNER, **_ISOLATION
    )
    text = " ".join(f"-c {name}={value}" for name, value in options.items())
    login = {"user": url.user, "password": url.password, "options": text if limits else ""}
    hosts, ports = zip(*url.places, strict=True)
    place: dict[str, str | int] = {
        "host": ",".join(hosts),
        "port": ",".join(map(str, ports)),
        "dbname": url.database,
    }
    if url.others:  # the first that takes writes
        place["target_session_attrs"] = "read-write"
    given: dict[str, str | int] = {name: value for name, value in login.items() if value}
    link = Link.connect(
        make_conninfo("", **_KEEPALIVE | given | place | dict(url.options)),
        application_name="duetime",
        client_encoding="UTF8",
        connect_timeout=int(connect_timeout),
        autocommit=True,
        prepare_threshold=None,  # prepared statements do not survive a transaction pooler
    )
    register(link)
    return link


def has_ctid(engine: str) -> bool:
    """Tell from its `version()` whether an engine can say where a row lies."""
    return not _WITHOUT_CTID.search(engine)


def is_stale(link: Link) -> bool:
    """Tell whether a connection was closed, or something came on it, while it was idle."""
    if link.pgconn.transaction_status != TransactionStatus.IDLE:
        return True
    poll = select.poll()
    poll.register(link.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def is_lost(link: Link, error: psycopg.Error) -> bool:
    """Tell whether the connection ended, so that what was sent may or may not have happened."""
    fatal = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
    unheard = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return fatal or unheard or link.pgconn.status != ConnStatus.OK


class Verdict(Enum):
    """What an error says of the statement that met it."""

    LOST = "the connection is gone, or the server goes down or comes up"
    AGAIN = "it did not happen; the whole transaction may be tried again"
    BUSY = "it waited in vain for a lock"
    SLOW = "it took too long and was stopped"
    DUPLICATE = "a key is taken"
    FULL = "no room"
    READ_ONLY = "this server takes no writes"
    DENIED = "not allowed"
    SCHEMA = "tables or columns are not ours"
    DATABASE = "no such database"
    OTHER = "refused"


_VERDICTS = {
    "40001": Verdict.AGAIN,  # serialization failure
    "40P01": Verdict.AGAIN,  # deadlock
    "55P03": Verdict.BUSY,  # lock_timeout
    "57014": Verdict.SLOW,  # statement_timeout, or cancelled by hand
    "25P03": Verdict.LOST,  # idle in a transaction for too long
    "25006": Verdict.READ_ONLY,
    "53100": Verdict.FULL,
    "53200": Verdict.AGAIN,  # out of memory
    "53300": Verdict.LOST,  # too many connections
    "23505": Verdict.DUPLICATE,
    "42P07": Verdict.DUPLICATE,  # a table that another migration makes at the same moment,
    "42710": Verdict.DUPLICATE,  # or its row type
    "42501": Verdict.DENIED,
    "42P01": Verdict.SCHEMA,
    "42703": Verdict.SCHEMA,
    "42804": Verdict.SCHEMA,
    "3D000": Verdict.DATABASE,
    "58030": Verdict.LOST,  # input/output error
}
_CLASSES = {"08": Verdict.LOST, "57": Verdict.LOST, "28": Verdict.DENIED}
# While a connection is made the server's SQLSTATE is not passed on: only its words are.
_WORDS = (
    (re.compile(r'database "[^"]*" does not exist'), Verdict.DATABASE),
    (
        re.compile(
            r'role "[^"]*" (does not exist|is not permitted)|authentication failed|pg_hba\.conf'
            r"|no password supplied|permission denied for database"
        ),
        Verdict.DENIED,
    ),
)
_NO_OPTIONS = re.compile(r"unsupported startup parameter", re.IGNORECASE)


def verdict(sqlstate: str) -> Verdict:
    """Return what an error means that the server has given this SQLSTATE."""
    return _VERDICTS.get(sqlstate, _CLASSES.get(sqlstate[:2], Verdict.OTHER))


def judge(error: psycopg.Error) -> Verdict:
    """Return what an error means."""
    if error.sqlstate is not None:
        return verdict(error.sqlstate)
    if isinstance(error, psycopg.OperationalError):
        text = str(error)
        return next((found for words, found in _WORDS if words.search(text)), Verdict.LOST)
    return Verdict.LOST if isinstance(error, psycopg.InterfaceError) else Verdict.OTHER


def without_limits(error: psycopg.Error) -> bool:
    """Tell whether a pooler refused to pass on start-up options."""
    return error.sqlstate is None and _NO_OPTIONS.search(str(error)) is not None


def said(error: psycopg.Error) -> str:
    """Return the server's words: its first message, never the details, which repeat values."""
    if error.sqlstate is not None:
        return f"{error.sqlstate}: {error.diag.message_primary or ''}"[:300]
    return _one_line(error)


def _one_line(error: psycopg.Error) -> str:
    text = " ".join(str(error).split())
    return text.rstrip(".")[:300]

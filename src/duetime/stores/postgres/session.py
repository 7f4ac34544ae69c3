"""One connection to the server, and what is known of what was sent on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from duetime.event import Row
from duetime.stores.postgres import driver
from duetime.stores.postgres.driver import LIMITS, PLANNER, Link

__all__ = ["Parameters", "Session"]

Parameters = Mapping[str, Any] | Sequence[Any]
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_ROW = ("int8", "int8", "int2", "text", "text", "bytea", "int4", "int4", "int4", "int8", "int8")


class Session:
    """A connection in autocommit mode; a transaction is what `transaction` encloses.

    A single statement needs no transaction and saves two round trips. Where the limits could not
    be set for the connection, every change is put into a transaction that begins with them: the
    session then keeps nothing that the next transaction on another server connection would miss.
    """

    __slots__ = ("_binary", "_link", "_open", "_prologue", "_text", "has_ctid", "unsure")

    def __init__(
        self, link: Link, *, limits: bool, statement_timeout: float, has_ctid: bool
    ) -> None:
        """Take over a new connection; `limits` says that they were set for all of it."""
        self.has_ctid = has_ctid  # whether the engine can be told where a row lies
        self._link = link
        self._binary = link.cursor(binary=True)
        self._text = link.cursor()
        self._open = False
        values = LIMITS | {"statement_timeout": f"{int(statement_timeout * 1000)}ms"} | PLANNER
        local = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in values.items())
        self._prologue = "" if limits else local
        self.unsure = False  # something that this call did has happened, or may have

    def start(self, until: int) -> None:
        """Begin a call that must end by then (boot clock, µs)."""
        self._link.until = until
        self.unsure = False

    def rows(self, statement: bytes, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run a SELECT."""
        return self._binary.execute(statement, parameters).fetchall()

    def execute(self, statement: bytes, parameters: Parameters = ()) -> int:
        """Run a statement that changes something; return how many rows it changed.

        Outside a transaction it is one of its own, durable when this returns.
        """
        with self._change():
            self._binary.execute(statement, parameters)
        return self._binary.rowcount

    def changed(self, statement: bytes, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Run a statement that changes something and tells what."""
        with self._change():
            self._binary.execute(statement, parameters)
        return self._binary.fetchall()

    def copy(self, statement: bytes, rows: Sequence[Row]) -> None:
        """Store rows by a COPY statement, all or none."""
        with self._change(), self._binary.copy(statement) as copy:
            copy.set_types([*_ROW, "bytea"])
            for row in rows:
                copy.write_row(row)

    def script(self, text: str) -> None:
        """Run several statements without parameters."""
        with self._change():
            self._text.execute(text.encode())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end; roll back on any error."""
        self._text.execute((_BEGIN + self._prologue).encode())
        self._open = True
        try:
            yield
            with self._sending():
                self._text.execute(b"COMMIT")
            self._open = False
        finally:
            if self._open:
                self._open = False
                with suppress(psycopg.Error):
                    self._text.execute(b"ROLLBACK")

    @contextmanager
    def _change(self) -> Iterator[None]:
        if self._open:
            yield
        elif self._prologue:
            with self.transaction():
                yield
        else:
            with self._sending():
                yield

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Note that from here on it may have happened, unless the server says that it has not."""
        before, self.unsure = self.unsure, True
        try:
            yield
        except psycopg.Error as error:
            if not driver.is_lost(self._link, error):
                self.unsure = before
            raise
        if self._binary.rowcount == 0:
            self.unsure = before  # it changed nothing

    @property
    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle."""
        return driver.is_stale(self._link)

    @property
    def is_broken(self) -> bool:
        """Whether it can never be used again."""
        return self._link.closed

    def close(self) -> None:
        """Let go of the connection, without waiting for the server."""
        self._link.close()

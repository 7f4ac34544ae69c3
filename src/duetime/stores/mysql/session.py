"""One connection to the server, and what is known of the transaction on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql

from duetime.stores.mysql import driver

__all__ = ["Session"]

_STRICT = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
_ANY_LENGTH = 1 << 30
_TABLE_WAIT = 5  # s: whoever waits to alter a table makes everybody else wait


class Session:
    """A connection: each statement is durable by itself, or all that `transaction` encloses.

    It stays in the mode that was asked for last. All that a session depends on is set when it
    begins, so that a pooler in between may give each transaction another connection, as long as
    it repeats those settings.
    """

    __slots__ = (
        "_connection",
        "_open",
        "_waits",
        "is_galera",
        "is_manual",
        "is_mariadb",
        "moves",
        "packet",
        "place",
        "skips_locked",
        "takes_part",
        "unsure",
        "version",
    )

    def __init__(self, connection: Any, timeout: float, lock_wait: int) -> None:
        """Take over a new connection; each statement and lock wait ends after so many seconds."""
        self._connection = connection
        self.packet = _ANY_LENGTH
        self._open = False
        self._waits = False  # whether statements wait for what was committed on other members
        self.place = 0  # which server of the URL it leads to
        self.moves = 0  # how many changes of the server it has seen the last commits of
        self.is_manual = False  # each statement opens a transaction by itself
        self.unsure = False  # a commit was sent, and its answer has not come
        self.version: str = connection.get_server_info()
        self.is_mariadb = "mariadb" in self.version.lower()
        # TiDB takes the words and then locks no row at all, neither its own nor others'.
        self.skips_locked = "tidb" not in self.version.lower()
        self.is_galera, self.takes_part = False, True
        self._set_up(timeout, lock_wait)
        self._ask_what_it_is()
        self.packet = int(self.rows("SELECT @@max_allowed_packet")[0][0])

    def _set_up(self, timeout: float, lock_wait: int) -> None:
        self._send("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        limit = (
            f"max_statement_time = {timeout:f}"
            if self.is_mariadb
            else f"max_execution_time = {int(timeout * 1000)}"
        )
        self._send(
            f"SET SESSION sql_mode = '{_STRICT}', time_zone = '+00:00', {limit}, "
            f"innodb_lock_wait_timeout = {lock_wait:d}, lock_wait_timeout = {_TABLE_WAIT}"
        )
        if self.is_mariadb:
            # A node that is cut off in the middle of a transaction cannot let its rows go.
            self._send(f"SET SESSION idle_transaction_timeout = {int(timeout) + 2}")

    def _ask_what_it_is(self) -> None:
        asked = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'read_only')"
        settings = {_text(name): _text(value) for name, value in self.rows(asked)}
        self.is_galera = settings.get("wsrep_on") == "ON"
        if self.is_galera:
            # A server may be set to answer without a quorum: what it says then is no promise.
            self._send("SET SESSION wsrep_dirty_reads = 0, wsrep_sync_wait = 0")
            self.look()
        self.takes_part &= settings.get("read_only", "OFF") in ("OFF", "0")

    def look(self) -> None:
        """Ask a Galera member whether it takes part in all that its cluster does.

        One that joins, or that lags behind since others copy from it, does not.
        """
        asked = (
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_cluster_status', "
            "'wsrep_local_state_comment')"
        )
        found = {_text(value) for _, value in self.rows(asked)}
        self.takes_part = found == {"ON", "Primary", "Synced"}

    def fits(self, *, whole: bool, fresh: bool) -> bool:
        """Tell whether it is in the mode that a call needs."""
        return self.is_manual == whole and (not self.is_galera or self._waits == fresh)

    def refresh(self, *, fresh: bool) -> None:
        """Let what follows see, if it is to be fresh, all that any member has committed."""
        if self.is_galera and self._waits != fresh:
            # 7: before reads, before UPDATE and DELETE, and before INSERT
            self._send(f"SET SESSION wsrep_sync_wait = {7 if fresh else 0}")
            self._waits = fresh

    def catch_up(self) -> None:
        """Wait until this member has all that was committed on others before."""
        self.refresh(fresh=True)
        if self.is_galera:
            self.rows("SELECT 1")

    def execute(self, statement: str) -> int:
        """Run a statement that changes something; return how many rows it matched.

        Outside a transaction it is one of its own, durable when this returns.
        """
        self._begin_single()
        self.unsure = not self._open
        self._send(statement)
        self.unsure = False
        return int(self._connection.affected_rows())

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a SELECT; texts come as bytes."""
        self._begin_single()
        self._send(statement)
        result = self._connection._result  # noqa: SLF001 - a cursor would take 10 µs more
        return list(result.rows or ())

    def column(self, statement: str) -> list[bytes]:
        """Run a SELECT of one column that is never NULL."""
        self._begin_single()
        return driver.read_column(self._connection, statement)

    def _begin_single(self) -> None:
        """Let the next statement be a transaction of its own, unless one is open."""
        if self.is_manual and not self._open:
            self._send("SET autocommit = 1")
            self.is_manual = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end; roll back on any error.

        Nothing is sent to begin it: without autocommit its first statement does. Where threads
        compete for the interpreter, a round trip costs a millisecond.
        """
        if not self.is_manual:
            self._send("SET autocommit = 0")
            self.is_manual = True
        with self._enclosed():
            yield

    @contextmanager
    def _enclosed(self) -> Iterator[None]:
        self._open = True
        try:
            yield
            self.unsure = True
            self._send("COMMIT")
            self.unsure = False
            self._open = False
        finally:
            if self._open:
                self._open = False
                self._roll_back()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every SELECT inside see the same moment."""
        self._send("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._send("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        with self._enclosed():
            yield

    @contextmanager
    def dirty(self) -> Iterator[None]:
        """Let every SELECT inside see what others have written and not yet committed, too."""
        self._send("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        self._send("START TRANSACTION")
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self._roll_back()  # nothing was written, so no answer can be lost

    def _roll_back(self) -> None:
        """A lock wait that ran out undoes one statement only: the rest is undone here."""
        unsure = self.unsure
        with suppress(pymysql.MySQLError):
            self._send("ROLLBACK")
        self.unsure = unsure

    def _send(self, statement: str) -> None:
        """Send a statement and hear its answer. Raises pymysql.MySQLError.

        One that the server would not take is not sent: it would end the connection in the middle
        of it, which looks like a server that has gone away.
        """
        try:
            if len(statement) >= self.packet:
                raise pymysql.OperationalError(
                    driver.PACKET_TOO_LARGE, f"a statement of {len(statement)} bytes"
                )
            self._connection.query(statement)
        except pymysql.MySQLError as error:
            code, verdict = driver.judge(error)
            cut_off = verdict is driver.Verdict.CUT_OFF and statement == "COMMIT"
            if code == driver.GONE or (verdict is not driver.Verdict.LOST and not cut_off):
                self.unsure = False  # it never went out whole, or the server has refused it
            raise

    @property
    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle."""
        return driver.is_stale(self._connection)

    @property
    def is_broken(self) -> bool:
        """Whether it can never be used again."""
        return not self._connection.open

    def close(self) -> None:
        """Let go of the connection, without waiting for the server."""
        self._connection._force_close()  # noqa: SLF001 - close() sends, and may block


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

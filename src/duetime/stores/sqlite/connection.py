"""The connections to one SQLite file: how they are opened, shared, kept apart, and what fails.

One writer behind a lock, for SQLite has one writer anyway; readers from a small pool, so that no
read waits for a commit and no quick read for a slow one.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from duetime.clock import MICROS, SystemClock
from duetime.errors import LifecycleError, StoreError, StoreUnavailable, StoreUnsupported
from duetime.stores.sqlite import checkpoint, faults, files
from duetime.stores.sqlite.driver import BUSY, Connection, Driver

__all__ = ["Database"]

_KEPT_READERS = 4
_LONGEST_QUEUE = 5.0  # seconds that writers of one process may keep another waiting, at most
_FIRST_PAUSE, _PAUSE_GROWTH, _LONGEST_PAUSE = 500, 250, 5_000  # µs

_open: weakref.WeakSet[Database] = weakref.WeakSet()
_left_open: list[Connection] = []


def _leave_alone() -> None:
    """In a forked child: keep the parent's connections from ever being closed here."""
    for database in list(_open):
        _left_open.extend(database.abandon())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)


class Database:
    """One file; `check` is asked about each new connection whether its tables are ours."""

    def __init__(
        self,
        path: str,
        driver: Driver,
        synchronous: str,
        busy_timeout: float,
        check: Callable[[Connection], None],
    ) -> None:
        """Nothing is opened before the first use."""
        self.path = files.absolute(path)
        self.driver = driver
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._check = check
        self._pid = os.getpid()
        self._closed = False
        self._lock = Lock()
        self._writer: Connection | None = None
        self._flushes = True  # whether the writer's commits wait for the disk
        self._identity: tuple[int, int] | None = None
        self._readers: list[Connection] = []
        self._checkpoints = checkpoint.chosen(driver, self.path)
        _open.add(self)

    @contextmanager
    def writing(
        self, *, create: bool = False, flushed: bool = True, single: bool = False
    ) -> Iterator[Connection]:
        """Yield the writer inside BEGIN IMMEDIATE; commit at the end, roll back on any error.

        With `create`, the file is made if it is missing, and the tables need not be there yet.
        Without `flushed` the commit does not wait for the disk: a power cut may undo it, though
        never without all that was committed after it. With `single`, what is done is one change
        and no transaction is begun for it.
        """
        self.alive()
        with self._turn():
            self.alive()
            committing, broken = single, create
            try:
                self._notice_replacement()
                connection = self._writer = self._writer or self._connect(create=create)
                self._flush(connection, flushed=flushed)
                if not single:
                    connection.run("BEGIN IMMEDIATE")
                self._checkpoints.in_write(connection, self._connect_plain)
                yield connection
                committing = True
                if not single:
                    connection.run("COMMIT")
                broken = False
            except self.driver.error as error:
                broken = broken or self.driver.code(error) not in faults.HARMLESS
                raise self._fault(error, committing=committing) from error
            finally:
                self._calm(broken=broken)

    @contextmanager
    def reading(self, *, checked: bool = True, snapshot: bool = True) -> Iterator[Connection]:
        """Yield a reader inside one snapshot; it never waits for a writer.

        Without `checked` the file may be anything: the tables need not be there, nothing is set
        up, and the connection is used once. Without `snapshot` each statement sees its own moment.
        """
        self.alive()
        connection = None
        try:
            connection = self._idle_reader() if checked else None
            connection = connection or self._connect(create=False, reads=True, checked=checked)
            if checked and snapshot:
                connection.run("BEGIN")
            yield connection
            if checked and snapshot:
                connection.run("COMMIT")
            if checked and not self._closed and len(self._readers) < _KEPT_READERS:
                self._readers.append(connection)
                connection = None
        except self.driver.error as error:
            raise self._fault(error) from error
        finally:
            if connection is not None and os.getpid() == self._pid:
                self._discard(connection)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this process's other writers: each may itself wait for the file, in turn."""
        if not self._lock.acquire(timeout=self._busy_timeout + _LONGEST_QUEUE):
            raise StoreUnavailable(
                f"{self.path} was locked for longer than {self._busy_timeout:g} s, and others of "
                "this process wait for it already.",
                code="sqlite_busy",
            )
        try:
            yield
        finally:
            self._lock.release()

    def alive(self) -> None:
        """Raise LifecycleError after close, and in a child that was forked with this open."""
        if os.getpid() != self._pid:
            raise LifecycleError(
                "This store was opened before a fork: SQLite connections must not cross it. "
                "Make a store of its own in each process.",
                code="forked",
            )
        if self._closed:
            raise LifecycleError("This store is closed.", code="closed")

    def holds(self, identity: tuple[int, int] | None) -> bool:
        """Tell whether connections to this file are open here."""
        there = self._writer is not None or self._readers
        return bool(there) and identity is not None and files.identity(self.path) == identity

    def abandon(self) -> list[Connection]:
        """Give up all connections without closing them, and return them."""
        kept = [*self._readers, *([self._writer] if self._writer else [])]
        self._readers, self._writer = [], None
        return kept

    def close(self) -> None:
        """Close every connection; one that is in use closes when its call ends."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            for connection in self.abandon():
                self._discard(connection)

    def _idle_reader(self) -> Connection | None:
        try:
            return self._readers.pop()
        except IndexError:
            return None

    def _calm(self, *, broken: bool) -> None:
        """Leave no transaction open; let go of a connection that met more than a busy file.

        A migration that failed counts too: its connection has not seen tables that are ours.
        """
        if self._writer is None:
            return
        try:
            if self._writer.in_transaction:
                self._writer.run("ROLLBACK")
        except self.driver.error:
            broken = True
        if broken:
            self._discard(self._writer)
            self._writer = None

    def _notice_replacement(self) -> None:
        """Refuse to write to a file that was removed or replaced: those writes would be lost.

        The old connections are left open, for closing them would delete the log of the new file.
        """
        if self._writer is None or files.identity(self.path) == self._identity:
            return
        _left_open.extend(self.abandon())
        raise StoreUnavailable(
            f"{self.path} was removed or replaced while it was in use; it is opened anew.",
            code="sqlite_replaced",
        )

    def _fault(self, error: Exception, *, committing: bool = False) -> StoreError:
        code = self.driver.code(error)
        return faults.translate(error, code, self.path, self._busy_timeout, committing=committing)

    def _connect(self, *, create: bool, reads: bool = False, checked: bool = True) -> Connection:
        files.admit(self.path, create=create)
        connection = self._connect_plain()
        try:
            if checked and not create:
                self._check(connection)
            if checked:
                self._set_up(connection)
            if reads:
                connection.run("PRAGMA query_only = 1")
            else:
                self._flushes = True
                self._identity = files.identity(self.path)
        except BaseException:
            self._discard(connection)
            raise
        return connection

    def _connect_plain(self) -> Connection:
        """Open the file; nothing about it is set or looked at."""
        self._refuse_two_libraries()
        return self.driver.connect(self.path, _waiter(int(self._busy_timeout * MICROS)))

    def _refuse_two_libraries(self) -> None:
        """Refuse what can be seen: another store of this process on the file, by another library.

        Each library drops the locks of the other whenever it closes the file.
        """
        here = files.identity(self.path)
        for other in list(_open):
            if other.driver.name != self.driver.name and other.holds(here):
                raise StoreUnsupported(
                    f"{self.path} is open in this process through {other.driver.through}: two "
                    "SQLite libraries break each other's locks. Use one URL for all.",
                    code="sqlite_two_libraries",
                )

    def _switch_to_wal(self, connection: Connection) -> str:
        """Switch, waiting for others: here SQLite answers "busy" without asking its handler."""
        wait = _waiter(int(self._busy_timeout * MICROS))
        tries = 0
        while True:
            try:
                return str((connection.first("PRAGMA journal_mode = WAL") or ("",))[0])
            except self.driver.error as error:
                if self.driver.code(error) != BUSY or not wait(tries):
                    raise
            tries += 1

    def _flush(self, connection: Connection, *, flushed: bool) -> None:
        """Set whether the commits of the writer wait for the disk, as far as the setting says."""
        if flushed is not self._flushes:
            level = self._synchronous if flushed else "NORMAL"
            connection.run(f"PRAGMA synchronous = {level}")
            self._flushes = flushed

    def _set_up(self, connection: Connection) -> None:
        mode = self._switch_to_wal(connection)
        if mode != "wal":
            raise StoreUnsupported(
                f"{self.path} cannot be switched to write-ahead logging (journal mode {mode}): "
                "use a local file system that supports shared memory.",
                code="sqlite_wal",
            )
        connection.run(f"PRAGMA synchronous = {self._synchronous}")
        self._checkpoints.set_up(connection)

    def _discard(self, connection: Connection) -> None:
        """Close a connection; what then fails is the last checkpoint: the next opening makes it."""
        with suppress(self.driver.error):
            connection.close()


def _waiter(timeout: int) -> Callable[[int], bool]:
    """Return a busy handler that pauses 0.5 to 5 ms: SQLite's own back-off sleeps up to 100 ms."""
    clock = SystemClock()
    since = 0

    def wait(tries: int) -> bool:
        nonlocal since
        if tries == 0:
            since = clock.boot()
        if clock.boot() - since >= timeout:
            return False
        clock.sleep(min(_FIRST_PAUSE + tries * _PAUSE_GROWTH, _LONGEST_PAUSE))
        return True

    return wait

"""The connections to one SQLite file: how they are opened, shared, kept apart, and what fails.

One writer behind a lock, for SQLite has one writer anyway; readers from a small pool, so that no
read waits for a commit and no quick read for a slow one.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import apsw

from duetime.clock import MICROS, SystemClock
from duetime.errors import (
    AnswerLost,
    ConfigError,
    LifecycleError,
    SchemaError,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnsupported,
)

__all__ = ["Database"]

_CHECKPOINT_PAGES = 20_000  # rarer checkpoints write a hot page once instead of many times
_KEPT_READERS = 4
_FIRST_PAUSE, _PAUSE_GROWTH, _LONGEST_PAUSE = 500, 250, 5_000  # µs

# After these the connection is as good as before.
_HARMLESS = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.ConstraintError)
_UNAVAILABLE = (
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.NoMemError,
    apsw.InterruptError,
    apsw.ProtocolError,
    apsw.NoLFSError,
)

_open: weakref.WeakSet[Database] = weakref.WeakSet()
_left_open: list[apsw.Connection] = []


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
        synchronous: str,
        busy_timeout: float,
        check: Callable[[apsw.Connection], None],
    ) -> None:
        """Nothing is opened before the first use."""
        self.path = _absolute(path)
        self._synchronous = synchronous
        self._busy_timeout = int(busy_timeout * MICROS)
        self._check = check
        self._pid = os.getpid()
        self._closed = False
        self._lock = Lock()
        self._writer: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._readers: list[apsw.Connection] = []
        _open.add(self)

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[apsw.Connection]:
        """Yield the writer inside BEGIN IMMEDIATE; commit at the end, roll back on any error.

        With `create`, the file is made if it is missing, and the tables need not be there yet.
        """
        self.alive()
        with self._lock:
            self.alive()
            committing = broken = False
            try:
                self._notice_replacement()
                connection = self._writer = self._writer or self._connect(create=create)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                committing = True
                connection.execute("COMMIT")
            except apsw.Error as error:
                broken = not isinstance(error, _HARMLESS)
                raise self._translate(error, committing=committing) from error
            finally:
                self._calm(broken=broken)

    @contextmanager
    def reading(self, *, checked: bool = True) -> Iterator[apsw.Connection]:
        """Yield a reader inside one snapshot; it never waits for a writer."""
        self.alive()
        connection = None
        try:
            connection = self._idle_reader() if checked else None
            connection = connection or self._connect(create=False, reads=True, checked=checked)
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
            if checked and not self._closed and len(self._readers) < _KEPT_READERS:
                self._readers.append(connection)
                connection = None
        except apsw.Error as error:
            raise self._translate(error, committing=False) from error
        finally:
            if connection is not None and os.getpid() == self._pid:
                connection.close(force=True)

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

    def abandon(self) -> list[apsw.Connection]:
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
                connection.close()

    def _idle_reader(self) -> apsw.Connection | None:
        try:
            return self._readers.pop()
        except IndexError:
            return None

    def _calm(self, *, broken: bool) -> None:
        """Leave no transaction open; let go of a connection that met more than a busy file."""
        if self._writer is None:
            return
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except apsw.Error:
            broken = True
        if broken:
            self._writer.close(force=True)
            self._writer = None

    def _notice_replacement(self) -> None:
        """Refuse to write to a file that was removed or replaced: those writes would be lost.

        The old connections are left open, for closing them would delete the log of the new file.
        """
        if self._writer is None or _identity(self.path) == self._identity:
            return
        _left_open.extend(self.abandon())
        raise StoreUnavailable(
            f"{self.path} was removed or replaced while it was in use; it is opened anew.",
            code="sqlite_replaced",
        )

    def _connect(
        self, *, create: bool, reads: bool = False, checked: bool = True
    ) -> apsw.Connection:
        self._admit(create=create)
        connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_handler(_waiter(self._busy_timeout))
            if checked and not create:
                self._check(connection)
            if checked:
                self._set_up(connection)
            if reads:
                connection.pragma("query_only", True)
            else:
                self._identity = _identity(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: apsw.Connection) -> None:
        mode = connection.pragma("journal_mode", "WAL")
        if mode != "wal":
            raise StoreUnsupported(
                f"{self.path} cannot be switched to write-ahead logging (journal mode {mode}): "
                "use a local file system that supports shared memory.",
                code="sqlite_wal",
            )
        connection.pragma("synchronous", self._synchronous)
        connection.wal_autocheckpoint(_CHECKPOINT_PAGES)

    def _admit(self, *, create: bool) -> None:
        """Refuse what is not a file to be trusted; make the file, readable by us alone."""
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            if not create:
                raise SchemaError(
                    f"There is no database at {self.path}: run `duetime migrate`.",
                    code="schema_missing",
                ) from None
            self._make()
            return
        except OSError as error:
            raise StoreUnavailable(f"{self.path} cannot be opened: {error.strerror}.") from error
        if stat.S_ISLNK(mode):
            raise StoreUnsupported(
                f"{self.path} is a symbolic link: give the path of the file itself.",
                code="sqlite_symlink",
            )
        if not stat.S_ISREG(mode):
            raise StoreUnsupported(f"{self.path} is not a regular file.", code="sqlite_not_a_file")

    def _make(self) -> None:
        try:
            _make_directories(Path(self.path).parent)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
            os.close(os.open(self.path, flags, 0o600))
        except FileExistsError:
            self._admit(create=False)
        except OSError as error:
            raise StoreUnavailable(f"{self.path} cannot be made: {error.strerror}.") from error

    def _translate(self, error: apsw.Error, *, committing: bool) -> StoreError:
        """Return our error for one of SQLite's: did it happen, and what is to be done?"""
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return StoreUnavailable(
                f"{self.path} was locked by another process for longer than "
                f"{self._busy_timeout / MICROS:g} s ({error}).",
                code="sqlite_busy",
            )
        if isinstance(error, apsw.FullError):
            return StoreFull(f"No room is left for {self.path}: free some space ({error}).")
        if committing:
            return AnswerLost(f"{self.path}: the commit failed midway ({error}).")
        if isinstance(error, apsw.NotADBError | apsw.CorruptError):
            return StoreUnsupported(
                f"{self.path} is damaged or no SQLite database ({error}): restore a backup, or "
                "give another path.",
                code="sqlite_damaged",
            )
        if isinstance(error, apsw.SQLError):
            return SchemaError(
                f"{self.path} does not have the tables of this program ({error}): "
                "run `duetime migrate`, then `duetime check`."
            )
        if isinstance(error, _UNAVAILABLE):
            return StoreUnavailable(f"{self.path} cannot be used ({error}).")
        return StoreError(
            f"{self.path} refused a value or a call ({error}).", code="sqlite_refused"
        )


def _absolute(path: str) -> str:
    """Return an absolute path: a later chdir must not lead to another file."""
    path = os.fspath(path)
    if path == ":memory:":
        raise ConfigError(
            'SQLite in memory loses everything: use MemoryStore ("memory://") or give a file.',
            code="sqlite_memory",
            field="path",
        )
    if not path or "\0" in path:
        raise ConfigError("The path of the SQLite file is empty.", code="sqlite_path", field="path")
    return str(Path(path).absolute())


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - each write passes here: 1 µs, a Path 3
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_directories(path: Path) -> None:
    """Make a directory and its missing parents, each open to us alone."""
    if not path.is_dir():
        _make_directories(path.parent)
        path.mkdir(0o700, exist_ok=True)


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

"""What the store asks of an SQLite library, and which versions of SQLite it can use.

The libraries differ here and in `driver_apsw` and `driver_sqlite3`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from duetime.errors import ConfigError

__all__ = ["BUSY", "CORRUPT", "LOCKED", "Connection", "Driver", "affected", "driver_named"]

BUSY = 5  # SQLITE_BUSY: another connection holds the lock
LOCKED = 6  # SQLITE_LOCKED: another connection of this process does
CORRUPT = 11  # SQLITE_CORRUPT: the file is damaged

# The WAL-reset bug: a checkpoint that runs while another connection begins the log anew takes
# pages of the new log for written, and they are lost. Two older lines have the repair as well.
_AFFECTED = ((3, 7, 0), (3, 51, 2))
_REPAIRED = {(3, 44): 6, (3, 50): 7}
_OLDEST = (3, 38, 0)  # STRICT tables and json_each


class Connection(Protocol):
    """One connection of a library: the store's own, or a caller's whose transaction is joined."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @property
    def begins_itself(self) -> bool:
        """Whether its library begins a transaction at a caller's first change."""

    @property
    def total_changes(self) -> int:
        """How many rows it has changed since it was opened."""

    def first(self, sql: str, values: Sequence[Any] = ()) -> Any | None:
        """Return the first row of a query, or None."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query as tuples."""

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed."""

    def change_many(self, sql: str, many: Iterable[Sequence[Any]]) -> int:
        """Run one statement with each of many values; return how many rows they changed."""

    def run(self, sql: str) -> None:
        """Run statements, separated by semicolons, that answer nothing."""

    def close(self) -> None:
        """Close it; a transaction that is open is rolled back."""


class Driver(NamedTuple):
    """An SQLite library."""

    name: str  # as in the store's URL behind a plus sign: "apsw", "sqlite3"
    through: str  # the library and its version, for people
    version: str  # of SQLite, e.g. "3.54.1"
    error: type[Exception]  # the root of its errors
    connect: Callable[[str, Callable[[int], bool]], Connection]
    """Open a file that exists. The function is asked before each further try at a lock: it is
    given the number of tries and pauses, or returns False to give up."""
    code: Callable[[Exception], int]
    """Return the primary result code of SQLite of an error, 0 if it bears none."""
    borrow: Callable[[object], Connection | None]
    """Take a connection of a caller, or None if it is not one of this library."""


def driver_named(name: str) -> Driver:
    """Load a library by its name; raises ConfigError `driver_missing` when it cannot be used."""
    if name == "sqlite3":
        try:
            from duetime.stores.sqlite.driver_sqlite3 import (  # noqa: PLC0415 - only when named
                DRIVER,
            )
        except ModuleNotFoundError as error:  # a Python that was built without it
            raise ConfigError(
                "This Python was built without sqlite3: use sqlite:///file.",
                code="driver_missing",
                field="store",
            ) from error
    else:
        from duetime.stores.sqlite.driver_apsw import DRIVER  # noqa: PLC0415 - only when named
    if _numbers(DRIVER.version) < _OLDEST:
        raise ConfigError(
            f"SQLite {DRIVER.version} through {DRIVER.through} is too old: it must be 3.38 or "
            "newer. sqlite:///file brings its own.",
            code="driver_missing",
            field="store",
        )
    return DRIVER


def affected(version: str) -> bool:
    """Tell whether a version of SQLite has the WAL-reset bug."""
    number = _numbers(version)
    repaired = _REPAIRED.get(number[:2])
    if repaired is not None and number[2] >= repaired:
        return False
    return _AFFECTED[0] <= number <= _AFFECTED[1]


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return major, minor, patch

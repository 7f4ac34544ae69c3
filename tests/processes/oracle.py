"""The log that judges: what handlers and callers saw, kept outside the database under test.

Every record is one short write to a file opened for appending, so that it survives the death of
the process that wrote it, and the records of many processes do not mix.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from duetime import Event

__all__ = ["EPOCH", "Line", "Log", "Oracle", "micros"]


# Names the wall clock (µs) at the monotonic clock's 0, for a process whose own clock is falsified.
EPOCH = "TESTS_EPOCH"


class Line(NamedTuple):
    """One record."""

    what: str  # ready, asked, began, ended, answer, error, tally, …
    at: int  # wall clock, µs: the store's clock on SQLite
    pid: int
    id: str
    claim: int
    attempt: int
    note: str


def micros() -> int:
    """Return the wall clock in µs; where that is falsified, what the monotonic one makes of it."""
    if EPOCH in os.environ:
        return time.monotonic_ns() // 1000 + int(os.environ[EPOCH])
    return time.time_ns() // 1000


class Log:
    """Where one process writes its records."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, event: Event | str = "-", note: object = "") -> None:
        """Append one record; the time is taken now."""
        claim, attempt, event_id = 0, 0, event
        if isinstance(event, Event):
            claim, attempt, event_id = event.token[0], event.attempt, event.id
        text = f"{what} {micros()} {os.getpid()} {event_id} {claim} {attempt} {note}"
        os.write(self._file, text.replace("\n", " ").encode() + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Oracle:
    """Reads what all processes wrote, each time only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._clear()
        path.touch()

    def _look(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in map(_parse, whole):
            self._add(line)

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        self._sorts[line.what].append(line)
        self._ids[line.what].add(line.id)

    def lines(self, *what: str) -> list[Line]:
        """Return all records so far, or those of some sorts."""
        self._look()
        if len(what) == 1:
            return list(self._sorts[what[0]])
        return [line for line in self._lines if not what or line.what in what]

    def leave_out(self, when: Callable[[Line], bool]) -> None:
        """Forget the records for which `when` says so."""
        kept = [line for line in self.lines() if not when(line)]
        self._clear()
        for line in kept:
            self._add(line)

    def _clear(self) -> None:
        self._lines: list[Line] = []
        # By sort, too: whoever waits asks every few milliseconds, of a hundred thousand records.
        self._sorts: dict[str, list[Line]] = defaultdict(list)
        self._ids: dict[str, set[str]] = defaultdict(set)

    def count(self, *what: str) -> int:
        """Count the records of some sorts."""
        self._look()
        return sum(len(self._sorts[each]) for each in what)

    def ids(self, *what: str) -> set[str]:
        """Return the ids that have a record of one of these sorts."""
        self._look()
        return set().union(*(self._ids[each] for each in what))

    def runs(self) -> dict[str, list[Line]]:
        """Return for each event the starts of its handler, in order."""
        runs: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines("began"):
            runs[line.id].append(line)
        return runs

    def early(self, due: dict[str, int]) -> list[Line]:
        """Return the starts that came before their due time (µs by id)."""
        return [line for line in self.lines("began") if line.at < due.get(line.id, 0)]


def repeated(runs: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Return the events that were started more than once."""
    return {event_id: lines for event_id, lines in runs.items() if len(lines) > 1}


def by_id(lines: Iterable[Line]) -> dict[str, Line]:
    """Return records by the id of their event."""
    return {line.id: line for line in lines}


def _parse(raw: bytes) -> Line:
    what, at, pid, event_id, claim, attempt, note = raw.decode().split(" ", 6)
    return Line(what, int(at), int(pid), event_id, int(claim), int(attempt), note)

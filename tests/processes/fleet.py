"""Real processes for the tests: started, watched, signalled, and gone at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from duetime import Counts, Event, Scheduler, Settings, State
from duetime.event import place_of
from tests.processes.oracle import Line, Log, Oracle, micros
from tests.processes.places import FilePlace, Place, found

__all__ = ["SCALE", "Child", "Fleet", "crowd", "scaled", "wait_until"]

ROOT = Path(__file__).parents[2]
# 10 makes every test ten times as long: for a night, or before a release.
SCALE = float(os.environ.get("DUETIME_TEST_SCALE", "1"))
_ROUNDING = 2  # µs: two clocks are read in whole µs
_LOOK = 0.005  # seconds between two looks at what is waited for


def scaled(count: int) -> int:
    """Return a count for this run's length."""
    return max(1, int(count * SCALE))


def crowd() -> float:
    """Return how many processes want each processor, at least 1: all takes so much longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Return as soon as the condition holds, with the seconds it took; fail after the deadline."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(_LOOK)
    return time.monotonic() - began


class Child:
    """One process of the fleet."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.errors = errors
        self.killed_at = 0  # wall clock, µs

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as the kernel does: nothing can be finished or said."""
        self.process.kill()
        self.process.wait()
        self.killed_at = micros()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def memory(self) -> int:
        """Its resident memory in bytes."""
        fields = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGESIZE")


class Fleet:
    """Processes on one database, with one log that judges them all."""

    def __init__(self, folder: Path, place: Place | None = None, **settings: Any) -> None:
        self.folder = folder
        self.place = place or FilePlace(folder / "events.db")
        self.settings: dict[str, Any] = {"stats_every": 0.0, **settings}
        self.oracle = Oracle(folder / "oracle.log")
        self.log = Log(folder / "oracle.log")
        self.children: list[Child] = []
        self._closed = False
        self.scheduler = Scheduler(settings=Settings(**self._all_settings()))

    def _all_settings(self) -> dict[str, Any]:
        return {"store": self.place.url, **self.settings}

    def start(
        self,
        role: str = "node",
        *,
        settings: Any = None,
        environ: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        **plan: Any,
    ) -> Child:
        """Start a process of `child.py` and return it; `ready` waits for it.

        `settings` and `environ` are added to the fleet's; `within` is a command that runs it.
        """
        everything = {
            "role": role,
            "log": str(self.folder / "oracle.log"),
            "settings": {**self._all_settings(), **(settings or {})},
            **plan,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DUETIME_")}
        clean["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        errors = self.folder / f"stderr-{len(self.children)}.log"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*within, sys.executable, "-m", "tests.processes.child", json.dumps(everything)],
                cwd=self.folder,
                env={**clean, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        child = Child(process, errors)
        self.children.append(child)
        return child

    def start_ready(self, count: int, role: str = "node", **plan: Any) -> list[Child]:
        """Start several processes and wait until each says that it is ready."""
        children = [self.start(role, **plan) for _ in range(count)]
        self.ready(*children)
        return children

    def ready(self, *children: Child) -> None:
        """Wait until these processes say that they are ready."""
        wanted = {child.pid for child in children}

        def all_there() -> bool:
            for child in children:
                assert child.alive, f"it died at its start: {child.errors.read_text('utf-8')}"
            return wanted <= {line.pid for line in self.oracle.lines("ready")}

        wait_until(all_there, 30 * min(4.0, crowd()), "every process is ready")

    def schedule(self, wishes: list[dict[str, Any]]) -> dict[str, int]:
        """Schedule events, write down that they were acknowledged; return due times (µs) by id."""
        due = {}
        for event in self.scheduler.schedule_many(wishes):
            self.log.write("asked", event.id)
            due[event.id] = event.row[0]
        return due

    def running(self) -> list[Child]:
        """Return the processes that are alive, oldest first."""
        return [child for child in self.children if child.alive]

    def stop(self, *children: Child) -> None:
        """Ask processes to stop, all at once; each must end well."""
        for child in children:
            if child.alive:
                child.process.terminate()
        for child in children:
            code = child.process.wait(30)
            assert code == 0, f"exit code {code}: {child.errors.read_text('utf-8')[-2000:]}"

    def stop_all(self) -> dict[str, int]:
        """Stop every process that runs; return the sum of the counters they wrote at their end."""
        self.stop(*self.running())
        total: dict[str, int] = {}
        for line in self.oracle.lines("tally"):
            for name, number in json.loads(line.note).items():
                total[name] = total.get(name, 0) + number
        return total

    def said(self, text: str) -> list[str]:
        """Return the lines on stderr, of all processes, that contain a text."""
        return [
            line
            for child in self.children
            for line in child.errors.read_text("utf-8", "replace").splitlines()
            if text in line
        ]

    def early(self, error: int = 0) -> list[Line]:
        """Return the starts that came before the due time that the event's id carries.

        By more than rounding and `error` (µs); for events that were never moved to an earlier time.
        """
        return [
            line
            for line in self.oracle.lines("began")
            if (place := place_of(line.id)) and line.at + _ROUNDING + error < place.due_at
        ]

    def empty(self) -> bool:
        """Tell whether no event waits, is claimed or is parked (the dead are not looked at)."""
        counts = self.scheduler.counts()
        return not (counts.scheduled or counts.claimed or counts.parked)

    def counts(self) -> Counts:
        """Count what is kept."""
        return self.scheduler.counts()

    def dead(self) -> list[Event]:
        """Return every dead event."""
        dead: list[Event] = []
        while page := self.scheduler.dead(limit=1000, after=dead[-1] if dead else None):
            dead += page
        return dead

    def execute(self, sql: str, *bindings: Any) -> list[Any]:
        """Return the first column of what SQL answers; tables are named without their prefix."""
        return [row[0] for row in self.place.rows(sql, *bindings)]

    def numbers(self, child: Child) -> set[int]:
        """Return the node numbers that a process has, or had when it last wrote something down."""
        said = {line.claim >> 32 for line in self.oracle.lines("began") if line.pid == child.pid}
        roll = self.place.rows("SELECT number, info FROM nodes")
        return said | {number for number, info in roll if json.loads(info)["pid"] == child.pid}

    def held_by(self, child: Child) -> dict[str, int]:
        """Return what a process holds by its claims, killed or not: due times (µs) by id."""
        numbers = self.numbers(child)
        return {
            event.id: event.row[0]
            for event in self.scheduler.find(limit=1000, state=State.CLAIMED)
            if event.token[0] >> 32 in numbers
        }

    def integrity(self) -> list[str]:
        """Return what `duetime check` finds wrong."""
        return found(self.place)

    def close(self) -> None:
        """Leave no process and no open file behind."""
        for child in self.children:
            if child.alive:
                child.signal(signal.SIGCONT)
                child.process.kill()
            child.process.wait()
        self.scheduler.close()
        if not self._closed:
            self.log.close()
        self._closed = True

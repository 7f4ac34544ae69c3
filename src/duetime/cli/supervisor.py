"""Several nodes as child processes: start, watch, start again with growing pauses, stop.

`Supervisor.step` is told the time and does what is due; processes, signals and waiting are
`running.py`'s. A child that ends is replaced, whatever ended it, except after an exit that would
only repeat itself: bad usage, configuration or schema.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from duetime.clock import MICROS

__all__ = ["Child", "Supervisor"]

_HOPELESS = (2, 4)  # exit codes of usage, configuration, schema
_FIRST_PAUSE, _LONGEST_PAUSE = MICROS // 2, 30 * MICROS
_STEADY = 60 * MICROS  # who lived so long has not failed at its start
_PATIENCE = 10 * MICROS  # beyond the grace time of a child, for its last writes
_HURRY = 2 * MICROS  # after the second signal


class Child(Protocol):
    """What is asked of a process; `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to stop."""

    def kill(self) -> None:
        """Stop it without asking."""


class _Slot:
    """One place for a child."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.started = 0  # boot time in µs
        self.again = 0  # boot time in µs when it may be started again
        self.failures = 0  # in a row


class Supervisor:
    """Keeps so many children alive until it is told to stop."""

    def __init__(
        self,
        spawn: Callable[[], Child],
        processes: int,
        grace: float,
        say: Callable[[str], None],
    ) -> None:
        """`grace` is what the children give their handlers, in seconds."""
        self._spawn = spawn
        self._slots = [_Slot() for _ in range(processes)]
        self._patience = int(grace * MICROS) + _PATIENCE
        self._say = say
        self._kill_at: int | None = None
        self.exit_code = 0

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._kill_at is not None

    @property
    def finished(self) -> bool:
        """Whether it was told to stop, and every child has ended."""
        return self.stopping and all(slot.child is None for slot in self._slots)

    def step(self, now: int) -> int | None:
        """Do what is due at a boot time in µs; return when to be called again, if no child ends."""
        for number, slot in enumerate(self._slots, 1):
            if slot.child is not None and (code := slot.child.poll()) is not None:
                self._ended(number, slot, code, now)
            if slot.child is None and not self.stopping and now >= slot.again:
                slot.child = self._spawn()
                slot.started = now
                if self.stopping:  # a signal came meanwhile, and its stop did not see this child
                    slot.child.terminate()
        if self._kill_at is None:
            waiting = [slot.again for slot in self._slots if slot.child is None]
            return min(waiting, default=None)
        if now >= self._kill_at:
            self._each(lambda child: child.kill())
            return None
        return self._kill_at

    def stop(self, now: int) -> None:
        """Ask every child to stop; asked a second time, do not wait for their handlers."""
        if self.stopping:
            self._say("stopping at once")
            self._kill_at = now + _HURRY
        else:
            self._say("stopping; a second signal stops at once")
            self._kill_at = now + self._patience
        self._each(lambda child: child.terminate())

    def _each(self, act: Callable[[Child], None]) -> None:
        for slot in self._slots:
            if slot.child is not None:
                with suppress(ProcessLookupError):
                    act(slot.child)

    def _ended(self, number: int, slot: _Slot, code: int, now: int) -> None:
        assert slot.child is not None
        name = f"process {number} ({slot.child.pid})"
        slot.child = None
        if self.stopping:
            return
        if code in _HOPELESS:
            self._say(f"{name} ended with exit code {code}: starting it again would not help")
            self.exit_code = code
            self.stop(now)
            return
        slot.failures = 0 if now - slot.started >= _STEADY else slot.failures + 1
        pause = min(_FIRST_PAUSE << min(max(slot.failures - 1, 0), 10), _LONGEST_PAUSE)
        slot.again = now + pause
        self._say(f"{name} {_cause(code)}; starting another in {pause / MICROS:g} s")


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"

"""Calls that can wait in the middle: threads of which exactly one runs at any moment.

Production code calls the store and waits for the answer. In a simulated world other processes go
on meanwhile, so the waiting call has to be put aside with its whole stack: it keeps its thread,
and another thread takes over the heap of calls. Who runs is decided by the heap alone, never by
the operating system, so that a world repeats exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Fiber", "Hand", "Vanished", "another_hand"]


class Vanished(BaseException):
    """Raised inside a waiting call whose process has died, to unwind its stack."""


class Fiber:
    """A call that waits: its thread goes on when `turn` is released."""

    __slots__ = ("entry", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.entry = 0  # the heap entry that may wake it; older ones are void


class Hand:
    """A thread that runs one task after the other, and waits in `_idle` between them."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._turn.acquire()
        self._task: Callable[[Hand], None] | None = None
        threading.Thread(target=self._work, name="duetime-simulation", daemon=True).start()

    def start(self, task: Callable[[Hand], None]) -> None:
        """Run a task in this thread; the caller must stop running at once."""
        self._task = task
        self._turn.release()

    def rest(self) -> None:
        """Say that the task is about to end: the thread may be given another one."""
        _idle.append(self)

    def _work(self) -> None:
        while True:
            self._turn.acquire()
            task, self._task = self._task, None
            assert task is not None
            task(self)


_idle: list[Hand] = []  # threads outlive their world: making one costs more than a switch


def another_hand() -> Hand:
    """Return a thread that has nothing to do."""
    return _idle.pop() if _idle else Hand()

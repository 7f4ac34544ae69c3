"""A stage is a `step`; this is the thin shell of thread around it.

`step(now)` does what is due and says when to call again, or None for "when someone wakes me".
A simulation calls the same steps without threads.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

from duetime.clock import MICROS, StoreClock

__all__ = ["Flag", "Shell", "Stage", "Waker", "signals"]

_PAUSE_AFTER_ERROR = MICROS // 10
_LONGEST_WAIT = 3600 * MICROS


class Stage(Protocol):
    """One part of a node."""

    wake: Callable[[], None]  # set by whoever runs the stage

    def step(self, now: int) -> int | None:
        """Do what is due at `now`; return when to be called next (µs), or None until woken."""


class Waker:
    """A binary semaphore: a wake before the wait is not lost, many wakes are one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Let the waiting thread go on, now or as soon as it waits."""
        with contextlib.suppress(RuntimeError):  # awake already
            self._lock.release()

    def wait(self, micros: int | None) -> bool:
        """Wait until woken, at most so many µs; return whether someone woke us."""
        if micros is None:
            return self._lock.acquire()
        if micros <= 0:
            return self._lock.acquire(blocking=False)
        return self._lock.acquire(timeout=min(micros, _LONGEST_WAIT) / MICROS)


class Flag:
    """What a signal handler may set: unlike `threading.Event`, it takes no lock for that.

    The handler runs in the thread that waits, perhaps while that holds the event's lock.
    """

    def __init__(self) -> None:
        self._waker = Waker()
        self._set = False

    def set(self) -> None:
        """End the wait."""
        self._set = True
        self._waker.wake()

    def is_set(self) -> bool:
        """Tell whether it was set."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, at most so long; tell whether it is."""
        if not self._set:
            self._waker.wait(int(seconds * MICROS))
        return self._set


class Shell:
    """Runs one stage in a thread of its own until told to stop."""

    def __init__(
        self,
        stage: Stage,
        name: str,
        clock: StoreClock,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._stage = stage
        self._name = name
        self._clock = clock
        self._failed = failed
        self._waker = Waker()
        self._stopping = False
        stage.wake = self._waker.wake
        self._thread = threading.Thread(target=self._run, name=f"duetime-{name}", daemon=True)

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its step."""
        self._stopping = True
        self._waker.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end, at most so many seconds; return whether it ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        now = self._clock.now
        while not self._stopping:
            try:
                again = self._stage.step(now())
            except Exception as error:  # noqa: BLE001 - a stage outlives every fault
                self._failed(self._name, error)
                again = now() + _PAUSE_AFTER_ERROR
            self._waker.wait(None if again is None else again - now())


@contextlib.contextmanager
def signals(hurry: Callable[[], None]) -> Iterator[Flag]:
    """Catch SIGTERM and SIGINT: the first sets the flag, each further one calls `hurry`.

    Only the main thread can catch signals; elsewhere the flag is never set.
    """
    ended = Flag()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if ended.is_set():
            hurry()
        ended.set()

    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if main else ()
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

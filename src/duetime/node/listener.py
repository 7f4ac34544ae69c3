"""Hears the hints of a store that has a bell, and wakes the claimer; nothing depends on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from duetime.clock import MICROS, StoreClock
from duetime.errors import StoreError
from duetime.node.shell import Waker
from duetime.observer import ErrorReport, Level, Observers
from duetime.stores.contract import Bell

__all__ = ["Listener"]

_PATIENCE = 0.25  # seconds of one wait: how long a stop may take
_FIRST_PAUSE = MICROS // 2  # after a lost connection; doubles up to:
_LAST_PAUSE = 30 * MICROS


class Listener:
    """A thread that waits for rings; one that fails is told once and tried again later."""

    def __init__(
        self,
        bell: Bell,
        hint: Callable[[int, int], None],
        clock: StoreClock,
        observers: Observers,
    ) -> None:
        self._bell = bell
        self._hint = hint
        self._clock = clock
        self._observers = observers
        self._waker = Waker()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="duetime-listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """End the thread and its connection; wait at most so many seconds for it."""
        self._stopping = True
        self._waker.wake()
        self._thread.join(timeout)

    def _run(self) -> None:
        pause = 0
        while not self._stopping:
            try:
                due_at = self._bell.hear(_PATIENCE)
            except StoreError as error:
                if not pause:
                    text = (
                        f"not heard any more, so events of others wait for the next look: {error}"
                    )
                    self._observers.error(ErrorReport(Level.INFO, "listener", text, error=error))
                pause = min(_LAST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
                self._waker.wait(pause)
                continue
            pause = 0
            if due_at is not None:
                self._hint(due_at, self._clock.now())
        self._bell.close()

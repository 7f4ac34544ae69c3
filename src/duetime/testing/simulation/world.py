"""Virtual time: a heap of calls, one of which runs at any moment; a seed decides the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from duetime.testing.simulation.fibers import Fiber, Hand, Vanished, another_hand

__all__ = ["EPOCH", "Owner", "World"]

EPOCH = 1_893_456_000_000_000  # µs: the store's clock when a world begins, 2030-01-01
_MOST_CALLS = 60_000  # a world takes 2,000 as a rule, 20,000 at most; with more it is spinning

Entry = tuple[int, int, int, "Owner | None", "Callable[[], None] | Fiber"]


class Owner(Protocol):
    """A process: its calls are void when it is dead and put off while it is paused."""

    alive: bool
    paused_until: int


class World:
    """Calls pop off the heap in the order of time; those of one instant in an order drawn."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = 0  # µs of true time since the world began; no process sees it
        self.over = False
        self.calls = 0
        self.store_step = 0  # µs that the store's clock is off
        self.failures: list[str] = []
        self.trace: list[str] | None = [] if keep_trace else None
        self._digest = blake2b(digest_size=16)
        self._heap: list[Entry] = []
        self._entries = 0
        self._parked: dict[Fiber, None] = {}
        self._finished = threading.Lock()
        self._fault: BaseException | None = None

    # --- time ----------------------------------------------------------------------------------

    def push(self, at: int, call: Callable[[], None] | Fiber, owner: Owner | None = None) -> int:
        """Make a call later; return the number of its entry."""
        if at < self.now:
            raise AssertionError(f"A call was asked for {self.now - at} µs in the past.")
        self._entries += 1
        tie = self.rng.getrandbits(16)
        heappush(self._heap, (at, tie, self._entries, owner, call))
        return self._entries

    def after(self, micros: int, call: Callable[[], None], owner: Owner | None = None) -> None:
        """Make a call in so many µs."""
        self.push(self.now + micros, call, owner)

    def wait(self, micros: int, owner: Owner | None = None) -> None:
        """Let so much time pass for the caller, while the others go on."""
        if self.jump(micros, owner):
            return
        fiber = Fiber()
        fiber.entry = self.push(self.now + max(0, micros), fiber, owner)
        self.park(fiber, owner)

    def jump(self, micros: int, owner: Owner | None = None) -> bool:
        """Let so much time pass at once if nobody else has a turn before: no switch is needed."""
        self.check(owner)
        at = self.now + max(0, micros)
        paused = owner is not None and owner.paused_until > self.now
        if paused or not self._heap or at >= self._heap[0][0]:
            return False
        self.now = at
        return True

    def check(self, owner: Owner | None) -> None:
        """Raise Vanished if the caller's process no longer exists."""
        if self.over or (owner is not None and not owner.alive):
            raise Vanished

    def park(self, fiber: Fiber, owner: Owner | None) -> None:
        """Put the running call aside until its fiber's entry is popped."""
        self.check(owner)
        self._parked[fiber] = None
        another_hand().start(self._loop)
        fiber.turn.acquire()
        self.check(owner)

    def wake(self, fiber: Fiber, owner: Owner | None) -> None:
        """Let a parked call go on now instead of later."""
        if fiber in self._parked:
            fiber.entry = self.push(self.now, fiber, owner)

    # --- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Make calls until `stop`; then unwind those that wait."""
        self._finished.acquire()
        another_hand().start(self._loop)
        with self._finished:
            if self._fault is not None:
                raise self._fault

    def stop(self) -> None:
        """End the world after the running call."""
        self.over = True

    def _loop(self, hand: Hand) -> None:
        """Make calls in this thread until a parked call is to go on in its own."""
        while not self.over:
            fiber = self._turn()
            if fiber is not None:
                self._resume(fiber, hand)
                return
        if self._parked:
            self._resume(next(iter(self._parked)), hand)
            return
        hand.rest()
        self._finished.release()

    def _resume(self, fiber: Fiber, hand: Hand) -> None:
        del self._parked[fiber]
        hand.rest()
        fiber.turn.release()

    def _turn(self) -> Fiber | None:
        """Take the next entry: make its call, or return the fiber that has to go on."""
        try:
            return self._pop()
        except Vanished:
            return None
        except BaseException as error:  # noqa: BLE001 - raised again where the world was started
            self._fault = error
            self.over = True
            return None

    def _pop(self) -> Fiber | None:
        at, _, number, owner, call = heappop(self._heap)
        if owner is not None and owner.alive and owner.paused_until > at:
            again = self.push(owner.paused_until, call, owner)
            if isinstance(call, Fiber) and call.entry == number:
                call.entry = again
            return None
        if at < self.now:
            raise AssertionError("The world's time went backwards.")
        self.now = at
        self.calls += 1
        if isinstance(call, Fiber):
            return call if call.entry == number and call in self._parked else None
        if self.calls > _MOST_CALLS:
            self.fail("L0", f"the world is spinning: {self.calls} calls")
            self.over = True
        elif owner is None or owner.alive:
            call()
        return None

    # --- what is seen ----------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        """Add a line to the trace."""
        line = f"{self.now:>11} {' '.join(map(str, what))}"
        self._digest.update(line.encode())
        if self.trace is not None:
            self.trace.append(line)

    def fail(self, promise: str, text: str) -> None:
        """Book a broken promise; the world goes on for the sake of the trace."""
        if not self.over:
            self.note("BROKEN", promise, text)
            self.failures.append(f"{promise} at {self.now / 1e6:.6f} s: {text}")

    @property
    def digest(self) -> str:
        """A hash of everything that happened."""
        return self._digest.hexdigest()

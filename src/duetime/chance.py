"""The only module that knows chance: jitter, ids of nodes, and the tails of places."""

from __future__ import annotations

import os
from itertools import count
from random import Random
from typing import Protocol

from duetime.event import TAIL_BITS

__all__ = ["Chance", "SystemChance", "Tails", "secret_text"]

_TAILS = 1 << TAIL_BITS


class Chance(Protocol):
    """Where randomness comes from; a simulation passes one with a seed."""

    def random(self) -> float:
        """Return a number in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """Return a number of k random bits."""


def secret_text(size: int) -> str:
    """Return `size` bytes that nobody can guess, in hex."""
    return os.urandom(size).hex()


class SystemChance(Random):
    """Seeded by the operating system, and anew in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        os.register_at_fork(after_in_child=self.seed)


class Tails:
    """Numbers that tell events of one shard and microsecond apart.

    They count up from a random start: events that one process schedules for the same instant keep
    their order, and two processes meet with a chance of about 2**-60 per pair of such events.
    """

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._restart()
        os.register_at_fork(after_in_child=self._restart)

    def _restart(self) -> None:
        self._count = count(self._chance.getrandbits(TAIL_BITS))

    def next(self) -> int:
        """Return the next tail."""
        return next(self._count) % _TAILS

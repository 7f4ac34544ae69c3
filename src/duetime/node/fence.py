"""The right to start handlers: it runs out by itself when this node can no longer beat."""

from __future__ import annotations

import os
import weakref

__all__ = ["Fence"]


class Fence:
    """Open until a moment on the boot clock that each successful beat moves on.

    A node counts as dead to the others when its beats fail for `lease`; it stops starting
    handlers `margin` earlier, by its own boot clock, counted from when the beat was sent.
    """

    __slots__ = ("__weakref__", "forked", "number", "oldest", "until")

    def __init__(self) -> None:
        self.number = 0  # this node's number on the roll; 0 while it is not on it
        self.oldest = 0  # claims with a lower number are of an earlier life of this process
        self.until = 0  # boot clock, µs
        self.forked = False  # whether this is a copy in a forked child, where no node runs
        _fences.add(self)

    def enter(self, number: int) -> None:
        """Take a number on the roll."""
        self.number = number
        self.oldest = number << 32

    def is_open(self, boot: int) -> bool:
        """Tell whether a handler may be started at this moment of the boot clock."""
        return boot < self.until


_fences: weakref.WeakSet[Fence] = weakref.WeakSet()


def _close_all() -> None:
    """In a forked child, which may be the child of a handler: what is held is the parent's."""
    for fence in list(_fences):
        fence.until = 0
        fence.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)

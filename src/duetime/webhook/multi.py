"""libcurl's calls at once, on one selector: begins them, waits for them, and can be woken."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Sized
from typing import Any

import pycurl

from duetime.clock import MICROS, SystemClock
from duetime.webhook.addresses import Guard
from duetime.webhook.exchange import Exchange
from duetime.webhook.policy import Limits, Policy

__all__ = ["Multi"]

_KEPT = 256  # connections that wait for another use; and handles
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Multi:
    """Used by one thread, except `wake`."""

    def __init__(self) -> None:
        self._clock = SystemClock()  # libcurl measures time itself: no other clock would serve
        self._selector = selectors.DefaultSelector()
        self._due: int | None = 0  # boot time (µs) at which libcurl wants to be called
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._selector.register(self._ours, _READ)
        self._watched: dict[int, int] = {}  # socket: events
        self._asleep = False
        self._free: list[Exchange] = []
        self._by_handle: dict[Any, Exchange] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, _KEPT)

    def wake(self) -> None:
        """End a wait early; called from any thread."""
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(OSError):  # full: it is awake already; or closed
                self._theirs.send(b".")

    def lend(self, policy: Policy, limits: Limits, guard: Guard) -> Exchange:
        """Return a handle that is free."""
        return self._free.pop() if self._free else Exchange(policy, limits, guard)

    def add(self, exchange: Exchange) -> None:
        """Begin a call."""
        self._by_handle[exchange.curl] = exchange
        self._multi.add_handle(exchange.curl)

    def give_back(self, exchange: Exchange) -> None:
        """Take a handle back, also one whose call has not ended."""
        if self._by_handle.pop(exchange.curl, None) is not None:
            self._multi.remove_handle(exchange.curl)
        if len(self._free) < _KEPT:
            self._free.append(exchange)
        else:
            exchange.close()

    def wait(self, micros: int, inbox: Sized) -> list[tuple[Exchange, int, str]]:
        """Wait for at most so many µs, or not at all if there is something in the inbox.

        Return the calls that ended: code (0: well) and text.
        """
        if self._due is not None:
            micros = min(micros, self._due - self._clock.boot())
        # First this, then the look: whoever puts something in after the look wakes us.
        self._asleep = True
        ready = self._selector.select(0 if inbox else max(0, micros) / MICROS)
        self._asleep = False
        for key, events in ready:
            if key.fileobj is self._ours:
                with contextlib.suppress(BlockingIOError):
                    self._ours.recv(4096)
                continue
            bits = (pycurl.CSELECT_IN if events & _READ else 0) | (
                pycurl.CSELECT_OUT if events & _WRITE else 0
            )
            self._multi.socket_action(key.fd, bits)
        if self._due is not None and self._clock.boot() >= self._due:
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._ended()

    def close(self) -> None:
        """Close all connections."""
        for exchange in [*self._by_handle.values()]:
            self.give_back(exchange)
        for exchange in self._free:
            exchange.close()
        self._free.clear()
        self._multi.close()
        self._selector.close()
        self._ours.close()
        self._theirs.close()

    def _ended(self) -> list[tuple[Exchange, int, str]]:
        found: list[tuple[Exchange, int, str]] = []
        if not self._by_handle:
            return found
        while True:
            left, good, bad = self._multi.info_read(1000)
            found += [(self._by_handle[curl], 0, "") for curl in good]
            found += [(self._by_handle[curl], code, text) for curl, code, text in bad]
            if not left:
                return found

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """Hear from libcurl which socket it waits for, and for what."""
        known = self._watched.get(fd)
        if what == pycurl.POLL_REMOVE:
            if known is not None:
                self._selector.unregister(fd)
                del self._watched[fd]
            return
        events = (_READ if what & pycurl.POLL_IN else 0) | (_WRITE if what & pycurl.POLL_OUT else 0)
        if known is None:
            self._selector.register(fd, events)
        elif known != events:
            self._selector.modify(fd, events)
        self._watched[fd] = events

    def _set_timer(self, millis: int) -> None:
        self._due = None if millis < 0 else self._clock.boot() + millis * 1000

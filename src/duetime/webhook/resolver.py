"""Names to addresses, in threads of their own, because a resolver can hang for half a minute.

Each name is resolved by one thread at a time, and its addresses stay pinned for a while: whoever
connects uses those that were checked, and never asks again.
"""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["Found", "Resolver", "look_up"]

_MOST = 10_000  # names whose addresses are remembered

Found = tuple[str, ...] | str  # addresses, or why there are none


def look_up(host: str) -> tuple[str, ...]:
    """Return the addresses of a name, in the order to try them. Raises OSError."""
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))


class Resolver:
    """Used by one thread; `found` is called from others."""

    def __init__(
        self,
        look_up: Callable[[str], tuple[str, ...]],
        found: Callable[[str, Found], None],
        threads: int,
        ttl: int,
    ) -> None:
        """Take how to look up (OSError: not found), whom to tell, and the µs to keep answers."""
        self._look_up = look_up
        self._found = found
        self._most = threads
        self._ttl = ttl
        self._pinned: OrderedDict[str, tuple[int, tuple[str, ...]]] = OrderedDict()
        self._asked: set[str] = set()
        self._wakeup = threading.Condition()
        self._hosts: deque[str] = deque()
        self._threads = 0
        self._idle = 0
        self._stopping = False

    def pinned(self, host: str, now: int) -> tuple[str, ...] | None:
        """Return the addresses of a name, where they are known and fresh."""
        known = self._pinned.get(host)
        return known[1] if known is not None and now < known[0] else None

    def ask(self, host: str) -> None:
        """Have a name resolved, unless that is under way."""
        if host in self._asked:
            return
        self._asked.add(host)
        with self._wakeup:
            self._hosts.append(host)
            if self._idle >= len(self._hosts):
                self._wakeup.notify()
                return
            if self._threads >= self._most:
                return
            self._threads += 1
            name = f"duetime-resolver-{self._threads}"
        # A daemon, because a look-up cannot be stopped and must not hold up the process's end.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def keep(self, host: str, found: Found, now: int) -> None:
        """Take what was told about a name; failures are not kept."""
        self._asked.discard(host)
        self._pinned.pop(host, None)
        if isinstance(found, tuple) and self._ttl:
            self._pinned[host] = (now + self._ttl, found)
            while len(self._pinned) > _MOST:
                self._pinned.popitem(last=False)

    def stop(self) -> None:
        """Let the threads end."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify_all()

    def _work(self) -> None:
        while True:
            with self._wakeup:
                while not self._hosts:
                    if self._stopping:
                        return
                    self._idle += 1
                    self._wakeup.wait()
                    self._idle -= 1
                host = self._hosts.popleft()
            result: Found
            try:
                result = self._look_up(host) or "it has no address"
            except (OSError, UnicodeError) as error:
                result = str(getattr(error, "strerror", None) or error)
            self._found(host, result)

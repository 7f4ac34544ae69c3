"""A network of its own for one process, whose link can be cut in silence, both ways or one way."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count
from types import TracebackType
from typing import Self

__all__ = ["Network"]

_NOWHERE = "02:00:00:00:00:01"
_serial = count(1)


class Network:
    """A namespace joined to this machine by a pair of links; needs root and the program `ip`.

    A link is cut by giving the other end a hardware address that nobody has: packets leave and
    never arrive, and neither side is told.
    """

    def __init__(self) -> None:
        number = next(_serial)
        tag = f"{os.getpid() % 10_000}x{number}"
        self._space, self._near, self._far = f"dt{tag}", f"dn{tag}", f"df{tag}"
        subnet = f"10.{180 + number % 50}.{os.getpid() % 250}"
        self.host, self._inside = f"{subnet}.1", f"{subnet}.2"

    @staticmethod
    def possible() -> bool:
        """Tell whether this machine lets us make one."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        words = ["ip", "netns", "add", f"dtry{os.getpid()}"]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            return False
        _ip("netns", "del", f"dtry{os.getpid()}")
        return True

    @property
    def within(self) -> tuple[str, ...]:
        """The command that runs another one inside."""
        return ("ip", "netns", "exec", self._space)

    def __enter__(self) -> Self:
        _ip("netns", "add", self._space)
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far)
        _ip("link", "set", self._far, "netns", self._space)
        _ip("addr", "add", f"{self.host}/24", "dev", self._near)
        _ip("link", "set", self._near, "up")
        self._inner("addr", "add", f"{self._inside}/24", "dev", self._far)
        self._inner("link", "set", self._far, "up")
        self._inner("link", "set", "lo", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ip("link", "del", self._near)
        _ip("netns", "del", self._space)

    def cut(self, *, answers_only: bool = False) -> None:
        """Let nothing arrive any more; or only nothing that is sent to the process inside."""
        self._misdirect(_ip, self._inside, self._near)
        if not answers_only:
            self._misdirect(self._inner, self.host, self._far)

    def heal(self) -> None:
        """Let packets arrive again."""
        _ip("neigh", "flush", "dev", self._near, "nud", "permanent")
        self._inner("neigh", "flush", "dev", self._far, "nud", "permanent")

    def _inner(self, *words: str) -> None:
        _ip("-n", self._space, *words)

    def _misdirect(self, ip: object, address: str, device: str) -> None:
        assert callable(ip)
        ip("neigh", "replace", address, "lladdr", _NOWHERE, "nud", "permanent", "dev", device)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

"""A TCP proxy between a store and its server: it loses replies, kills and stalls on demand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Listens on a port of its own and forwards to one server.

    `lose(when)` waits for a request that satisfies `when`, lets the server carry it out, drops the
    reply and closes both sides. `stall()` forwards nothing more, with all sockets open.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0  # replies that were dropped
        self._when: Callable[[bytes], bool] | None = None
        self._moving = threading.Event()
        self._moving.set()
        self._closed = False
        self._silent: set[tuple[socket.socket, socket.socket]] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def lose(self, when: Callable[[bytes], bool]) -> None:
        """Drop the reply to the next request of this kind."""
        self._when = when

    def stall(self) -> None:
        """Forward nothing more in either direction until `go_on`."""
        self._moving.clear()

    def stall_all(self) -> None:
        """Forward nothing more on the connections there are; new ones are not touched."""
        self._silent.update(self._pairs)

    def go_on(self) -> None:
        """Forward again."""
        self._moving.set()

    def cut(self) -> None:
        """Close every connection."""
        for pair in self._pairs:
            for each in pair:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._moving.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for pair in self._pairs:
            for each in pair:
                each.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, 5)
            except OSError:
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            dropping = threading.Event()
            self._start(self._forward, client, server, dropping, True)
            self._start(self._forward, server, client, dropping, False)

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        dropping: threading.Event,
        asks: bool,  # noqa: FBT001 - passed on by a thread
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._moving.wait()
                if {(source, target), (target, source)} & self._silent:
                    continue
                if asks and self._when is not None and self._when(data):
                    self._when = None
                    dropping.set()
                if not asks and dropping.is_set():
                    self.lost += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

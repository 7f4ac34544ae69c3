"""A TCP proxy between a store and its server: it loses, delays, kills and stalls on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Listens on a port of its own and forwards to one server.

    `lose(when)` waits for a request that satisfies `when`, lets the server carry it out, drops the
    reply and closes both sides. `stall()` forwards nothing more, with all sockets open. `delay`
    is asked before each piece of data how many seconds it shall wait.
    """

    def __init__(self, host: str, port: int, listen: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._listener = socket.create_server((listen, 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0  # replies that were dropped
        self.dropped = 0  # requests that were dropped
        self.accepted: list[float] = []  # when each connection came, by the monotonic clock
        self.delay: Callable[[], float] | None = None
        self._when: Callable[[bytes], bool] | None = None
        self._then: bytes | None = None
        self._unheard: Callable[[bytes], bool] | None = None
        self._moving = threading.Event()
        self._moving.set()
        self._closed = False
        self._silent: set[tuple[socket.socket, socket.socket]] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def lose(self, when: Callable[[bytes], bool], then: bytes | None = None) -> None:
        """Drop the reply to the next request of this kind.

        With `then`, to the next request that holds it and follows on the same connection.
        """
        self._then = then
        self._when = when

    def swallow(self, when: Callable[[bytes], bool]) -> None:
        """Close the connection at the next request of this kind, which never reaches the server."""
        self._unheard = when

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
            self.accepted.append(time.monotonic())
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
        then: bytes | None = None
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._moving.wait()
                if self.delay is not None:
                    time.sleep(self.delay())
                if {(source, target), (target, source)} & self._silent:
                    continue
                if asks and self._unheard is not None and self._unheard(data):
                    self._unheard = None
                    self.dropped += 1
                    break
                if asks and self._when is not None and self._when(data):
                    self._when, then = None, self._then
                    if then is None:
                        dropping.set()
                elif asks and then is not None and then in data:
                    dropping.set()
                if not asks and dropping.is_set():
                    self.lost += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

"""Receivers for the tests: plain sockets in threads, as good or as bad as each test needs."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from duetime.clock import SystemClock
from duetime.webhook import Limits, Policy, Request, Sender
from duetime.webhook.url import parse_url

DEADLINE = 10.0  # seconds: nothing here takes so long unless it is broken
CLOCK = SystemClock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Seen(NamedTuple):
    """A request as it came in."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        (value,) = [value for key, value in self.headers if key.lower() == name]
        return value


class Receiver:
    """Accepts connections and lets `behave` answer each request; it may also just hold them."""

    def __init__(
        self,
        behave: bytes | Callable[[socket.socket, Seen], object] = OK,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.behave = behave
        self.seen: list[Seen] = []
        self.connections = 0
        self.closing = threading.Event()
        self._tls = tls
        self._listener = socket.create_server((host, 0), backlog=512)
        self.host, self.port = self._listener.getsockname()[:2]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(DEADLINE)

    def url(self, host: str = "example.test", path: str = "/hook") -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host}:{self.port}{path}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError, ValueError))
            stack.callback(connection.close)
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                stack.callback(connection.close)
                connection.do_handshake()
            while (seen := self._read(connection)) is not None:
                self.seen.append(seen)
                if isinstance(self.behave, bytes):
                    connection.sendall(self.behave)
                elif self.behave(connection, seen) is not None:
                    return

    def _read(self, connection: socket.socket) -> Seen | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._more(connection)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = [(key, value.strip()) for key, _, value in (one.partition(":") for one in rest)]
        length = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
        while len(body) < length:
            body += self._more(connection)
        return Seen(line, headers, body)

    def _more(self, connection: socket.socket) -> bytes:
        while not self.closing.is_set():
            if isinstance(connection, ssl.SSLSocket) and connection.pending():
                break
            if select.select([connection], [], [], 0.05)[0]:
                break
        return b"" if self.closing.is_set() else connection.recv(65_536)


def hold(receiver: Receiver) -> Callable[[socket.socket, Seen], object]:
    """Return a behaviour that is silent until the receiver closes."""
    return lambda _connection, _seen: receiver.closing.wait(DEADLINE)


def drip(start: bytes, piece: bytes, pause: float) -> Callable[[socket.socket, Seen], object]:
    """Return a behaviour that sends a start and then a piece every so many seconds, for ever."""
    never = threading.Event()

    def behave(connection: socket.socket, _seen: Seen) -> object:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            if pause:
                never.wait(pause)

    return behave


def flood(start: bytes, piece: bytes) -> Callable[[socket.socket, Seen], object]:
    """Return a behaviour that sends a start and then pieces as fast as it can."""
    return drip(start, piece * (1 + 4096 // len(piece)), 0)


def lenient(*ports: int, **more: object) -> Policy:
    """Return a policy that lets tests call this machine."""
    settings: dict[str, Any] = {"allow_http": True, "allow_private": True, "ports": ports, **more}
    return Policy(**settings)


@contextmanager
def sending(
    *ports: int, limits: Limits | None = None, policy: Policy | None = None, **more: object
) -> Iterator[Sender]:
    """Give a sender for which every name is this machine."""
    more.setdefault("resolve", lambda _host: ("127.0.0.1",))
    with Sender(
        policy=policy or lenient(*ports),
        limits=limits or Limits(timeout=5.0, connect=2.0),
        **more,  # type: ignore[arg-type] # the same
    ) as sender:
        yield sender


def post(url: str, body: bytes = b"{}", timeout: float | None = None) -> Request:
    return Request(parse_url(url), "POST", ["webhook-id: e1", "Expect:"], body, timeout)


def elapsed(since: int) -> float:
    """Return the seconds since a boot time."""
    return (CLOCK.boot() - since) / 1_000_000

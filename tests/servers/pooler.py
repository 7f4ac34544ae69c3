"""A pooler for PostgreSQL that gives each transaction another connection to the server.

As such poolers do, it knows no start-up options: it refuses them, or drops them without a word.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from tests.servers.local import Address

__all__ = ["Pooler"]

_VERSION, _TLS, _GSS = 196_608, 80_877_103, 80_877_104


class Message(NamedTuple):
    """One message of the protocol."""

    kind: bytes
    body: bytes

    def packed(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body


class Pooler:
    """Listens on a port of its own; `size` connections to one database serve all clients."""

    def __init__(self, server: Address, database: str, *, size: int = 3, refuses: bool) -> None:
        self.refuses = refuses
        self.transactions = 0
        self._place = (server.host, server.port)
        self._login = {"user": server.user, "database": database}
        self._greeting: list[Message] = []
        self._idle: queue.Queue[socket.socket] = queue.Queue()
        self._sockets: list[socket.socket] = []
        for _ in range(size):
            self._idle.put(self._connect())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in [self._listener, *self._sockets]:
            each.close()

    def _start(self, target: object, *args: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep(self, link: socket.socket) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets.append(link)

    def _connect(self) -> socket.socket:
        """Connect to the server and keep what it says in the beginning."""
        link = socket.create_connection(self._place, 10)
        self._keep(link)
        pairs = {**self._login, "client_encoding": "UTF8"}
        text = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items()) + b"\0"
        link.sendall(struct.pack("!ii", len(text) + 8, _VERSION) + text)
        self._greeting = []
        while True:
            message = _read(link)
            assert message.kind != b"E", message.body
            self._greeting.append(message)
            if message.kind == b"Z":
                return link

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._keep(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            if self._greets(client):
                while True:
                    self._transaction(client, _read(client))
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _greets(self, client: socket.socket) -> bool:
        """Answer the first packets of a client; tell whether it may stay."""
        while True:
            (length,) = struct.unpack("!i", _take(client, 4))
            body = _take(client, length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code not in (_TLS, _GSS):
                break
            client.sendall(b"N")
        if self.refuses and b"\0options\0" in body:
            text = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(Message(b"E", text).packed())
            return False
        client.sendall(b"".join(message.packed() for message in self._greeting))
        return True

    def _transaction(self, client: socket.socket, message: Message) -> None:
        """Pass on messages until the server is outside a transaction again."""
        if message.kind == b"X":
            raise EOFError
        server = self._idle.get(timeout=10)
        self.transactions += 1
        try:
            starter = b""
            while True:
                server.sendall(message.packed())
                if message.kind in b"QS":
                    starter = message.kind
                asks = message.kind in b"QS" or (message.kind in b"cf" and starter == b"Q")
                if asks and self._answered(server, client):
                    return
                message = _read(client)
        finally:
            self._idle.put(server)

    def _answered(self, server: socket.socket, client: socket.socket) -> bool:
        """Pass on an answer; tell whether the transaction has ended."""
        while True:
            message = _read(server)
            client.sendall(message.packed())
            if message.kind == b"Z":
                return message.body == b"I"
            if message.kind == b"G":
                return False  # now the client has rows to send


def _read(link: socket.socket) -> Message:
    kind = _take(link, 1)
    (length,) = struct.unpack("!i", _take(link, 4))
    return Message(kind, _take(link, length - 4))


def _take(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data

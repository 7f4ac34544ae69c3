"""A pooler for MySQL and MariaDB that gives each transaction another connection to the server.

As such poolers do, it carries a client's session settings over to the connection that it lends.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pymysql

from tests.servers.local import Address

__all__ = ["Switching"]

# What the server can do that this pooler does not pass on: TLS, compression, and answers without
# the packets that end rows.
_NOT = 0x20 | 0x800 | 1 << 23 | 1 << 24 | 1 << 26
_IN_TRANSACTION = 1
_OK, _END, _ERROR = 0x00, 0xFE, 0xFF
_QUIT = 0x01


class _Server:
    """One connection to the server, and whose settings it has."""

    def __init__(self, address: Address, database: str) -> None:
        self.link: Any = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=database,
            autocommit=None,
        )
        self.socket: socket.socket = self.link._sock
        self.settings: tuple[bytes, ...] = ()


class Switching:
    """Listens on a port of its own; `size` connections to one database serve all clients."""

    def __init__(self, server: Address, database: str, *, size: int = 3) -> None:
        self.transactions = 0
        self._idle: queue.Queue[_Server] = queue.Queue()
        self._servers = [_Server(server, database) for _ in range(size)]
        for each in self._servers:
            self._idle.put(each)
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in (self._listener, *self._clients):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for server in self._servers:
            server.link.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            client.sendall(_packet(0, self._greeting()))
            _read(client)
            client.sendall(_packet(2, b"\0\0\0\2\0\0\0"))
            settings: tuple[bytes, ...] = ()
            request = _read(client)
            while request[4] != _QUIT:
                settings, request = self._transaction(client, settings, request)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _greeting(self) -> bytes:
        link = self._servers[0].link
        can = link.server_capabilities & ~_NOT
        return b"".join(
            [
                b"\x0a" + link.server_version.encode() + b"\0",
                struct.pack("<I", 1) + b"12345678\0",
                struct.pack("<H", can & 0xFFFF) + b"\x2d\x02\0" + struct.pack("<H", can >> 16),
                bytes([21]) + b"\0" * 10 + b"901234567890\0" + b"mysql_native_password\0",
            ]
        )

    def _transaction(
        self, client: socket.socket, settings: tuple[bytes, ...], request: bytes
    ) -> tuple[tuple[bytes, ...], bytes]:
        """Pass on requests until none is in a transaction; return the settings and what is next."""
        server = self._idle.get(timeout=60)
        self.transactions += 1
        try:
            if server.settings != settings:
                for each in settings:
                    server.socket.sendall(each)
                    _answer(server.socket)
                server.settings = settings
            inside = False
            while True:
                if request[4] == _QUIT:
                    if inside:
                        server.socket.sendall(_packet(0, b"\x03ROLLBACK"))
                        _answer(server.socket)
                    return settings, request
                server.socket.sendall(request)
                answer, status = _answer(server.socket)
                client.sendall(answer)
                text = request[5:20].upper()
                once = text.startswith(b"SET TRANSACTION")
                if text.startswith(b"SET ") and not once and answer[4] == _OK:
                    settings = (*(s for s in settings if s[5:20] != request[5:20]), request)
                    server.settings = settings
                inside = inside if status is None else bool(status & _IN_TRANSACTION)
                request = _read(client)
                if not inside and not once:
                    return settings, request
        except EOFError:
            server.socket.sendall(_packet(0, b"\x03ROLLBACK"))
            _answer(server.socket)
            raise
        finally:
            self._idle.put(server)


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def _answer(link: socket.socket) -> tuple[bytes, int | None]:
    """Read a whole answer; return it with the status that it ends with, None after an error."""
    first = _read(link)
    if first[4] == _ERROR:
        return first, None
    if first[4] == _OK:
        start = 5
        for _ in range(2):
            start += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(first[start], 1)
        return first, int.from_bytes(first[start : start + 2], "little")
    parts, ends = [first], 0
    while True:
        part = _read(link)
        parts.append(part)
        if part[4] == _ERROR:
            return b"".join(parts), None
        if part[4] == _END and len(part) < 13:
            ends += 1
            if ends == 2:
                return b"".join(parts), int.from_bytes(part[7:9], "little")


def _read(link: socket.socket) -> bytes:
    head = _take(link, 4)
    return head + _take(link, int.from_bytes(head[:3], "little"))


def _take(link: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)

"""One call on one handle of libcurl: what is sent, what is read, and where it connects to."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pycurl

from duetime.clock import MICROS
from duetime.webhook.addresses import Guard
from duetime.webhook.answer import Answer, Fault
from duetime.webhook.policy import Limits, Policy
from duetime.webhook.request import Request
from duetime.webhook.url import Url

__all__ = ["Exchange"]

_FAULTS = {
    pycurl.E_COULDNT_RESOLVE_HOST: Fault.RESOLVING,
    pycurl.E_COULDNT_CONNECT: Fault.CONNECTING,
    pycurl.E_OPERATION_TIMEDOUT: Fault.TIMEOUT,
    pycurl.E_SSL_CONNECT_ERROR: Fault.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Fault.TLS,
    pycurl.E_SSL_CERTPROBLEM: Fault.TLS,
    pycurl.E_SSL_CIPHER: Fault.TLS,
    pycurl.E_SSL_CACERT_BADFILE: Fault.TLS,
    100: Fault.TOO_LONG,  # CURLE_TOO_LARGE, a single header line: pycurl has no name for it
}

# An answer that comes in more pieces is sent to keep us busy: 65,536 chunks of one byte take a
# hundred times the processor of one of 64 KiB.
_PIECES = 2000


class Exchange:
    """A handle and what belongs to it; used for one call after the other."""

    def __init__(self, policy: Policy, limits: Limits, guard: Guard) -> None:
        self._limits = limits
        self._guard = guard
        self._pinned: tuple[str, ...] = ()
        self._port = 0
        self._sockets: list[socket.socket] = []
        self._refused: str | None = None
        self._too_long = False
        self._headers_read = 0
        self._retry_after: str | None = None
        self._body: list[bytes] = []
        self._body_read = 0
        self.call: Any = None  # whoever waits for it: the sender's
        self.curl = pycurl.Curl()
        self._prepare(policy)

    def begin(self, request: Request, addresses: tuple[str, ...], left: int) -> None:
        """Make the handle ready to call one of these addresses within `left` µs."""
        curl, url = self.curl, request.url
        self._pinned, self._port = addresses, url.port
        self._refused, self._too_long, self._retry_after = None, False, None
        self._headers_read = self._body_read = 0
        self._body.clear()
        curl.setopt(pycurl.URL, str(url))
        if not url.is_address:
            curl.setopt(pycurl.RESOLVE, [_pin(url, addresses)])
        curl.setopt(pycurl.HTTPHEADER, request.headers)
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            curl.setopt(pycurl.POSTFIELDS, request.body)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.CUSTOMREQUEST, request.method)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, left // 1000))
        connect = min(left, int(self._limits.connect * MICROS))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, connect // 1000))

    def end(self, code: int, text: str) -> Answer:
        """Return what came of it, by libcurl's code (0: all went well) and text."""
        curl = self.curl
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        fault: Fault | None
        if self._refused is not None:
            fault, text = Fault.BLOCKED, self._refused
        elif self._too_long:
            fault, text = Fault.TOO_LONG, ""
            # Of a body whose length was declared, the end is not needed to know how it went.
            if status and curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) > self._body_read:
                fault = None
        else:
            fault = _FAULTS.get(code, Fault.BROKEN) if code else None
        self.drop()
        return Answer(
            status=status,
            fault=fault,
            detail=text if fault is not None else "",
            retry_after=self._retry_after,
            body=b"".join(self._body),
        )

    def drop(self) -> None:
        """Let go of what is under way, whatever became of it."""
        for ours in self._sockets:
            ours.close()
        self._sockets.clear()

    def close(self) -> None:
        """Free the handle."""
        self.drop()
        self.curl.close()

    def _prepare(self, policy: Policy) -> None:
        """Set what is the same for all calls."""
        curl = self.curl
        schemes = pycurl.PROTO_HTTPS | (pycurl.PROTO_HTTP if policy.allow_http else 0)
        curl.setopt(pycurl.PROTOCOLS, schemes)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.USERAGENT, "Duetime")
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        # An empty name means no proxy, whatever the environment says.
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        curl.setopt(pycurl.HTTP_CONTENT_DECODING, 0)
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        curl.setopt(pycurl.SSL_VERIFYPEER, 1)
        curl.setopt(pycurl.SSL_VERIFYHOST, 2)
        # The library that comes with a wheel does not know where this system keeps them.
        trusted = policy.ca_file or ssl.get_default_verify_paths().cafile
        if trusted is not None:
            curl.setopt(pycurl.CAINFO, trusted)
        # A connection lives no longer than this (s), so that a name that moves is followed.
        curl.setopt(pycurl.MAXLIFETIME_CONN, 600)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        curl.setopt(pycurl.PREREQFUNCTION, self._connected)
        curl.setopt(pycurl.HEADERFUNCTION, self._header)
        curl.setopt(pycurl.WRITEFUNCTION, self._read)

    def _open(self, purpose: int, address: Any) -> Any:
        """Give libcurl a socket for this very address, if it may be called."""
        host, port = address.addr[0], address.addr[1]
        why = self._guard.refusal(host)
        if why is None and (host not in self._pinned or port != self._port):
            why = "not the one that was resolved"
        if why is not None or purpose != pycurl.SOCKTYPE_IPCXN:
            self._refused = why or "of no connection"
            return pycurl.SOCKET_BAD
        # libcurl gets a copy; ours is asked whom it is connected to, before the request is sent.
        try:
            ours = socket.socket(address.family, address.socktype, address.protocol)
        except OSError:  # this process has as many files open as it may
            return pycurl.SOCKET_BAD
        self._sockets.append(ours)
        return ours

    def _connected(self, peer: str, _local: str, _port: int, _local_port: int) -> int:
        """Look once more at where the connection goes, just before the request is sent."""
        for ours in self._sockets:
            try:
                peer = ours.getpeername()[0]
            except OSError:
                continue  # of several addresses, the one that was not reached
            if peer not in self._pinned:
                self._refused = "not the one that was resolved"
        self.drop()
        # A connection that was kept may be older than the addresses pinned last.
        self._refused = self._refused or self._guard.refusal(peer)
        return 0 if self._refused is None else 1  # PREREQFUNC_OK, PREREQFUNC_ABORT

    def _header(self, line: bytes) -> int | None:
        self._headers_read += len(line)
        if self._headers_read > self._limits.headers:
            self._too_long = True
            return -1
        if line[:5] == b"HTTP/":
            self._retry_after = None  # what came before was provisional
        elif line[:12].lower() == b"retry-after:":
            self._retry_after = line[12:].decode("latin-1").strip()
        return None

    def _read(self, chunk: bytes) -> int | None:
        room = self._limits.answer - self._body_read
        self._body.append(chunk[:room])
        self._body_read += min(room, len(chunk))
        if len(chunk) > room or len(self._body) > _PIECES:
            self._too_long = True
            return -1
        return None


def _pin(url: Url, addresses: tuple[str, ...]) -> str:
    """Return what tells libcurl the addresses of a name; the plus lets it forget them some day."""
    places = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
    return f"+{url.host}:{url.port}:{places}"

"""A webhook's URL: taken apart by one strict grammar, and put together again from its parts.

Whatever two parsers might read differently is refused, so that the host which was checked is the
host that is called.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from duetime.errors import InvalidInput

__all__ = ["Url", "parse_url"]

_LONGEST = 2048  # characters
_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(r"([a-z][a-z0-9+.-]*):(?://([^/?]*))?(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
# RFC 3986, 3.3 and 3.4: what a path and a query may hold.
_TAIL = re.compile(
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)


class Url(NamedTuple):
    """Where a webhook goes."""

    scheme: str  # "https" or "http"
    host: str  # a name in lower case, or an address; IPv6 without brackets
    port: int
    tail: str  # path and query, from the "/"
    is_address: bool  # the host is an address, so there is nothing to resolve

    @property
    def origin(self) -> str:
        """Scheme, host and port: what shares a limit and a circuit."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """Return the URL, its port always named."""
        return self.origin + self.tail


@lru_cache(maxsize=4096)
def parse_url(text: str) -> Url:
    """Return the parts of a URL.

    Raises InvalidInput: `url_invalid`, `url_scheme`, `url_fragment`, `url_userinfo`, `url_host`,
    `url_port`, or `url_blocked` for this machine's own name and for addresses in disguise.
    """
    if len(text) > _LONGEST:
        raise _refuse("url_invalid", f"it has {len(text):,} characters; {_LONGEST:,} are allowed")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise _refuse(
            "url_invalid",
            "it holds a space, a control character, a backslash or non-ASCII: "
            "write the host in Punycode, and percent-encode the rest",
        )
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise _refuse("url_invalid", "it must look like https://example.com/path")
    scheme, authority, tail = shape[1].lower(), shape[2], shape[3]
    if scheme not in _PORTS:
        raise _refuse("url_scheme", f"{scheme}: is not called; write https://")
    if "#" in text:
        raise _refuse("url_fragment", "a fragment (from the #) is never sent")
    if not authority:
        raise _refuse("url_host", "it names no host")
    if "@" in authority:
        raise _refuse("url_userinfo", "a name or password before the @ belongs into a header")
    place = _AUTHORITY.fullmatch(authority)
    if place is None:
        raise _refuse("url_invalid", "its host or port cannot be read")
    port = int(place[2] or _PORTS[scheme])
    if not 1 <= port <= 65_535:
        raise _refuse("url_port", f"there is no port {port}")
    if _TAIL.fullmatch(tail) is None:
        raise _refuse("url_invalid", "its path or query holds what must be percent-encoded")
    host, is_address = _host(place[1].lower())
    tail = tail if tail.startswith("/") else f"/{tail}"
    return Url(scheme, host, port, tail, is_address)


def _host(text: str) -> tuple[str, bool]:
    """Return a host as it is called, and whether it is an address."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1])), True
        except ValueError:
            raise _refuse("url_invalid", "its IPv6 address cannot be read") from None
    labels = text.split(".")
    bare = text.rstrip(".").split(".")
    if bare[-1] == "localhost":
        raise _refuse("url_blocked", "localhost is this machine, which is not called by name")
    if _NUMERIC.fullmatch(bare[-1]):
        # Where a name ends in a number, resolvers take it for an address, in forms that few know:
        # 127.1, 0x7f.1 and 2130706433 are all 127.0.0.1.
        try:
            return str(IPv4Address(text)), True
        except ValueError:
            raise _refuse("url_blocked", "write an IPv4 address as four numbers") from None
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refuse("url_invalid", "its host is no name (a dot at its end is left out)")
    return text, False


def _refuse(code: str, text: str) -> InvalidInput:
    return InvalidInput(f"URL refused: {text}.", code=code, field="url")

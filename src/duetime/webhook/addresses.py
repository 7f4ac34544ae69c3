"""Which addresses may be called: public ones, and those that the operator allows by network.

The list is our own, because what `ipaddress` calls global differs from one Python to the next, and
has held addresses through which a translator or tunnel reaches the machine's own network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from duetime.errors import ConfigError

__all__ = ["Guard"]

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network
_CACHED = 10_000  # addresses whose verdict is remembered

# What `allow_private` opens: one's own networks, and never the addresses at which clouds hand out
# credentials (link-local, and the last two of _CLOSED).
_PRIVATE: tuple[tuple[str, str], ...] = (
    ("127.0.0.0/8", "loopback"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("::1/128", "loopback"),
    ("fc00::/7", "private"),
)
_CLOSED: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("100.64.0.0/10", "shared by a carrier's customers"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "of 6to4 relays"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved or broadcast"),
    ("::/128", "unspecified"),
    ("64:ff9b:1::/48", "of a local translator"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("2001::/23", "for protocols and tunnels"),  # Teredo among them
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "of a 6to4 tunnel"),
    ("3fff::/20", "for documentation"),
    ("fd00:ec2::254/128", "of a cloud's metadata"),
    ("168.63.129.16/32", "of a cloud's metadata"),  # public by number, and inside each machine
)
_MAPPED = ip_network("::ffff:0:0/96")  # IPv4 inside IPv6
_TRANSLATED = ip_network("64:ff9b::/96")  # through NAT64: the last 32 bits are where it goes
_GLOBAL = ip_network("2000::/3")  # all that is given out for public use of IPv6


class Guard:
    """Tells of an address whether it may be called."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
    ) -> None:
        """Take networks such as "10.1.0.0/16": `deny` goes before `allow`, which goes before ours.

        Raises ConfigError `network_invalid`.
        """
        self._deny = [_network(text, "deny_networks") for text in deny]
        self._allow = [_network(text, "allow_networks") for text in allow]
        self._closed = [(ip_network(text), why) for text, why in _CLOSED]
        self._private = [(ip_network(text), why) for text, why in _PRIVATE]
        self._allow_private = allow_private
        self._known: dict[str, str | None] = {}

    def refusal(self, address: str) -> str | None:
        """Return why this address may not be called ("loopback"), or None where it may."""
        try:
            return self._known[address]
        except KeyError:
            pass
        try:
            why = self._judge(ip_address(address))
        except ValueError:
            why = "not an address"
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[address] = why
        return why

    def _judge(self, address: _Address) -> str | None:
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return "link-local"
            if address in _MAPPED or address in _TRANSLATED:
                address = IPv4Address(int(address) & 0xFFFFFFFF)
        if _within(address, self._deny):
            return "denied by the settings"
        if _within(address, self._allow):
            return None
        for network, why in self._closed:
            if address in network:
                return why
        for network, why in self._private:
            if address in network:
                return None if self._allow_private else why
        if isinstance(address, IPv6Address) and address not in _GLOBAL:
            return "not for public use"
        return None


def _within(address: _Address, networks: Iterable[_Network]) -> bool:
    return any(address in network for network in networks)


def _network(text: str, field: str) -> _Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"{field}: {text!a:.60} is no network such as 10.1.0.0/16 ({error}).",
            code="network_invalid",
            field=field,
        ) from None

"""Which addresses may be called."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.errors import ConfigError
from duetime.webhook.addresses import Guard

CLOSED_TEXT = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255
127.0.0.1 127.0.0.53 127.255.255.254 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255
240.0.0.1 255.255.255.254 255.255.255.255 168.63.129.16
:: ::1 ::127.0.0.1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.1.2.3
64:ff9b:1::1 64:ff9b:1:7f00:1:: 64:ff9b:1::8.8.8.8 100::1 fc00::1 fd00::1 fd00:ec2::254
fd12:3456:789a::1 fe80::1 fe80::1%lo febf::1 fec0::1 feff::1 ff02::1 ff0e::1 2001:db8::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2002:7f00:1::
2002:a9fe:a9fe::1 2002:808:808::1 3fff::1 3fff:fff::1 5f00::1 4000::1 0200::1 fb00::1
"""
OPEN_TEXT = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1
169.253.255.255 169.255.0.1 172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1
198.17.255.255 198.20.0.1 223.255.255.255 168.63.129.15
2606:4700:4700::1111 2a00:1450:4001:80b::200e 2400:cb00::1 2001:4860:4860::8888 2003::1
::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
CLOSED, OPEN = CLOSED_TEXT.split(), OPEN_TEXT.split()


def test_the_table_is_long() -> None:
    """The table of addresses that may not be called has far more than sixty rows."""
    assert len(set(CLOSED)) >= 75
    assert len(set(OPEN)) >= 25


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_public_is_refused(address: str) -> None:
    """Whatever is not a public address is refused, also behind a translator or a tunnel."""
    assert Guard().refusal(address)


@pytest.mark.parametrize("address", OPEN)
def test_what_is_public_may_be_called(address: str) -> None:
    """An ordinary public address may be called, next to those that may not."""
    assert Guard().refusal(address) is None


@pytest.mark.parametrize("text", ["", "example.com", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Only what is an address in full can be judged, and what cannot is refused."""
    assert Guard().refusal(text) == "not an address"


@given(st.ip_addresses(v=4))
def test_an_address_in_ipv6_clothes_is_the_same(address: ipaddress.IPv4Address) -> None:
    """IPv4 inside IPv6 is judged as what it reaches, and never let through where that is not."""
    guard = Guard()
    why = guard.refusal(str(address))
    for prefix in ("::ffff:", "64:ff9b::"):
        assert guard.refusal(f"{prefix}{address}") == why
    for prefix in ("::", "::ffff:0:"):
        assert guard.refusal(f"{prefix}{address}")


@given(st.ip_addresses())
def test_what_python_calls_private_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Our list is at least as strict as the one of the standard library."""
    if address.is_private or address.is_multicast or address.is_link_local:
        assert Guard().refusal(str(address)) or "ffff" in str(address)


def test_private_networks_can_be_opened() -> None:
    """With allow_private one's own networks may be called, and never those of metadata."""
    guard = Guard(allow_private=True)
    for address in ("127.0.0.1", "10.2.3.4", "192.168.1.1", "::1", "fd12::1", "::ffff:10.0.0.1"):
        assert guard.refusal(address) is None
    for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "fe80::1"):
        assert guard.refusal(address)


def test_networks_can_be_allowed_and_denied() -> None:
    """A network that is denied goes before one that is allowed, and that before our own list."""
    guard = Guard(allow=["10.1.0.0/16", "fd00::/64"], deny=["10.1.9.0/24", "8.8.8.0/24"])
    assert guard.refusal("10.1.2.3") is None
    assert guard.refusal("::ffff:10.1.2.3") is None
    assert guard.refusal("fd00::7") is None
    assert guard.refusal("10.2.0.1") == "private"
    assert guard.refusal("10.1.9.1") == guard.refusal("8.8.8.8") == "denied by the settings"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "everything", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    """A network that cannot be read is refused with the setting's name."""
    with pytest.raises(ConfigError) as caught:
        Guard(allow=[text])
    assert (caught.value.code, caught.value.field) == ("network_invalid", "allow_networks")


def test_verdicts_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered verdicts are bounded."""
    monkeypatch.setattr("duetime.webhook.addresses._CACHED", 100)
    guard = Guard()
    for number in range(1000):
        guard.refusal(str(ipaddress.IPv4Address(0x08000000 + number)))
    assert 0 < len(guard._known) <= 100

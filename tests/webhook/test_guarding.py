"""Where a call goes: only to addresses that were resolved once and judged, whatever a name says."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pycurl
import pytest

from duetime.webhook import Fault, Limits, Policy
from duetime.webhook.exchange import Exchange, _pin
from duetime.webhook.url import parse_url
from tests.webhook.certificates import Authority
from tests.webhook.receivers import DEADLINE, Receiver, lenient, post, sending
from tests.webhook.test_sender import until

OPEN = Policy(allow_http=True, ports=(80, *range(1024, 65_536)))
PUBLIC = "203.0.113.9"  # of the documentation's network, so nobody is called by accident


class Names:
    """A resolver that answers from a list, and counts."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("8.8.8.8", "127.0.0.1"),
        ("127.0.0.1", "8.8.8.8"),
        ("8.8.8.8", "::1"),
        ("2606:4700::1111", "10.0.0.1"),
        ("::ffff:127.0.0.1",),
        ("169.254.169.254",),
        ("8.8.8.8", "nonsense"),
    ],
    ids=str,
)
def test_one_bad_address_blocks_all(addresses: tuple[str, ...]) -> None:
    """Of what a name resolves to, all must be public; nothing is connected otherwise."""
    with Receiver() as inner, sending(policy=OPEN, resolve=Names(addresses)) as sender:
        answer = sender.send(post(inner.url())).result(DEADLINE)
        assert answer.fault is Fault.BLOCKED
        assert "127.0.0.1" not in answer.detail
        assert inner.connections == 0


def test_a_name_that_turns_inwards_is_not_followed() -> None:
    """A name that is public at first and this machine afterwards reaches nothing here."""
    names = Names((PUBLIC,), ("127.0.0.1",))
    policy = Policy(allow_http=True, ports=OPEN.ports, allow_networks=(f"{PUBLIC}/32",))
    limits = Limits(timeout=0.3, connect=0.2, dns_ttl=0)
    with Receiver() as inner, sending(policy=policy, limits=limits, resolve=names) as sender:
        first = sender.send(post(inner.url())).result(DEADLINE)
        assert first.fault in (Fault.TIMEOUT, Fault.CONNECTING)
        assert len(names.asked) == 1
        second = sender.send(post(inner.url())).result(DEADLINE)
        assert second.fault is Fault.BLOCKED
        assert len(names.asked) == 2
        assert inner.connections == 0


def test_each_attempt_resolves_once() -> None:
    """An attempt asks for a name at most once, and libcurl never does."""
    names = Names(("127.0.0.1",))
    with Receiver() as one:
        with sending(one.port, limits=Limits(dns_ttl=0), resolve=names) as sender:
            for count in range(1, 4):
                assert sender.send(post(one.url())).result(DEADLINE).status == 200
                assert names.asked == ["example.test"] * count
        with sending(one.port, resolve=names) as sender:
            for _ in range(3):
                assert sender.send(post(one.url())).result(DEADLINE).status == 200
            assert len(names.asked) == 4


def test_an_address_in_the_url_is_not_resolved() -> None:
    """Where the URL holds an address, nothing is resolved, and it is judged all the same."""
    names = Names(("127.0.0.1",))
    with Receiver() as one:
        with sending(one.port, resolve=names) as sender:
            assert sender.send(post(one.url("127.0.0.1"))).result(DEADLINE).status == 200
            assert one.seen[0].header("host") == f"127.0.0.1:{one.port}"
        with sending(policy=OPEN, resolve=names) as sender:
            answer = sender.send(post(one.url("127.0.0.1"))).result(DEADLINE)
            assert answer.fault is Fault.BLOCKED
        assert (names.asked, one.connections) == ([], 1)


def test_libcurl_is_told_the_addresses() -> None:
    """Name, port and addresses are pinned together, those of IPv6 in brackets."""
    url = parse_url("https://example.test/")
    assert _pin(url, ("1.1.1.1", "2606:4700::1")) == "+example.test:443:1.1.1.1,[2606:4700::1]"


def test_the_next_address_is_tried() -> None:
    """Of two addresses, the one that answers serves."""
    with Receiver() as one, sending(one.port, resolve=Names(("::1", "127.0.0.1"))) as sender:
        assert sender.send(post(one.url())).result(DEADLINE).status == 200


def exchange(pinned: tuple[str, ...], policy: Policy) -> Exchange:
    """Return an exchange for these addresses."""
    one = Exchange(policy, Limits(), policy.guard())
    one._pinned, one._port = pinned, 443
    return one


class Asked:
    """What libcurl shows of the address it is about to connect to."""

    def __init__(self, address: str, port: int = 443) -> None:
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socktype, self.protocol, self.addr = socket.SOCK_STREAM, 0, (address, port)


@pytest.mark.parametrize(
    ("asked", "pinned"),
    [
        (Asked("127.0.0.1"), ("127.0.0.1",)),
        (Asked("::ffff:127.0.0.1"), ("::ffff:127.0.0.1",)),
        (Asked("169.254.169.254"), ("8.8.8.8",)),
        (Asked("1.1.1.1"), ("8.8.8.8",)),
        (Asked("8.8.8.8", 22), ("8.8.8.8",)),
    ],
)
def test_the_last_door_is_the_socket(asked: Any, pinned: tuple[str, ...]) -> None:
    """Even if all checks before were wrong, no socket is opened to another address than judged."""
    one = exchange(pinned, Policy())
    assert one._open(0, asked) == -1
    assert one.end(7, "").fault is Fault.BLOCKED
    one.close()


def test_a_socket_is_opened_for_the_address_that_was_judged() -> None:
    """The address that was resolved and judged gets a socket."""
    one = exchange(("8.8.8.8",), Policy())
    assert isinstance(one._open(0, Asked("8.8.8.8")), socket.socket)
    assert one._open(1, Asked("8.8.8.8")) == -1  # of another purpose
    one.close()


def test_a_process_without_room_for_a_socket_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be opened any more, the attempt fails and the sender does not."""
    real = socket.socket

    def full(family: int, kind: int, protocol: int = 0, **_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with Receiver() as one, sending(one.port) as sender:
        with monkeypatch.context() as patch:
            patch.setattr("duetime.webhook.exchange.socket.socket", full)
            answer = sender.send(post(one.url())).result(DEADLINE)
            assert answer.fault is Fault.CONNECTING
        assert socket.socket is real
        assert sender.send(post(one.url())).result(DEADLINE).status == 200


def test_the_peer_is_asked_before_the_request_is_sent() -> None:
    """A connection that came out elsewhere, or was kept from another time, is not used."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = exchange(("8.8.8.8",), lenient(443))
        one._sockets.append(socket.create_connection(listener.getsockname()))
        assert one._connected("8.8.8.8", "", 443, 0) == 1
        assert one.end(42, "").detail == "not the one that was resolved"
    one = exchange(("8.8.8.8",), Policy())
    assert one._connected("127.0.0.1", "", 443, 0) == 1
    one = exchange(("8.8.8.8",), Policy())
    assert one._connected("1.1.1.1", "", 443, 0) == 0  # kept from before, and public


def test_nothing_is_sent_to_a_peer_that_is_not_the_one() -> None:
    """When the door is fooled, the connection is closed before a byte of the request is sent."""
    with Receiver() as one, sending(one.port) as sender:
        handle = sender._multi.lend(sender.policy, sender.limits, sender.guard)
        real = handle._open

        def fooled(purpose: int, address: Any) -> Any:
            found = real(purpose, address)
            handle._pinned = ("8.8.8.8",)
            return found

        handle.curl.setopt(pycurl.OPENSOCKETFUNCTION, fooled)
        sender._multi._free.append(handle)
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert answer.fault is Fault.BLOCKED
        until(lambda: one.connections == 1)
        assert one.seen == []


def test_https_is_called_with_the_name(authority: Authority) -> None:
    """The certificate is that of the name, though the address was chosen by us."""
    with Receiver(tls=authority.context()) as one:
        policy = lenient(one.port, allow_http=False, ca_file=str(authority.file))
        with sending(policy=policy) as sender:
            for _ in range(2):
                assert sender.send(post(one.url())).result(DEADLINE).status == 200
            assert one.connections == 1
            assert one.seen[0].header("host") == f"example.test:{one.port}"
            other = sender.send(post(one.url("other.test"))).result(DEADLINE)
            assert other.fault is Fault.TLS
        assert len(one.seen) == 2


@pytest.mark.parametrize(
    "context",
    [
        lambda authority: authority.context(own=True),
        lambda authority: authority.context(days=-1),
        lambda authority: authority.context("another.test"),
        lambda authority: authority.context("127.0.0.1"),
    ],
    ids=["self-signed", "expired", "of another name", "of the address"],
)
def test_a_certificate_that_is_not_right_is_refused(
    context: Callable[[Authority], Any], authority: Authority
) -> None:
    """Nothing is sent to a receiver whose certificate is not good."""
    with Receiver(tls=context(authority)) as one:
        with sending(policy=lenient(one.port, ca_file=str(authority.file))) as sender:
            answer = sender.send(post(one.url())).result(DEADLINE)
            assert answer.fault is Fault.TLS
            assert answer.detail
        assert one.seen == []


def test_our_own_authority_is_not_trusted_by_all(authority: Authority) -> None:
    """Without its file, a private authority is not trusted."""
    with Receiver(tls=authority.context()) as one, sending(one.port) as sender:
        assert sender.send(post(one.url())).result(DEADLINE).fault is Fault.TLS


def test_old_tls_is_refused(authority: Authority) -> None:
    """A receiver that speaks less than TLS 1.2 is not called."""
    context = authority.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with ExitStack() as stack:
        one = stack.enter_context(Receiver(tls=context))
        policy = lenient(one.port, ca_file=str(authority.file))
        sender = stack.enter_context(sending(policy=policy))
        assert sender.send(post(one.url())).result(DEADLINE).fault is Fault.TLS


def test_plain_text_on_a_port_of_tls() -> None:
    """A receiver that does not speak TLS is a failed attempt, not a hang."""
    with Receiver() as one, sending(one.port, limits=Limits(connect=0.3)) as sender:
        answer = sender.send(post(f"https://example.test:{one.port}/")).result(DEADLINE)
        assert answer.fault in (Fault.TLS, Fault.TIMEOUT)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(allow_http=True, allow_private=True, ports=(443,)),
        Policy(allow_http=True, allow_private=True, ports=OPEN.ports, hosts=("other.test",)),
        Policy(allow_private=True, ports=OPEN.ports),
    ],
    ids=["port", "host", "scheme"],
)
def test_the_policy_is_asked_at_each_delivery(policy: Policy) -> None:
    """A call that the policy does not allow, or does not allow any more, is not made."""
    with Receiver() as one, sending(policy=policy) as sender:
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert answer.fault is Fault.BLOCKED
        assert one.connections == 0
        assert not sender._calls


def test_only_schemes_of_ours_are_sent() -> None:
    """A scheme that the policy does not allow is refused by libcurl, too."""
    policy = Policy(allow_private=True, ports=OPEN.ports)
    handle = Exchange(policy, Limits(), policy.guard())
    with Receiver() as one:
        handle.begin(post(one.url("127.0.0.1")), ("127.0.0.1",), 1_000_000)
        with pytest.raises(pycurl.error) as caught:
            handle.curl.perform()
        assert caught.value.args[0] == pycurl.E_UNSUPPORTED_PROTOCOL
        assert one.connections == 0
    handle.close()

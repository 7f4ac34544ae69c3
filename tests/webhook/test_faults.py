"""Receivers at their worst: whatever they do, a slot is free within the time-out."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

from duetime.webhook import Answer, Fault, Limits
from duetime.webhook.sender import Sender
from tests.webhook.receivers import (
    CLOCK,
    DEADLINE,
    OK,
    Receiver,
    Seen,
    drip,
    elapsed,
    flood,
    hold,
    lenient,
    post,
    sending,
)

QUICK = Limits(timeout=0.8, connect=0.4, failures=100)
SLACK = 1.0  # seconds by which a busy machine may be late
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Behaviour = Callable[[socket.socket, Seen], object]


def reset(connection: socket.socket) -> bool:
    """Hang up with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return True


def say(text: bytes, then: Callable[[socket.socket], Any]) -> Behaviour:
    def behave(connection: socket.socket, _seen: Seen) -> object:
        connection.sendall(text)
        return then(connection)

    return behave


def late(connection: socket.socket, _seen: Seen) -> object:
    threading.Event().wait(1.1)
    connection.sendall(OK)
    return None


def hang_up(_connection: socket.socket) -> bool:
    return True


BAD: dict[str, tuple[Behaviour | None, Fault]] = {
    "silent": (None, Fault.TIMEOUT),
    "late": (late, Fault.TIMEOUT),
    "one byte a time": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.05), Fault.TIMEOUT),
    "half a header a time": (drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"x", 0.05), Fault.TIMEOUT),
    "endless headers": (flood(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n"), Fault.TOO_LONG),
    "an endless header": (flood(b"HTTP/1.1 200 OK\r\nX-A: ", b"x"), Fault.TOO_LONG),
    "endless provisional answers": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Fault.TOO_LONG),
    "endless body": (flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), Fault.TOO_LONG),
    "endless chunks": (flood(CHUNKED, b"1\r\nx\r\n"), Fault.TOO_LONG),
    "a chunk without end": (flood(CHUNKED + b"ffffffff\r\n", b"x"), Fault.TOO_LONG),
    "reset at once": (say(b"", reset), Fault.BROKEN),
    "reset amid headers": (say(b"HTTP/1.1 200 OK\r\nX-", reset), Fault.BROKEN),
    "reset amid the body": (say(OK[:-1], reset), Fault.BROKEN),
    "hang up at once": (say(b"", hang_up), Fault.BROKEN),
    "hang up amid the body": (say(OK[:-1], hang_up), Fault.BROKEN),
    "hang up amid chunks": (say(CHUNKED + b"5\r\nab", hang_up), Fault.BROKEN),
    "not HTTP": (say(b"SSH-2.0-x\r\n", hang_up), Fault.BROKEN),
    "HTTP/0.9": (say(b"hello", hang_up), Fault.BROKEN),
    "no status": (say(b"HTTP/1.1 abc\r\n\r\n", hang_up), Fault.BROKEN),
    "two lengths": (
        say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: -1\r\n\r\nok", hang_up),
        Fault.BROKEN,
    ),
}


def is_free(sender: Sender) -> bool:
    """Tell whether nothing of the calls that ended is left."""
    places = sender._destinations._by_origin.values()
    return not sender._calls and not any(place.in_flight or place.line for place in places)


@pytest.mark.parametrize(("behave", "fault"), BAD.values(), ids=BAD)
def test_a_bad_receiver_costs_one_attempt(behave: Behaviour | None, fault: Fault) -> None:
    """Whatever a receiver does, the attempt ends in time as failed, and others are not delayed."""
    with (
        Receiver() as bad,
        Receiver() as good,
        sending(bad.port, good.port, limits=QUICK) as sender,
    ):
        bad.behave = behave or hold(bad)
        began = CLOCK.boot()
        doomed = [sender.send(post(bad.url())) for _ in range(3)]
        for _ in range(5):
            assert sender.send(post(good.url("other.test"))).result(DEADLINE).status == 200
        assert fault is not Fault.TIMEOUT or not any(one.done() for one in doomed)
        answers = [one.result(DEADLINE) for one in doomed]
        assert elapsed(began) < QUICK.timeout + SLACK
        assert {answer.fault for answer in answers} == {fault}
        assert all(len(answer.body) <= QUICK.answer for answer in answers)
        assert is_free(sender)


def test_a_long_answer_whose_length_is_known_is_no_failure() -> None:
    """Of a body that was declared and is long, what is needed is read, and the status counts."""
    with Receiver() as one, sending(one.port, limits=QUICK) as sender:
        one.behave = b"HTTP/1.1 201 Created\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert (answer.status, answer.fault, len(answer.body)) == (201, None, 65_536)


def test_a_good_answer_may_be_long_and_slow() -> None:
    """An answer just within the limits of size is read whole."""
    with Receiver() as one, sending(one.port, limits=QUICK) as sender:
        one.behave = b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + b"x" * 65_536
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert (answer.status, answer.fault, len(answer.body)) == (200, None, 65_536)


@pytest.mark.parametrize("status", [100, 103])
def test_a_provisional_answer_is_not_the_answer(status: int) -> None:
    """What comes before the answer is passed over."""
    with Receiver() as one, sending(one.port, limits=QUICK) as sender:
        one.behave = b"HTTP/1.1 %d Wait\r\nRetry-After: 9\r\n\r\n" % status + OK
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert (answer.status, answer.body, answer.retry_after) == (200, b"ok", None)


def test_a_port_where_nobody_listens() -> None:
    """A refused connection is a failed attempt at once."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with sending(port, limits=QUICK) as sender:
        began = CLOCK.boot()
        answer = sender.send(post(f"http://example.test:{port}/")).result(DEADLINE)
        assert answer.fault is Fault.CONNECTING
        assert elapsed(began) < QUICK.connect


def test_a_connection_that_is_never_taken() -> None:
    """A receiver whose queue of connections is full costs the time to connect, no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with sending(port, limits=Limits(timeout=9, connect=0.3)) as sender:
            began = CLOCK.boot()
            answer = sender.send(post(f"http://example.test:{port}/")).result(DEADLINE)
            assert answer.fault is Fault.TIMEOUT
            assert 0.29 < elapsed(began) < 5
        for filler in fillers:
            filler.close()


def test_a_dead_resolver_delays_only_its_names() -> None:
    """While one name is being resolved in vain, others are called, and its calls end in time."""
    stuck = threading.Event()

    def resolve(host: str) -> tuple[str, ...]:
        if host == "dead.test":
            stuck.wait(DEADLINE)
            raise OSError("no name server answers")
        return ("127.0.0.1",)

    with Receiver() as one, sending(one.port, limits=QUICK, resolve=resolve) as sender:
        began = CLOCK.boot()
        doomed = [sender.send(post(one.url("dead.test"))) for _ in range(4)]
        assert sender.send(post(one.url())).result(DEADLINE).status == 200
        assert not any(call.done() for call in doomed)
        answers = [call.result(DEADLINE) for call in doomed]
        assert QUICK.connect - 0.01 < elapsed(began) < QUICK.connect + SLACK
        assert {answer.fault for answer in answers} == {Fault.RESOLVING}
        assert is_free(sender)
        stuck.set()


def test_an_unknown_name_is_told() -> None:
    """A name that does not exist is a failed attempt with the resolver's reason."""

    def resolve(_host: str) -> tuple[str, ...]:
        raise OSError(2, "Name or service not known")

    with sending(443, resolve=resolve) as sender:
        answer = sender.send(post("https://nowhere.test/")).result(DEADLINE)
        assert (answer.fault, answer.detail) == (Fault.RESOLVING, "Name or service not known")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("inwards", [True, False])
def test_redirects_are_not_followed(status: int, *, inwards: bool) -> None:
    """A redirect, to metadata or elsewhere, is an answer like any other: nothing else is called."""
    with Receiver() as other, Receiver() as one, sending(one.port, other.port) as sender:
        place = "http://169.254.169.254/latest/" if inwards else one.url(path="/elsewhere")
        one.behave = (
            b"HTTP/1.1 %d Elsewhere\r\nLocation: %s\r\nRefresh: 0; url=%s\r\n"
            b"Content-Length: 0\r\n\r\n"
        ) % (status, place.encode(), other.url().encode())
        answer = sender.send(post(one.url())).result(DEADLINE)
        assert (answer.status, answer.fault) == (status, None)
        assert (len(one.seen), one.connections, other.connections) == (1, 1, 0)


def test_an_answer_is_not_unpacked() -> None:
    """A compressed body stays as it came, so that it cannot grow."""
    with Receiver() as one, sending(one.port) as sender:
        one.behave = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"
        assert sender.send(post(one.url())).result(DEADLINE).body == b"abcd"
        assert "accept-encoding" not in {key.lower() for key, _ in one.seen[0].headers}


def test_cookies_are_not_kept() -> None:
    """What a receiver wants us to remember is not sent back."""
    with Receiver() as one, sending(one.port) as sender:
        one.behave = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        for _ in range(2):
            sender.send(post(one.url())).result(DEADLINE)
        assert all("cookie" not in {key.lower() for key, _ in seen.headers} for seen in one.seen)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"])
def test_proxies_of_the_environment_are_not_used(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names sees nothing."""
    with Receiver() as proxy, Receiver() as one:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with sending(one.port, proxy.port) as sender:
            assert sender.send(post(one.url())).result(DEADLINE).status == 200
        assert (proxy.connections, one.connections) == (0, 1)


def test_a_netrc_file_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Credentials that lie about in the home folder are not sent."""
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine example.test login a password b\n")
    monkeypatch.setenv("HOME", str(home))
    with Receiver() as one, sending(one.port) as sender:
        sender.send(post(one.url())).result(DEADLINE)
        assert "authorization" not in {key.lower() for key, _ in one.seen[0].headers}


def test_a_dead_receiver_holds_few_slots() -> None:
    """Of many calls to a silent receiver few are under way; the others hear soon to come again."""
    limits = Limits(timeout=1.0, connect=0.5, patience=0.05)
    with Receiver() as dead, Receiver() as good, sending(dead.port, good.port, limits=limits) as s:
        dead.behave = hold(dead)
        doomed = [s.send(post(dead.url())) for _ in range(200)]
        wait([s.send(post(good.url("b.test"))) for _ in range(20)], DEADLINE)
        assert sum(call.done() for call in doomed) <= 196
        answers = [call.result(DEADLINE) for call in doomed]
        faults = [answer.fault for answer in answers]
        assert faults.count(Fault.TIMEOUT) == 4
        assert faults.count(Fault.BUSY) == 196
        assert all(answer.wait > 0 for answer in answers if answer.fault is Fault.BUSY)
        assert len(dead.seen) == 4


def test_the_circuit_opens_and_closes() -> None:
    """After failures in a row nothing is sent until a probe, and its success brings all back."""
    heard: list[tuple[str, str]] = []
    limits = Limits(timeout=1, failures=3, pause=0.2, longest_pause=0.2)
    with Receiver() as one:
        with sending(one.port, limits=limits, told=lambda *what: heard.append(what)) as sender:
            one.behave = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
            for _ in range(3):
                assert sender.send(post(one.url())).result(DEADLINE).status == 500
            origin = f"http://example.test:{one.port}"
            assert sender.open_circuits() == [origin]
            for _ in range(5):
                held = sender.send(post(one.url())).result(DEADLINE)
                assert held.fault is Fault.OPEN
                assert held.wait > 0
            assert len(one.seen) == 3
            one.behave = OK
            began = CLOCK.boot()
            answer: Answer = held
            while answer.fault is Fault.OPEN:
                assert elapsed(began) < DEADLINE
                threading.Event().wait(0.02)
                answer = sender.send(post(one.url())).result(DEADLINE)
            assert answer.status == 200
            assert sender.open_circuits() == []
        assert heard == [("opened", origin), ("closed", origin)]


def test_what_the_listener_raises_harms_nobody() -> None:
    """A listener of circuits that fails is logged, and the calls go on."""

    def told(_what: str, _origin: str) -> None:
        raise ValueError("a listener's own fault")

    limits = Limits(failures=1, pause=0.01)
    with Receiver(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") as one:
        policy = lenient(one.port)
        with sending(policy=policy, limits=limits, told=told) as sender:
            assert sender.send(post(one.url())).result(DEADLINE).status == 500
            assert sender.send(post(one.url())).result(DEADLINE).fault in (None, Fault.OPEN)

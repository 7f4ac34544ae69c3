"""The sender itself: many calls on one thread, its beginning and its end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from duetime.errors import ConfigError, LifecycleError
from duetime.webhook import Answer, Fault, Limits, Request, Sender
from duetime.webhook.resolver import Found, Resolver, look_up
from duetime.webhook.url import parse_url
from tests.forked import forked
from tests.webhook.receivers import CLOCK, DEADLINE, Receiver, elapsed, hold, post, sending


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    began = CLOCK.boot()
    while not condition():
        assert elapsed(began) < DEADLINE
        threading.Event().wait(0.002)


def test_connections_are_kept() -> None:
    """Calls that follow one another use one connection; those at once as many as there are."""
    with Receiver() as one, sending(one.port) as sender:
        for _ in range(20):
            assert sender.send(post(one.url())).result(DEADLINE).body == b"ok"
        assert one.connections == 1
        for future in [sender.send(post(one.url())) for _ in range(50)]:
            assert future.result(DEADLINE).status == 200
        assert one.connections <= sender.limits.at_once


def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """A receiver that closes after each answer is called on a new connection, without a failure."""
    with Receiver() as one, sending(one.port) as sender:

        def once(connection: socket.socket, _seen: object) -> bool:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return True

        one.behave = once
        for _ in range(10):
            assert sender.send(post(one.url())).result(DEADLINE).status == 200
        assert one.connections == 10


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100_000, bytes(range(256))], ids=len)
def test_what_is_given_is_what_is_sent(method: str, body: bytes) -> None:
    """Method, path, headers and body arrive as they are, and nothing of an earlier call."""
    if method == "GET" and body:
        body = b""
    with Receiver() as one, sending(one.port) as sender:
        sender.send(post(one.url(), b"an earlier call's")).result(DEADLINE)
        url = parse_url(one.url(path="/a/../b%2F?c=d&e="))
        headers = ["X-One: 1", "Accept: */*", "Expect:", "Content-Type:", "X-Empty;"]
        sender.send(Request(url, method, headers, body)).result(DEADLINE)
        seen = one.seen[1]
        assert seen.line == f"{method} /a/../b%2F?c=d&e= HTTP/1.1"
        assert seen.body == body
        assert seen.header("x-one") == "1"
        assert seen.header("x-empty") == ""
        sent = {name.lower() for name, _ in seen.headers}
        length = {"content-length"} if body or method in ("POST", "PUT", "PATCH") else set()
        assert sent == {"host", "user-agent", "accept", "x-one", "x-empty"} | length


def test_time_outs_are_the_callers() -> None:
    """A call that names a time-out ends by it, one that does not by the sender's."""
    with Receiver() as one, sending(one.port, limits=Limits(timeout=0.8)) as sender:
        one.behave = hold(one)
        began = CLOCK.boot()
        quick, slow = (sender.send(post(one.url(), timeout=limit)) for limit in (0.15, None))
        answer = quick.result(DEADLINE)
        assert answer.fault is Fault.TIMEOUT
        assert elapsed(began) > 0.14
        assert answer.took > 140_000
        assert not slow.done()
        assert slow.result(DEADLINE).fault is Fault.TIMEOUT
        assert 0.79 < elapsed(began) < 2


def test_threads_and_loops_share_a_sender() -> None:
    """Calls from several threads and event loops at once all come back to whoever made them."""
    with Receiver() as one, sending(one.port, limits=Limits(patience=5)) as sender:
        answers: list[Answer] = []

        async def several() -> None:
            answers.extend(await asyncio.gather(*(sender.call(post(one.url())) for _ in range(40))))

        def plain() -> None:
            answers.extend(sender.send(post(one.url())).result(DEADLINE) for _ in range(20))

        threads = [threading.Thread(target=plain) for _ in range(3)]
        threads += [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert [answer.status for answer in answers] == [200] * 180


def test_a_cancelled_call_is_cut_off() -> None:
    """When the caller's task is cancelled, the call ends and its place is free."""
    with Receiver() as one, sending(one.port, limits=Limits(timeout=25)) as sender:
        one.behave = hold(one)

        async def main() -> None:
            tasks = [asyncio.ensure_future(sender.call(post(one.url()))) for _ in range(6)]
            while len(one.seen) < 4:  # noqa: ASYNC110 - another thread sets no asyncio event
                await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

        asyncio.run(main())
        place = sender._destinations.get(f"http://example.test:{one.port}")
        until(lambda: not sender._calls and not place.in_flight)
        assert not sender._multi._by_handle


def test_a_call_cancelled_while_its_name_is_resolved_is_let_go() -> None:
    """A caller that leaves before there is an address leaves nothing behind."""
    asked, answer = threading.Event(), threading.Event()

    def resolve(_host: str) -> tuple[str, ...]:
        asked.set()
        answer.wait(DEADLINE)
        return ("127.0.0.1",)

    limits = Limits(timeout=25, connect=25)
    with Receiver() as one, sending(one.port, limits=limits, resolve=resolve) as sender:

        async def main() -> None:
            task = asyncio.ensure_future(sender.call(post(one.url())))
            await asyncio.to_thread(asked.wait, DEADLINE)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        until(lambda: not sender._calls)
        answer.set()
        until(lambda: not sender._resolving)
        assert one.connections == 0


def test_closing_tells_all_who_wait() -> None:
    """Whoever waits when the sender closes hears so at once, and later calls are refused."""
    with Receiver() as one, sending(one.port, limits=Limits(timeout=5)) as sender:
        one.behave = hold(one)
        futures = [sender.send(post(one.url())) for _ in range(6)]
        until(lambda: len(one.seen) == 4)
        began = CLOCK.boot()
        sender.close()
        assert {future.result(DEADLINE).fault for future in futures} == {Fault.CLOSED}
        assert elapsed(began) < 1
        sender.close()
        with pytest.raises(LifecycleError) as caught:
            sender.send(post(one.url()))
        assert caught.value.code == "closed"


def test_a_sender_that_was_never_used_closes() -> None:
    """A sender starts no thread before the first call, and closes without one."""
    before = threading.active_count()
    with Sender():
        assert threading.active_count() == before


def test_threads_end_with_the_sender() -> None:
    """After closing, neither the sender's thread nor a resolver's goes on."""
    with Receiver() as one:
        before = set(threading.enumerate())  # other tests may have left some of theirs
        with sending(one.port) as sender:
            sender.send(post(one.url())).result(DEADLINE)
            own = {t for t in threading.enumerate() if t.name.startswith("duetime-")} - before
            assert own
        until(lambda: not any(thread.is_alive() for thread in own))


def test_a_forked_child_is_refused() -> None:
    """A child process must not use its parent's sender, and closing it there does no harm."""
    with Receiver() as one, sending(one.port) as sender:
        assert sender.send(post(one.url())).result(DEADLINE).status == 200

        def child() -> int:
            try:
                sender.send(post(one.url()))
            except LifecycleError as error:
                sender.close()
                return 0 if error.code == "forked" else 2
            return 1

        assert forked(child) == 0
        assert sender.send(post(one.url())).result(DEADLINE).status == 200


def test_what_ought_not_to_happen_leaves_nobody_waiting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error inside the sender ends the calls under way as broken off, and it goes on."""
    with Receiver() as one, sending(one.port) as sender:

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(sender, "_finish", broken)
            assert sender.send(post(one.url())).result(DEADLINE).fault is Fault.BROKEN
        assert sender.send(post(one.url())).result(DEADLINE).status == 200
    assert "a bug" in caplog.text


def test_without_pycurl_it_says_what_to_install() -> None:
    """Where the extra is missing, a Sender says how to get it; the rest can be imported."""
    program = (
        "import sys; sys.modules['pycurl'] = None\n"
        "from duetime.webhook import Sender, Verifier, Target\n"
        "try: Sender()\n"
        "except Exception as error: print(type(error).__name__, error.code, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ConfigError.__name__ in done.stdout
    assert "extra_missing" in done.stdout
    assert "duetime[webhook]" in done.stdout


def test_names_are_resolved_by_few_threads() -> None:
    """One name is looked up by one thread at a time, and no more threads run than allowed."""
    found: dict[str, Found] = {}
    started = threading.Semaphore(0)
    go = threading.Event()
    running: list[int] = []

    def slow(host: str) -> tuple[str, ...]:
        running.append(threading.get_ident())
        started.release()
        go.wait(DEADLINE)
        if host == "h1":
            raise UnicodeError("no name")
        return () if host == "h2" else (f"10.0.0.{host[1:]}",)

    resolver = Resolver(slow, found.__setitem__, threads=3, ttl=1_000_000)
    for host in ["h1", "h1", "h2", "h3", "h4", "h5", "h1"]:
        resolver.ask(host)
    for _ in range(3):
        assert started.acquire(timeout=DEADLINE)
    assert len(running) == 3
    go.set()
    until(lambda: len(found) == 5)
    assert len(running) == 5
    assert len(set(running)) <= 3
    assert (found["h1"], found["h2"]) == ("no name", "it has no address")
    assert found["h3"] == ("10.0.0.3",)
    resolver.keep("h3", found["h3"], 100)
    resolver.keep("h1", found["h1"], 100)
    assert resolver.pinned("h3", 1_000_099) == ("10.0.0.3",)
    assert resolver.pinned("h3", 1_000_100) is resolver.pinned("h1", 101) is None
    resolver.stop()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("duetime-res")])


def test_the_system_is_asked_for_names() -> None:
    """Without another resolver, the system's own is asked, and each address comes once."""
    assert set(look_up("localhost")) <= {"127.0.0.1", "::1"}
    assert len(look_up("127.0.0.1")) == 1
    with pytest.raises(OSError, match=r".+"):
        look_up("name.invalid")

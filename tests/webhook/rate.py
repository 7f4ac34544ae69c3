"""Measures webhook deliveries per second of one process to a receiver in another, kept alive.

`python -m tests.webhook.rate` runs it for real; the tests run it at a tiny size.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from duetime import Scheduler, Settings
from duetime.webhook import Limits, Policy, Request, Sender, Target, webhook_handler
from duetime.webhook.url import parse_url
from tests.webhook.receivers import CLOCK, elapsed
from tests.webhook.test_signing import TEXT

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BODY = {"order": 42, "text": "x" * 100}


class _Protocol(asyncio.Protocol):
    """Answers each request at once."""

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(ANSWER)


def _receive(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


@contextmanager
def receiver() -> Iterator[int]:
    """Give the port of a receiver in a process of its own."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def sender_to(port: int, at_once: int) -> Sender:
    """Return a sender that may call this machine's port."""
    return Sender(
        policy=Policy(allow_http=True, allow_private=True, ports=(port,)),
        limits=Limits(at_once=at_once),
        resolve=lambda _host: ("127.0.0.1",),
    )


def calls(port: int, count: int, at_once: int) -> float:
    """Return the calls per second of a sender alone, `at_once` of them at the same time."""
    request = Request(parse_url(f"http://a.test:{port}/"), "POST", ["Expect:"], b"x" * 100)
    left = count

    async def worker(sender: Sender) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            assert (await sender.call(request)).status == 200

    async def main() -> float:
        with sender_to(port, at_once) as sender:
            await worker_of_one(sender)
            began = CLOCK.boot()
            await asyncio.gather(*(worker(sender) for _ in range(at_once)))
            return count / elapsed(began)

    async def worker_of_one(sender: Sender) -> None:
        assert (await sender.call(request)).status == 200

    return asyncio.run(main())


def deliveries(port: int, count: int, at_once: int, store: str) -> float:
    """Return the events per second that a node delivers: claimed, signed, sent and settled."""
    settings = Settings(async_workers=2 * at_once, stats_every=0, max_held=max(count, 1000))
    with sender_to(port, at_once) as sender, Scheduler(store, settings=settings) as scheduler:
        scheduler.on("webhook")(webhook_handler(sender, TEXT))
        payload = Target(url=f"http://a.test:{port}/hook", body=BODY).payload()
        scheduler.schedule_many({"kind": "webhook", "payload": payload} for _ in range(count))
        began = CLOCK.boot()
        scheduler.start()
        while scheduler.statistics().tally.done < count:
            threading.Event().wait(0.005)
        return count / elapsed(began)


def main() -> None:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=64)
    given = parser.parse_args()
    with receiver() as port, TemporaryDirectory() as folder:
        for _ in range(3):
            print(f"sender alone: {calls(port, given.count, given.at_once):,.0f}/s")
            for store in ("memory://", f"sqlite:///{Path(folder) / 'rate.db'}"):
                rate = deliveries(port, given.count, given.at_once, store)
                print(f"node on {store.partition(':')[0]}: {rate:,.0f}/s")


if __name__ == "__main__":
    main()

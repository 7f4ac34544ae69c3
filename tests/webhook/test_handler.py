"""Webhooks as a node delivers them: scheduled, signed, sent, and judged."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import standardwebhooks

from duetime import Backoff, Dead, Done, Event, Retry, Scheduler, Settings
from duetime.errors import ConfigError
from duetime.event import Row
from duetime.webhook import Limits, Secret, Sender, Target, Verifier, webhook_handler
from duetime.webhook.request import request_for
from duetime.webhook.signing import secrets_of
from duetime.webhook.url import parse_url
from tests.webhook.receivers import (
    CLOCK,
    DEADLINE,
    OK,
    Receiver,
    Seen,
    elapsed,
    hold,
    sending,
)
from tests.webhook.test_sender import until
from tests.webhook.test_signing import OTHER, TEXT

FIRM = Backoff(retries=3, first=0.02, maximum=0.02, jitter=False)


def event(payload: Any, attempt: int = 1, failures: int = 0) -> Event:
    data = json.dumps(payload).encode()
    row: Row = (1_000_000, 5, 0, None, "webhook", data, attempt, failures, 0, 77, 0, None)
    return Event(row)


def delivered(sender: Sender, payload: Any, **more: Any) -> Any:
    """Return the outcome of one delivery."""
    deliver = webhook_handler(sender, more.pop("secrets", TEXT), **more)
    return asyncio.run(deliver(event(payload)))


@contextmanager
def node(sender: Sender, retry: Backoff = FIRM, **settings: Any) -> Iterator[Scheduler]:
    """Give a running scheduler whose events of kind "webhook" are delivered."""
    with Scheduler("memory://", settings=Settings(stats_every=0, **settings)) as scheduler:
        scheduler.on("webhook", retry=retry)(webhook_handler(sender, TEXT, retry=retry))
        scheduler.start()
        yield scheduler


def is_done(scheduler: Scheduler) -> bool:
    counts = scheduler.counts()
    return not counts.scheduled and not counts.claimed


BODIES: list[dict[str, Any]] = [
    {},
    {"body": {"z": 1, "a": "é", "😀": [1.5, None]}},
    {"body": None},
    {"text": "plain é\n"},
    {"method": "DELETE"},
    {"method": "GET"},
    {"method": "PUT", "body": [1] * 5000},
]


@pytest.mark.parametrize("more", BODIES, ids=range(len(BODIES)))
def test_what_arrives_was_signed(more: dict[str, Any]) -> None:
    """The bytes that arrive are those that were signed: the scheme's own library accepts them."""
    with Receiver() as one, sending(one.port) as sender:
        payload = Target(url=one.url(), headers={"X-Mine": "1"}, **more).payload()
        assert delivered(sender, payload) == Done()
        (seen,) = one.seen
        standardwebhooks.Webhook(TEXT).verify(seen.body, dict(seen.headers), json_parse=False)
        verified = Verifier(TEXT).verify(seen.headers, seen.body)
        assert (verified.id, verified.attempt, verified.token) == (event({}).id, 1, "77-1")
        assert seen.header("x-mine") == "1"
        assert seen.header("duetime-kind") == "webhook"
        assert seen.header("user-agent") == "Duetime"
        types = [value for name, value in seen.headers if name.lower() == "content-type"]
        assert len(types) == (1 if seen.body else 0)


def test_a_retry_has_the_same_id_and_another_time() -> None:
    """Each attempt is signed anew: same id, its own time, attempt and token."""
    url = parse_url("https://example.com/")
    target, keys = Target(url=str(url), body=1), secrets_of(f"{TEXT} {OTHER}")
    one = request_for(event({}, 1), target, url, keys, 1_700_000_000)
    two = request_for(event({}, 2), target, url, keys, 1_700_000_009)
    assert one.body == two.body == b"1"
    first, second = (
        {k: v for k, _, v in (h.partition(": ") for h in r.headers)} for r in (one, two)
    )
    assert first["webhook-id"] == second["webhook-id"] == event({}).id
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1700000000", "1700000009")
    assert (first["duetime-attempt"], second["duetime-attempt"]) == ("1", "2")
    assert first["duetime-token"] != second["duetime-token"]
    assert first["webhook-signature"] != second["webhook-signature"]
    assert len(first["webhook-signature"].split()) == 2


def test_each_endpoint_may_have_its_own_secret() -> None:
    """A target names the secret that signs it; one that is not known is no attempt at all."""
    with Receiver() as one, sending(one.port) as sender:
        secrets = {"default": TEXT, "shop": [OTHER]}
        shop = {"url": one.url(), "secret": "shop"}
        assert delivered(sender, shop, secrets=secrets) == Done()
        assert Verifier(OTHER).verify(one.seen[0].headers, b"").attempt == 1
        unknown = delivered(sender, {"url": one.url(), "secret": "shp"}, secrets=secrets)
        assert isinstance(unknown, Dead)
        assert "secret_unknown" in unknown.reason
        assert len(one.seen) == 1


def test_secrets_are_checked_when_the_handler_is_made() -> None:
    """A secret that is none is refused before anything runs."""
    bad: list[Any] = ["", "whsec_short", {"shop": "x"}, []]
    with Sender() as sender:
        for secrets in bad:
            with pytest.raises(ConfigError):
                webhook_handler(sender, secrets)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"url": "http://example.com/"}, "url_scheme"),
        ({"url": "https://127.0.0.1/"}, "url_blocked"),
        ({"url": "ftp://example.com/"}, "url_scheme"),
        ({"url": "https://example.com:22/"}, "url_blocked"),
        ({"url": "https://example.com/", "headers": {"Host": "x"}}, "header_forbidden"),
        ("https://example.com/", "target_type"),
        ({"url": "https://example.com/", "text": "x" * 300_000}, "body_too_large"),
    ],
)
def test_what_must_not_be_called_is_dead_at_once(payload: Any, code: str) -> None:
    """A payload that no attempt could deliver is given up with its code, and nothing is sent."""
    with Sender() as sender:
        outcome = delivered(sender, payload)
        assert isinstance(outcome, Dead)
        assert outcome.reason.startswith(f"{code}: ")


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor outcomes hold a secret, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    no = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    limits = Limits(failures=1, keep_answer=100)
    with Receiver(no) as one, sending(one.port, limits=limits) as sender:
        handler = webhook_handler(sender, TEXT)
        told = [repr(delivered(sender, {"url": one.url()})) for _ in range(3)]
        told += [repr(handler), repr(sender), caplog.text, repr(vars(sender))]
    assert TEXT.removeprefix("whsec_") not in " ".join(told)
    assert repr(Secret(TEXT)) == "Secret(***)"


def test_410_disables_the_endpoint() -> None:
    """A receiver that is gone ends the event, and whoever keeps the endpoints is told."""
    gone: list[tuple[str, str]] = []
    with Receiver(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n") as one:
        with sending(one.port) as sender:
            payload = {"url": one.url()}
            outcome = delivered(sender, payload, gone=lambda *what: gone.append(what))
        assert isinstance(outcome, Dead)
        assert gone == [(event({}).id, one.url())]


def test_events_call_urls() -> None:
    """Scheduled events are delivered once each when they are due, and leave the table."""
    with Receiver() as one, sending(one.port) as sender, node(sender) as scheduler:
        target = Target(url=one.url(), body={"order": 42})
        for _ in range(50):
            scheduler.schedule("webhook", target.payload(), after=0.05)
        until(lambda: len(one.seen) == 50 and is_done(scheduler))
        assert len({seen.header("webhook-id") for seen in one.seen}) == 50
        assert {seen.body for seen in one.seen} == {b'{"order":42}'}


def test_a_failed_delivery_is_made_again() -> None:
    """A receiver that fails twice gets the same event three times, each attempt numbered."""
    count = iter(range(99))

    def behave(connection: socket.socket, _seen: Seen) -> None:
        status = 500 if next(count) < 2 else 200
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    with Receiver(behave) as one, sending(one.port) as sender, node(sender) as scheduler:
        made = scheduler.schedule("webhook", {"url": one.url()})
        until(lambda: len(one.seen) == 3 and is_done(scheduler))
        assert {seen.header("webhook-id") for seen in one.seen} == {made.id}
        assert [seen.header("duetime-attempt") for seen in one.seen] == ["1", "2", "3"]


def test_a_hopeless_delivery_ends_among_the_dead() -> None:
    """After its retries an event is dead, with what the receiver answered in its history."""
    with Receiver(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as one:
        with sending(one.port) as sender, node(sender) as scheduler:
            made = scheduler.schedule("webhook", {"url": one.url()})
            until(lambda: scheduler.counts().dead)
            (dead,) = scheduler.dead()
        assert (dead.id, len(one.seen)) == (made.id, 4)
        assert dead.reason == "given up after 4 attempts: answered 404"


def test_a_dead_receiver_delays_only_itself() -> None:
    """While one receiver is silent, hundreds of events to another are on time, through one kind."""
    limits = Limits(timeout=3.0, connect=0.5, patience=0.05, failures=3, pause=30)
    backoff = Backoff(retries=18, first=30, maximum=30)
    with Receiver() as dead, Receiver() as good, sending(dead.port, good.port, limits=limits) as s:
        dead.behave = hold(dead)
        with node(s, backoff, async_workers=20) as scheduler:
            scheduler.schedule_many(
                {"kind": "webhook", "payload": {"url": dead.url("dead.test")}} for _ in range(300)
            )
            until(lambda: len(dead.seen) == 4)
            began = CLOCK.boot()
            scheduler.schedule_many(
                {"kind": "webhook", "payload": {"url": good.url()}} for _ in range(300)
            )
            until(lambda: len(good.seen) == 300)
            assert elapsed(began) < 3.0
            assert len(dead.seen) == 4


def test_a_slow_receiver_burns_no_attempts() -> None:
    """Events for which a receiver has no room come again, none counts as failed, and all arrive."""

    def slow(connection: socket.socket, _seen: Seen) -> None:
        threading.Event().wait(0.02)
        connection.sendall(OK)

    limits = Limits(timeout=1.0, at_once=4, patience=0.02)
    with Receiver(slow) as one, sending(one.port, limits=limits) as sender:
        with node(sender, Backoff(retries=0)) as scheduler:
            scheduler.schedule_many(
                {"kind": "webhook", "payload": {"url": one.url()}} for _ in range(100)
            )
            until(lambda: len(one.seen) >= 100 and is_done(scheduler))
            assert not scheduler.counts().dead
        assert len(one.seen) == 100
        attempts = [int(seen.header("duetime-attempt")) for seen in one.seen]
        assert max(attempts) > 1


def test_a_node_that_stops_cuts_calls_off() -> None:
    """A node whose grace is over does not wait for receivers, and the event is kept."""
    with Receiver() as one, sending(one.port, limits=Limits(timeout=20)) as sender:
        one.behave = hold(one)
        with node(sender, grace=0.1) as scheduler:
            scheduler.schedule("webhook", {"url": one.url()})
            until(lambda: one.seen)
            began = CLOCK.boot()
            scheduler.stop()
            assert elapsed(began) < 3
            until(lambda: not sender._calls)
            assert scheduler.counts().scheduled == {"webhook": 1}


def test_retry_after_reaches_the_event() -> None:
    """A receiver that asks for a pause gets it."""
    answer = b"HTTP/1.1 429 X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    with Receiver(answer) as one, sending(one.port) as sender:
        outcome = delivered(sender, {"url": one.url()})
    assert isinstance(outcome, Retry)
    assert isinstance(outcome.after, float)
    assert 120 <= outcome.after <= 132


def test_a_closed_sender_is_no_failure_of_the_event() -> None:
    """An event whose call was cut off because the sender closed comes again, uncounted."""
    with Receiver() as one, sending(one.port, limits=Limits(timeout=20)) as sender:
        one.behave = hold(one)

        def close() -> None:
            until(lambda: one.seen)
            sender.close()

        closer = threading.Thread(target=close)
        closer.start()
        assert delivered(sender, {"url": one.url()}) == Retry(after=0.0, counted=False)
        closer.join(DEADLINE)

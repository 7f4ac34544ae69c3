"""What a receiver accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS, from_micros
from duetime.errors import InvalidInput
from duetime.testing import FakeClock
from duetime.webhook.signing import secrets_of, sign
from duetime.webhook.verifier import Verified, Verifier
from tests.webhook.test_signing import OTHER, TEXT

NOW = 1_800_000_000
BODY = '{"order":"é"}'.encode()


def clock(seconds: int = NOW) -> Any:
    return FakeClock(from_micros(seconds * MICROS))


def verifier(secrets: str = TEXT, seconds: int = NOW, **more: Any) -> Verifier:
    return Verifier(secrets, clock=clock(seconds), **more)


def message(
    timestamp: int = NOW, secrets: str = TEXT, more: dict[str, str] | None = None
) -> dict[str, str]:
    return {
        "Webhook-Id": "e1",
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": sign(secrets_of(secrets), "e1", timestamp, BODY),
        **(more or {}),
    }


def refusal(headers: Any, body: bytes = BODY, by: Verifier | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        (by or verifier()).verify(headers, body)
    return caught.value.code


def test_what_is_genuine_is_told() -> None:
    """A signed message is accepted, whatever the case of its headers, with id and attempt."""
    headers = message(more={"Duetime-Attempt": "3", "Duetime-Token": "77-3", "X-Other": "1"})
    wanted = Verified("e1", NOW, 3, "77-3")
    assert verifier().verify(headers, BODY) == wanted
    assert verifier().verify(list(headers.items()), BODY) == wanted
    assert verifier().verify({key.lower(): value for key, value in headers.items()}, BODY) == wanted
    assert verifier().verify(message(), BODY) == Verified("e1", NOW)
    assert verifier().verify(message(more={"Duetime-Attempt": "x"}), BODY).attempt is None


@pytest.mark.parametrize("seconds", [-300, 300])
def test_a_message_within_the_tolerance_is_accepted(seconds: int) -> None:
    """Clocks may differ by five minutes."""
    assert verifier().verify(message(NOW + seconds), BODY).timestamp == NOW + seconds


@pytest.mark.parametrize("seconds", [-301, 301, -NOW, 10**11])
def test_a_message_of_another_time_is_refused(seconds: int) -> None:
    """What was signed too long ago, or in the future, is refused."""
    assert refusal(message(NOW + seconds)) == "signature_time"


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: {**headers, "Webhook-Id": "e2"},
        lambda headers: {**headers, "Webhook-Timestamp": str(NOW + 1)},
        lambda headers: {**headers, "Webhook-Signature": "v1,"},
        lambda headers: {**headers, "Webhook-Signature": "v1,AAAA"},
        lambda headers: {**headers, "Webhook-Signature": "v1,not base64!"},
        lambda headers: {**headers, "Webhook-Signature": ","},
        lambda headers: {
            **headers,
            "Webhook-Signature": headers["Webhook-Signature"].replace("v1,", "v1a,"),
        },
        lambda headers: {
            **headers,
            "Webhook-Signature": headers["Webhook-Signature"].replace("v1,", "v2,"),
        },
        lambda headers: {
            **headers,
            "Webhook-Signature": headers["Webhook-Signature"].replace("v1,", ""),
        },
        lambda _headers: message(secrets=OTHER),
    ],
    ids=range(10),
)
def test_what_was_changed_is_refused(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Another id, time, version or secret is not accepted."""
    assert refusal(change(message())) == "signature_invalid"


def test_another_body_is_refused() -> None:
    """A body that differs by one byte is not accepted, be it only in its form."""
    for body in (b"", BODY + b"\n", BODY.replace(b":", b": "), BODY[:-1]):
        assert refusal(message(), body) == "signature_invalid"


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_each_header_is_needed_once(name: str) -> None:
    """A header that is missing, empty, twice or oversized is refused."""
    headers = message()
    pairs = list(headers.items())
    for bad in (
        {key: value for key, value in headers.items() if key != name},
        {**headers, name: ""},
        [*pairs, (name.lower(), headers[name])],
        {**headers, name: headers[name] + " " * 4097},
    ):
        assert refusal(bad) == "signature_header"


@pytest.mark.parametrize(
    "headers",
    [
        {"Webhook-Id": "e.1"},
        {"Webhook-Id": "e" * 65},
        {"Webhook-Id": "é"},
        {"Webhook-Timestamp": f"{NOW}.0"},
        {"Webhook-Timestamp": f" {NOW}"},
        {"Webhook-Timestamp": "٣"},
        {"Webhook-Timestamp": "-1"},
        {"Webhook-Timestamp": "1" * 13},
        {"Webhook-Signature": " ".join(["v1,AAAA"] * 17)},
    ],
)
def test_a_header_that_cannot_be_read_is_refused(headers: dict[str, str]) -> None:
    """Ids and times are plain, and a list of signatures is short."""
    assert refusal(message(more=headers)) == "signature_header"


def test_a_replay_is_refused() -> None:
    """The very same message is accepted once; a retry of the event is another message."""
    one = verifier()
    one.verify(message(), BODY)
    assert refusal(message(), by=one) == "signature_replayed"
    one.verify(message(NOW + 1), BODY)
    assert refusal(message(NOW + 1), by=one) == "signature_replayed"


def test_a_replay_is_remembered_for_as_long_as_it_could_work() -> None:
    """A message is forgotten only when its time alone refuses it."""
    fake = clock()
    one = Verifier(TEXT, clock=fake)
    one.verify(message(NOW + 300), BODY)
    for step in range(1, 7):
        fake.advance(100 * MICROS)
        one.verify(message(NOW + 100 * step - 1), BODY)  # what is new pushes out what is old
        assert refusal(message(NOW + 300), by=one) == "signature_replayed"
    fake.advance(MICROS)
    assert refusal(message(NOW + 300), by=one) == "signature_time"
    fake.advance(1000 * MICROS)
    one.verify(message(NOW + 1601), BODY)
    assert len(one._seen) == 1


def test_what_is_not_genuine_is_not_remembered() -> None:
    """A forged message cannot keep out the genuine one, nor fill the memory."""
    one = verifier()
    assert refusal(message(), b"other", by=one) == "signature_invalid"
    assert one.verify(message(), BODY).id == "e1"


def test_the_memory_is_bounded() -> None:
    """Of many messages, the newest are remembered."""
    one = verifier(remember=10)
    for second in range(20):
        one.verify(message(NOW + second), BODY)
    assert len(one._seen) == 10
    assert refusal(message(NOW + 19), by=one) == "signature_replayed"


def test_both_keys_are_accepted_while_they_rotate() -> None:
    """A receiver that knows two secrets accepts either, and a sender may sign with both."""
    both = f"{OTHER} {TEXT}"
    for signed_with in (TEXT, OTHER, both):
        verifier(both).verify(message(secrets=signed_with), BODY)
        assert refusal(message(secrets=signed_with), by=verifier(both, NOW + 999)) != ""
    verifier(OTHER).verify(message(secrets=both), BODY)
    assert refusal(message(), by=verifier(OTHER)) == "signature_invalid"


@given(st.dictionaries(st.sampled_from([*message(), "duetime-attempt"]), st.text(max_size=40)))
def test_nothing_but_our_own_error_comes_out(changes: dict[str, str]) -> None:
    """Whatever stands in the headers, the answer is a refusal or a verified message."""
    try:
        verified = verifier().verify({**message(), **changes}, BODY)
    except InvalidInput:
        return
    assert verified.id == "e1"

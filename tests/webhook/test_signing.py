"""Secrets, signatures, and who accepts them."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS, SystemClock
from duetime.errors import ConfigError
from duetime.webhook.signing import Secret, secrets_of, sign

KEY = bytes(range(32))
TEXT = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(100, 124))).decode()


def test_known_answers() -> None:
    """The signatures of fixed messages are what other implementations compute."""
    # From the scheme's own documentation.
    documented = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (
        sign([documented], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    # By `printf 'e1.1700000000.{}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f`.
    known = "v1,wlffwUZQkbt37M+ToHohaCrA4rdHuhGxeTMYf6NdMEQ="
    assert sign([Secret(TEXT)], "e1", 1_700_000_000, b"{}") == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        TEXT.removeprefix("whsec_"),
        "WHSEC_" + TEXT.removeprefix("whsec_"),
        "whsk_" + TEXT.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(bytes(range(23))).decode(),
        "whsec_" + base64.b64encode(bytes(range(65))).decode(),
        TEXT[:-3] + "-_=",
        TEXT + "!",
        TEXT + "\n",
        "whsec_" + base64.b64encode(b"a" * 32).decode(),
        "whsec_" + base64.b64encode(b"changeme" * 4).decode()[:-1] + "é",
    ],
)
def test_a_bad_secret_is_refused_and_not_told(text: str) -> None:
    """A secret of another form, length or alphabet is refused, and its value shown nowhere."""
    with pytest.raises(ConfigError) as caught:
        Secret(text)
    assert caught.value.code == "secret_invalid"
    body = text.removeprefix("whsec_")
    assert not body or body not in f"{caught.value!s}{caught.value!r}"


@pytest.mark.parametrize("size", [24, 64])
def test_the_limits_of_length_are_allowed(size: int) -> None:
    """A secret has 24 to 64 bytes, padded or not."""
    text = "whsec_" + base64.b64encode(bytes(range(size))).decode()
    assert Secret(text) == Secret(text.rstrip("="))


def test_a_secret_shows_nowhere() -> None:
    """A secret does not show in a text, and cannot be copied into a file."""
    secret = Secret(TEXT)
    assert KEY.hex() not in f"{secret}{secret!r}{[secret]}"
    assert TEXT not in f"{secret}{secret!r}{[secret]}"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(secret)


def test_secrets_come_as_text_or_list() -> None:
    """One secret, several in a text, and a list are the same; none is refused."""
    assert secrets_of(f" {TEXT}  {OTHER}\n") == secrets_of([TEXT, Secret(OTHER)])
    assert secrets_of(Secret(TEXT)) == (Secret(TEXT),)
    assert Secret(TEXT) != Secret(OTHER)
    assert len({Secret(TEXT), Secret(TEXT), Secret(OTHER)}) == 2
    with pytest.raises(ConfigError):
        secrets_of(" ")
    with pytest.raises(ConfigError):
        secrets_of([])


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), st.lists
)


@given(json_values)
def test_the_reference_library_accepts_it(value: Any) -> None:
    """Whatever is signed, the scheme's own library verifies, with non-ASCII bodies too."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    now = SystemClock().wall() // MICROS
    headers = {
        "webhook-id": "e1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([Secret(TEXT)], "e1", now, body),
    }
    standardwebhooks.Webhook(TEXT).verify(body, headers, json_parse=False)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(TEXT).verify(body + b" ", headers, json_parse=False)


def test_keys_rotate() -> None:
    """While keys rotate both verify; afterwards the old one does not."""
    now = SystemClock().wall() // MICROS
    headers = {"webhook-id": "e1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign(secrets_of([TEXT, OTHER]), "e1", now, b"1")
    for text in (TEXT, OTHER):
        standardwebhooks.Webhook(text).verify(b"1", headers)
    headers["webhook-signature"] = sign(secrets_of(TEXT), "e1", now, b"1")
    standardwebhooks.Webhook(TEXT).verify(b"1", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER).verify(b"1", headers)

"""What an event may say of a webhook."""

from __future__ import annotations

from typing import Any

import pytest

from duetime.errors import InvalidInput
from duetime.webhook.policy import Limits, Policy
from duetime.webhook.target import METHODS, Target, target_of

URL = "https://example.com/hook"
BAD_HEADERS: list[dict[str, str]] = [
    {"X-A": "1\r\nX-B: 2"},
    {"X-A": "1\nX-B: 2"},
    {"X-A": "1\r"},
    {"X-A": "1\x00"},
    {"X-A": " 1"},
    {"X-A": "1 "},
    {"X-A": "é"},
    {"X-A\r\nX-B": "1"},
    {"X A": "1"},
    {"X-A:": "1"},
    {"": "1"},
    {"é": "1"},
    {"X" * 65: "1"},
    {"X-A": "1", "x-a": "2"},
    {"X-A": "1" * 9000},
    {f"X-{number}": "1" for number in range(41)},
]
RESERVED_TEXT = """
Host Content-Length Transfer-Encoding Connection Keep-Alive Proxy-Authorization
Proxy-Authenticate Proxy-Connection TE Trailer Upgrade HTTP2-Settings Expect Accept-Encoding
webhook-id Webhook-Timestamp WEBHOOK-SIGNATURE webhook-anything duetime-attempt Duetime-Token
"""


def refusal(value: Any) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as caught:
        target_of(value)
    return caught.value.code, caught.value.field


def test_a_target_comes_back_from_its_payload() -> None:
    """A payload says what was given and no more, and makes the same target again."""
    bare = Target(url=URL)
    assert bare.payload() == {"url": URL}
    full = Target(
        url=URL, method="PUT", headers={"X-A": "1"}, body={"é": [1, None]}, timeout=2, secret="shop"
    )
    for target in (bare, full, Target(url=URL, text="x"), Target(url=URL, body=None)):
        assert target_of(target.payload()) == target


def test_bytes_are_those_of_the_payload() -> None:
    """A body is sent as JSON with its keys in their order; a text as it is, in UTF-8."""
    assert Target(url=URL, body={"z": 1, "a": "é"}).content() == '{"z":1,"a":"é"}'.encode()
    assert Target(url=URL, body=None).content() == b"null"
    assert Target(url=URL, body="x").content() == b'"x"'
    assert Target(url=URL, text="é\n").content() == "é\n".encode()
    assert Target(url=URL).content() == b""


def test_a_body_has_a_type() -> None:
    """A content type is sent where there is a body, unless the caller gives another."""
    assert Target(url=URL).lines() == []
    assert Target(url=URL, body=1).lines() == ["Content-Type: application/json"]
    assert Target(url=URL, text="x").lines() == ["Content-Type: text/plain; charset=utf-8"]
    own = {"content-type": "text/csv", "X-Empty": ""}
    assert Target(url=URL, text="x", headers=own).lines() == ["content-type: text/csv", "X-Empty;"]


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_header_that_could_smuggle_is_refused(headers: dict[str, str]) -> None:
    """Names and values that are not plain, or too many of them, are refused."""
    assert refusal({"url": URL, "headers": headers}) == ("header_forbidden", "headers")


@pytest.mark.parametrize("name", RESERVED_TEXT.split())
def test_a_header_that_is_not_the_callers_is_refused(name: str) -> None:
    """Headers of the connection, of the message's length, and of the signature are ours."""
    for spelled in (name, name.lower(), name.upper()):
        assert refusal({"url": URL, "headers": {spelled: "1"}})[0] == "header_forbidden"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "target_type"),
        ([], "target_type"),
        ("https://example.com", "target_type"),
        ({}, "target_type"),
        ({"url": None}, "target_type"),
        ({"url": 7}, "target_type"),
        ({"url": URL, "method": 1}, "target_type"),
        ({"url": URL, "headers": []}, "target_type"),
        ({"url": URL, "headers": {"X-A": 1}}, "target_type"),
        ({"url": URL, "text": b"x"}, "target_type"),
        ({"url": URL, "timeout": "1"}, "target_type"),
        ({"url": URL, "timeout": True}, "target_type"),
        ({"url": URL, "secret": 1}, "target_type"),
        ({"url": URL, "methd": "POST"}, "field_unknown"),
        ({"url": URL, "method": "post"}, "method_invalid"),
        ({"url": URL, "method": "CONNECT"}, "method_invalid"),
        ({"url": URL, "method": "POST / HTTP/1.1\r\n"}, "method_invalid"),
        ({"url": URL, "body": 1, "text": "1"}, "body_both"),
        ({"url": URL, "body": 1, "method": "GET"}, "body_method"),
        ({"url": URL, "text": "", "method": "GET"}, "body_method"),
        ({"url": URL, "timeout": 0}, "timeout_range"),
        ({"url": URL, "timeout": -1}, "timeout_range"),
        ({"url": URL, "timeout": float("nan")}, "timeout_range"),
        ({"url": URL, "timeout": float("inf")}, "timeout_range"),
        ({"url": URL, "secret": ""}, "secret_unknown"),
        ({"url": URL, "secret": "a b"}, "secret_unknown"),
        ({"url": "http://a b/"}, "url_invalid"),
    ],
)
def test_a_bad_target_is_refused(value: Any, code: str) -> None:
    """Whatever is wrong with a target is refused when it is made, with a code."""
    assert refusal(value)[0] == code


def test_an_unknown_field_names_a_near_one() -> None:
    """A field that does not exist is refused with the one that was probably meant."""
    with pytest.raises(InvalidInput, match="did you mean timeout"):
        target_of({"url": URL, "time_out": 1})


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_of_the_list_are_allowed(method: Any) -> None:
    """Each method of the list may be called."""
    assert target_of({"url": URL, "method": method}).method == method


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Target(url=URL, timeout=31), "timeout_range"),
        (Target(url=URL, text="x" * 101), "body_too_large"),
        (Target(url=URL, body=["é" * 50]), "body_too_large"),
        (Target(url=URL, body={"x": {1, 2}, "y": object()}), "payload_type"),
        (Target(url="http://example.com/"), "url_scheme"),
        (Target(url="https://127.0.0.1/"), "url_blocked"),
        (Target(url="https://example.com:22/"), "url_blocked"),
    ],
)
def test_the_settings_decide_too(target: Target, code: str) -> None:
    """What the operator does not allow is refused when a webhook is scheduled."""
    policy, limits = Policy(), Limits(body=100)
    with pytest.raises(InvalidInput) as caught:
        target.check(policy, limits, policy.guard())
    assert caught.value.code == code


def test_what_is_allowed_passes() -> None:
    """A target within all limits gives its URL."""
    policy, limits = Policy(), Limits(body=100)
    target = Target(url=URL, text="x" * 100, timeout=30)
    assert str(target.check(policy, limits, policy.guard())) == "https://example.com:443/hook"


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "15"},
        {"at_once": True},
        {"answer": -1},
        {"timeout": 40},
        {"pause": 400},
        {"keep_answer": -1},
    ],
)
def test_limits_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    """A limit of the wrong type or size is refused when it is made."""
    with pytest.raises(InvalidInput) as caught:
        Limits(**settings)
    assert caught.value.code == "config_range"

"""A payload comes back exactly as it went in, or is refused with its path."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime import codec
from duetime.errors import InvalidInput

LIMIT = 65_536

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('abÄ\0"\\😀'), inner),
    max_leaves=20,
)


class Colour(enum.StrEnum):
    RED = "red"


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = [] if kind == "list" else {}
    for _ in range(depth - 1):
        value = [value] if kind == "list" else {"a": value}
    return value


def refusal(value: Any, limit: int = LIMIT) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        codec.encode(value, limit)
    assert caught.value.field == "payload"
    return caught.value


@given(json_values)
def test_round_trip(value: Any) -> None:
    """Every JSON value comes back equal, with the same types."""
    back = codec.decode(codec.encode(value, 10**9))
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, (dict, list))


@given(json_values)
def test_the_bytes_are_plain_json(value: Any) -> None:
    """What is stored can be read by any JSON reader."""
    assert json.loads(codec.encode(value, 10**9)) == value


@pytest.mark.parametrize(
    "number",
    [2**63, 2**64 + 1, -(2**63) - 1, 10**1000, -0.0, 5e-324],
    ids=["2^63", "2^64", "-2^63", "10^1000", "-0", "tiny"],
)
def test_numbers_are_exact(number: float) -> None:
    """Integers beyond 64 bits and extreme floats keep every digit, and the sign of zero."""
    back = codec.decode(codec.encode(number, LIMIT))
    assert back == number
    assert type(back) is type(number)
    assert repr(back) == repr(number)  # tells -0.0 from 0.0


def test_nul_and_astral_characters_survive() -> None:
    """U+0000 and characters beyond the basic plane come back."""
    assert codec.decode(codec.encode("\0\U0001f600", LIMIT)) == "\0\U0001f600"


@pytest.mark.parametrize(
    "bad",
    [object(), {1, 2}, b"x", (1,), Decimal(1), 1j, {1: "x"}, {None: 1}, bytearray(b"x"), range(3)],
)
def test_other_types_are_refused_with_their_path(bad: Any) -> None:
    """What is no JSON value is refused, and the message tells where it is."""
    error = refusal({"a": [0, OrderedDict(ok=Colour.RED), "x", bad]})
    assert error.code == "payload_type"
    assert "$.a[3] " in str(error)


def test_the_first_fault_is_named() -> None:
    """Of several faults, the first in reading order is told."""
    assert "$[0].a " in str(refusal([{"a": {1}, "b": {2}}, {3}]))


def test_a_cycle_is_refused() -> None:
    """A value that contains itself is refused as such, however it is reached."""
    cycle: dict[str, Any] = {"a": [1]}
    cycle["a"].append(cycle)
    error = refusal(cycle)
    assert error.code == "payload_type"
    assert "$.a[1] contains itself" in str(error)


def test_a_value_may_occur_twice() -> None:
    """The same list in two places is no cycle."""
    shared = [1]
    assert codec.decode(codec.encode([shared, shared], LIMIT)) == [[1], [1]]
    assert "$[2] " in str(refusal([shared, shared, {1}]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    """JSON has no NaN and no infinity."""
    assert refusal({"a": [bad]}).code == "payload_nan"


@pytest.mark.parametrize("bad", ["\ud800", {"\udfff": 1}, ["ok", {"a": "x\ud83dy"}]])
def test_lone_surrogates_are_refused(bad: Any) -> None:
    """Half a character pair is refused in values and keys."""
    assert refusal(bad).code == "payload_unicode"


def test_an_integer_that_readers_refuse_is_refused() -> None:
    """An integer so long that it would not be read back is refused, with its size."""
    error = refusal({"n": 2**20_000})
    assert error.code == "payload_number"
    assert "$.n is an integer of 20,001 bits" in str(error)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_depth_is_limited(kind: str) -> None:
    """64 levels are accepted, 65 are not, and no depth ends in a RecursionError."""
    codec.encode(nested(codec.MAX_DEPTH, kind), LIMIT)
    for depth in (codec.MAX_DEPTH + 1, 900, 100_000):
        assert refusal(nested(depth, kind), 10**9).code == "payload_depth"


def test_many_brackets_are_not_depth() -> None:
    """A wide value and brackets inside strings do not count as depth."""
    codec.encode([[], {}] * 500 + ["[" * 500], LIMIT)


def test_the_limit_is_exact() -> None:
    """A payload of just the limit is stored; one byte more is refused with limit and size."""
    assert len(codec.encode("x" * 98, 100)) == 100
    error = refusal("x" * 99, 100)
    assert error.code == "payload_too_large"
    assert "101 bytes" in str(error)
    assert "limit is 100" in str(error)


def test_the_message_does_not_show_the_payload() -> None:
    """A refusal names the place and the type, never the value beside it."""
    assert "hunter2" not in str(refusal({"password": "hunter2", "x": {1}}))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nope", b"[1]x", b"\xff", b"\x80\x04.", b"[" * 100_000]
)
def test_bytes_that_are_not_json_raise_value_error(data: bytes) -> None:
    """Decoding garbage, pickles included, raises ValueError and runs nothing."""
    with pytest.raises(ValueError, match=r"."):
        codec.decode(data)

"""Payload ⇄ bytes: a JSON value (RFC 8259) that comes back exactly as it went in."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from duetime.errors import InvalidInput

__all__ = ["MAX_DEPTH", "decode", "encode"]

MAX_DEPTH = 64
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def decode(data: bytes) -> Any:
    """Return the value; raises ValueError on bytes that are not JSON, or nested without end."""
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def encode(value: Any, limit: int) -> bytes:
    """Return a JSON value as UTF-8 bytes, or refuse it.

    Raises InvalidInput: `payload_type`, `payload_nan`, `payload_unicode`, `payload_number`,
    `payload_depth` or `payload_too_large` (more than `limit` bytes), with the path of the fault.
    """
    try:
        data = _encoder.encode(value)
        exact = _decoder.decode(data) == value
    except (RecursionError, TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        exact = False
        data = b""
    if not exact:
        _find_fault(value)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if len(data) > limit:
        raise InvalidInput(
            f"The payload takes {len(data):,} bytes as JSON; the limit is {limit:,}. "
            "Store the data elsewhere and put a reference into the payload.",
            code="payload_too_large",
            field="payload",
        )
    return data


def _find_fault(value: Any) -> None:
    """Raise for the first part of a value that does not survive JSON."""
    stack: list[tuple[Any, str, tuple[int, ...]]] = [(value, "$", ())]
    while stack:
        part, path, within = stack.pop()
        if not isinstance(part, (dict, list)):
            _check_leaf(part, path)
            continue
        if id(part) in within:
            raise _fault("payload_type", f"{path} contains itself")
        within = (*within, id(part))
        if len(within) > MAX_DEPTH:
            raise _too_deep()
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    raise _fault(
                        "payload_type", f"{path} has the key {key!r:.40}: keys must be str"
                    )
                _check_leaf(key, f"{path} (a key)")
            # Reversed, because the last one pushed is looked at first.
            stack.extend((item, f"{path}.{key:.40}", within) for key, item in [*part.items()][::-1])
        else:
            stack.extend((item, f"{path}[{i}]", within) for i, item in [*enumerate(part)][::-1])
    raise _fault("payload_type", "$ does not come back from JSON as it went in")


def _check_leaf(part: Any, path: str) -> None:
    if isinstance(part, float) and not math.isfinite(part):
        raise _fault("payload_nan", f"{path} is {part}, which JSON cannot hold")
    if isinstance(part, str):
        try:
            part.encode()
        except UnicodeEncodeError:
            raise _fault("payload_unicode", f"{path} holds a lone surrogate") from None
    try:
        exact = _decoder.decode(_encoder.encode(part)) == part
    except (RecursionError, TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        exact = False
    if not exact and isinstance(part, int):
        raise _fault("payload_number", f"{path} is an integer of {part.bit_length():,} bits")
    if not exact:
        advice = "use a list" if isinstance(part, (tuple, set, frozenset)) else "use a JSON type"
        raise _fault("payload_type", f"{path} is of type {type(part).__name__}: {advice}")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        level = [part for part in level if isinstance(part, (dict, list))]
        depth += bool(level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [
            item for part in level for item in (part.values() if isinstance(part, dict) else part)
        ]


def _too_deep() -> InvalidInput:
    return _fault("payload_depth", f"it is nested more than {MAX_DEPTH} levels deep")


def _fault(code: str, text: str) -> InvalidInput:
    return InvalidInput(f"Payload refused: {text}.", code=code, field="payload")

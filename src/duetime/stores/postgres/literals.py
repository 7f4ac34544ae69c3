"""Values as SQL literals for connections whose driver is not ours: digits and hexadecimal texts.

Nothing in them is a backslash, a quote or a percent sign, so that neither a driver's marks for
parameters nor `standard_conforming_strings` can change what they mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from duetime.stores.postgres.arrays import Array

__all__ = ["render"]

_HEAD, _LENGTH = struct.Struct("!iiIii"), struct.Struct("!i")
_TEXT, _BLOB = 25, 17  # oids of element types; all others are numbers


def render(statement: bytes, parameters: Any) -> str:
    """Return a statement with its parameters (a mapping or a sequence) filled in as literals."""
    if isinstance(parameters, Mapping):
        return statement.decode() % {name: _literal(each) for name, each in parameters.items()}
    return statement.decode() % tuple(map(_literal, parameters))


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Array):
        return f"ARRAY[{','.join(_elements(value.data))}]"
    if isinstance(value, int):
        return f"{value:d}"
    return _blob(value) if isinstance(value, bytes) else _text(value.encode())


def _elements(data: bytes) -> Iterator[str]:
    """Yield the members of a binary array."""
    dimensions, _, oid = struct.unpack_from("!iiI", data)
    at = _HEAD.size if dimensions else len(data)
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length < 0:
            yield "NULL"
            continue
        value = data[at : at + length]
        at += length
        if oid == _TEXT:
            yield _text(value)
        elif oid == _BLOB:
            yield _blob(value)
        else:
            yield str(int.from_bytes(value, "big", signed=True))


def _text(value: bytes) -> str:
    return f"convert_from({_blob(value)},'UTF8')"


def _blob(value: bytes) -> str:
    return f"decode('{value.hex()}','hex')"

"""Arrays are read by the server as what they were."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from duetime.stores.postgres import arrays
from duetime.stores.postgres.arrays import Array
from tests.stores.postgres.conftest import Admin

MAKERS = [arrays.smallints, arrays.integers, arrays.bigints, arrays.texts, arrays.blobs]
CASES: list[tuple[Callable[..., Array], str, list[Any]]] = [
    (arrays.smallints, "smallint", [0, 1, -1, 32767, -32768]),
    (arrays.smallints, "smallint", [None, 5, None]),
    (arrays.integers, "integer", [0, -1, 2**31 - 1, -(2**31)]),
    (arrays.bigints, "bigint", [0, -1, 2**63 - 1, -(2**63)]),
    (arrays.bigints, "bigint", [None]),
    (arrays.texts, "text", ["", "a", None, 'NULL {,}"\\', "\U0001f418", "x" * 70_000]),
    (arrays.blobs, "bytea", [b"", b"\0\xff", None, b"{}", b"x" * 70_000]),
]


@pytest.mark.parametrize(("make", "kind", "values"), CASES)
def test_arrays_arrive_whole(
    admin: Admin, make: Callable[..., Array], kind: str, values: list[Any]
) -> None:
    """Each element arrives with its type and value, in order, NULLs and extremes too."""
    with admin.connect() as link:
        arrays.register(link)
        array = make(values)
        found = link.execute(
            b"SELECT pg_typeof(%s)::text, x FROM unnest(%s) AS x", (array, array)
        ).fetchall()
    assert found == [(f"{kind}[]", value) for value in values]


@pytest.mark.parametrize("make", MAKERS)
def test_an_empty_array_is_one(admin: Admin, make: Callable[..., Array]) -> None:
    """An array without elements arrives as that, not as NULL."""
    with admin.connect() as link:
        arrays.register(link)
        assert link.execute("SELECT cardinality(%s)", (make([]),)).fetchall() == [(0,)]


def test_numbers_that_do_not_fit_are_refused() -> None:
    """A number that is too large for its column is an error, never another number."""
    for make, number in ((arrays.smallints, 2**15), (arrays.bigints, 2**63)):
        with pytest.raises(struct.error):
            make([number])

"""Values as SQL literals: digits, x'…' and lists of these, so that nothing else can get in.

Hexadecimal literals need no escaping, whatever the character set and SQL mode of a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from duetime.event import Row

__all__ = [
    "MOST",
    "Rendered",
    "Value",
    "event_rows",
    "names_table",
    "places",
    "render",
    "tuples",
    "value_rows",
]

MOST = 500  # members of a list: from 1,000 on MariaDB turns it into a subquery
_ROWS = 1000  # rows of one INSERT

Single = int | bytes | str | None
Value = Single | Sequence[Single]


class Rendered(str):
    """A part of a statement that was rendered already."""

    __slots__ = ()


def render(statement: str, **values: Value) -> str:
    """Return a statement with each `%(name)s` replaced by a literal."""
    return statement % {name: _literal(value) for name, value in values.items()}


def tuples(rows: Iterable[Sequence[Single]]) -> Rendered:
    """Return rows of values as `(…), (…)`."""
    return Rendered(",".join(_listed(row) for row in rows))


def places(rows: Iterable[Sequence[int]]) -> Rendered:
    """Return (shard, due_at, tail) of each as the right side of IN.

    A single one stands there twice: see `queries.sql`.
    """
    parts = [f"({shard:d},{due_at:d},{tail:d})" for shard, due_at, tail in rows]
    return Rendered(f"({','.join(parts * 2 if len(parts) == 1 else parts)})")


def names_table(names: Iterable[str]) -> Rendered:
    """Return names as a query of one column, `name`."""
    first, *rest = map(_text, names)
    return Rendered(" UNION ALL SELECT ".join([f"SELECT {first} AS name", *rest]))


def event_rows(rows: Iterable[Row], room: int) -> Iterator[Rendered]:
    """Yield rows as `(…), (…)`, so many at a time that each part stays within `room` bytes."""
    return _parts(map(_event_row, rows), room)


def value_rows(rows: Iterable[Sequence[Single]], room: int) -> Iterator[Rendered]:
    """As `event_rows`, for rows of any table."""
    return _parts(map(_listed, rows), room)


def _parts(rendered: Iterable[str], room: int) -> Iterator[Rendered]:
    parts: list[str] = []
    size = 0
    for part in rendered:
        if parts and (size + len(part) > room or len(parts) == _ROWS):
            yield Rendered(",".join(parts))
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield Rendered(",".join(parts))


def _event_row(row: Row) -> str:
    due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created, old = row
    head = f"({due_at:d},{tail:d},{shard:d},{_text(name)},x'{kind.encode().hex()}'"
    counters = f"{attempt:d},{failures:d},{crashes:d},{claim:d},{created:d}"
    return f"{head},x'{payload.hex()}',{counters},{_text(old)})"


def _text(value: str | bytes | None) -> str:
    if value is None:
        return "NULL"
    return f"x'{(value.encode() if isinstance(value, str) else value).hex()}'"


def _literal(value: Value) -> str:
    if isinstance(value, Rendered):
        return value
    if value is None or isinstance(value, str | bytes):
        return _text(value)
    if isinstance(value, int):
        return f"{value:d}"
    return _listed(value)


def _listed(values: Sequence[Single]) -> str:
    return f"({','.join(map(_literal, values))})"

"""Counts what PostgreSQL looks at for each statement that a store sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duetime.stores.postgres.session import Session

__all__ = ["PgSeen", "pg_watching"]


class PgSeen:
    """The plans of all statements, as they were carried out."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._rows = 0

    def add(self, plan: dict[str, Any]) -> None:
        """Count what the scans of a plan have looked at, wanted or not."""
        nodes = [plan]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if "Scan" in node["Node Type"] and "Relation Name" in node:
                passed = node.get("Rows Removed by Filter", 0)
                passed += node.get("Rows Removed by Index Recheck", 0)
                self._rows += round((node["Actual Rows"] + passed) * node["Actual Loops"])

    def read(self) -> int:
        """Return how many rows the server looked at."""
        return self._rows


@contextmanager
def pg_watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[PgSeen]:
    """Carry each statement out twice: first to see what it reads, which is undone."""
    inner: dict[str, Any] = {
        name: getattr(Session, name) for name in ("execute", "rows", "changed")
    }
    seen = PgSeen()

    def spy(name: str) -> Any:
        def call(session: Session, statement: bytes, parameters: Any = ()) -> Any:
            if b"duetime_" in statement:
                nested = session._open
                session._text.execute(b"SAVEPOINT look" if nested else b"BEGIN")
                text = b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement
                ((answer,),) = inner["rows"](session, text, parameters)
                session._text.execute(b"ROLLBACK TO SAVEPOINT look" if nested else b"ROLLBACK")
                seen.add(answer[0]["Plan"])
            return inner[name](session, statement, parameters)

        return call

    with monkeypatch.context() as patch:
        for name in inner:
            patch.setattr(Session, name, spy(name))
        yield seen

"""Counts what the server reads for each statement that a store sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duetime.stores.mysql.session import Session

__all__ = ["Seen", "watching"]


class Seen:
    """Every statement that a store sends, with what the server read for it."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, int]] = []

    def read(self, word: str = "") -> int:
        """Return how many rows were read by the statements with this word."""
        found = [count for text, count in self.statements if word in text]
        assert found, f"no statement with {word!r}"
        return sum(found)


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Count statements and note what they read."""
    inner: dict[str, Any] = {name: getattr(Session, name) for name in ("execute", "rows", "column")}
    seen = Seen()

    def spy(name: str) -> Any:
        def call(session: Session, statement: str) -> Any:
            before = reads(session)
            answer = inner[name](session, statement)
            seen.statements.append((statement, reads(session) - before))
            return answer

        return call

    def reads(session: Session) -> int:
        found = inner["rows"](session, "SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _, count in found)

    with monkeypatch.context() as patch:
        for name in inner:
            patch.setattr(Session, name, spy(name))
        yield seen

"""Moments around a due time, for processes that are to act on events just then."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from tests.processes.fleet import Fleet

__all__ = ["AROUND", "around"]

AROUND = 50_000  # µs before and after the due time


def around(fleet: Fleet, name: str, due: Iterable[tuple[str, int]]) -> str:
    """Write a list of events, each with a moment around its due time; return its path."""
    wishes = [
        {"id": event_id, "due": moment, "at": moment + random.randint(-AROUND, AROUND)}
        for event_id, moment in due
    ]
    path = fleet.folder / name
    path.write_text(json.dumps(wishes), "utf-8")
    return str(path)

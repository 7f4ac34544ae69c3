"""Rows that no release would write, among those that one did."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from duetime import Event
from tests.faults.judge import judge
from tests.faults.table import Record
from tests.processes.fleet import Fleet, wait_until
from tests.processes.places import ServerPlace

pytestmark = [pytest.mark.processes, pytest.mark.faults, pytest.mark.timeout(200)]

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
QUICK: dict[str, Any] = {"lease": 1.0, "beat": 0.2, "margin": 0.3, "poll": 0.1, "beater": False}
WHOLE: dict[str, Any] = {
    "due_at": 1_000_000,
    "tail": 0,
    "shard": 0,
    "name": None,
    "kind": "note",
    "payload": b"1",
    "attempt": 0,
    "failures": 0,
    "crashes": 0,
    "claim": 0,
    "created_at": 0,
    "history": None,
}
UNREADABLE: list[dict[str, Any]] = [
    {"payload": bytes(range(1, 256))},
    {"payload": b""},
    {"payload": b"{"},
    {"payload": b"\xff\xfe"},
    {"payload": b'{"a": 1} trailing'},
    {"payload": b"[" * 100_000},
    {"payload": b"\x00", "name": "given"},
    {"payload": b"nul", "kind": "async"},
]
STRANGE: list[dict[str, Any]] = [
    {"history": b'{"not": "a list"}'},
    {"history": b"[1, 2, null]"},
    {"history": b"\xff\x00\x1f"},
    {"attempt": -5, "failures": -7},
    {"attempt": 2**31 - 10, "failures": 2**31 - 10},
    {"crashes": 2**31 - 1},
    {"crashes": -1},
    {"due_at": -62_135_596_800_000_001},
    {"due_at": -1},
    {"created_at": -(2**62)},
    {"created_at": 2**62},
    {"claim": 5 << 32 | 1},
    {"claim": -1},
    {"name": "", "kind": "note"},
    {"kind": ""},
    {"kind": "\x1b[31m\u202e"},
    {"due_at": 2**62},
    {"due_at": 253_402_300_800_000_000, "shard": 3},
    {"tail": -1},
    {"tail": 2**62},
    {"shard": -1},
]


def store(place: ServerPlace, columns: dict[str, Any]) -> str:
    """Write one row past the store; return its id."""
    row = {**WHOLE, "tail": random.getrandbits(59), **columns}
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    insert(place, f"INSERT INTO duetime_events({names}) VALUES ({marks})", *row.values())
    if row["name"]:
        placed = (row["name"], row["shard"], row["due_at"], row["tail"])
        insert(place, "INSERT INTO duetime_names VALUES (%s, %s, %s, %s)", *placed)
    return Event((*row.values(),)).id


def insert(place: ServerPlace, sql: str, *values: Any) -> None:
    """Run it as it is: no word of it is a table's short name."""
    link = place.connect()
    link.cursor().execute(sql, values)
    link.close()


@pytest.mark.fault(43, "rows of nonsense")
def test_corrupt_rows_harm_nobody(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Rows of nonsense stop neither the others nor the listing; unreadable payloads are dead."""
    fleet = launch(place, **QUICK)
    unreadable, strange = set(), []
    for _ in range(size(1, 10)):
        unreadable |= {
            store(place, columns)
            for columns in UNREADABLE
            if "given" not in unreadable or not columns.get("name")
        }
    strange = [store(place, {**columns}) for columns in STRANGE]
    fault.seen = len(unreadable) + len(strange)
    (node,) = fleet.start_ready(1)
    kinds = ("note", "async", "batch")
    count = size(900, 5_000)
    due = fleet.schedule([{"kind": kinds[i % 3], "after": i / 500} for i in range(count)])
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), 60, "all others are run")
    wait_until(lambda: {event.id for event in fleet.dead()} >= unreadable, 20, "they are dead")
    more = fleet.schedule([{"kind": "note"}] * 100)
    wait_until(lambda: fleet.oracle.ids("ended") >= more.keys(), 20, "the node goes on")
    listed: list[Event] = []
    while page := fleet.scheduler.find(limit=3, after=listed[-1] if listed else None):
        listed += page
        assert len(listed) < 200
    for event in [*listed, *fleet.dead()]:
        assert repr(event)
        assert event.history is not None
    assert node.alive
    runs = fleet.oracle.runs()
    shown = {event.id for event in [*listed, *fleet.dead()]}
    assert not unreadable & fleet.oracle.ids("ended")
    assert set(strange) - runs.keys() <= shown, "neither run nor shown"
    assert all(len(runs[event_id]) == 1 for event_id in [*due, *more])
    fault.note = (
        f"{len(unreadable)} unreadable ones are dead, {len(strange)} strange ones shown or run"
    )
    for table in ("events", "dead", "names"):
        place.rows(f"DELETE FROM {table}")
    ours = due.keys() | more.keys()
    fleet.oracle.leave_out(lambda line: line.id not in ours and line.id != "-")
    judge(fleet, fault, early=10**9)

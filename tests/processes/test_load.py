"""More than a node can hold, fewer files than it wants, and rows that nobody can read."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from duetime import Event, State
from duetime.event import place_of
from tests.processes.fleet import SCALE, Fleet, scaled, wait_until
from tests.processes.oracle import micros, repeated

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180 * max(1, SCALE))]

GROWTH = 100 << 20  # bytes that a node may grow by under a backlog of any length
EVENT: dict[str, Any] = {
    "due_at": 0,
    "tail": 0,
    "shard": 0,
    "name": None,
    "kind": "note",
    "payload": b"1",
}
COUNTS: dict[str, Any] = {
    "attempt": 0,
    "failures": 0,
    "crashes": 0,
    "claim": 0,
    "created_at": 0,
    "history": None,
}


def test_a_backlog_does_not_fill_the_memory(launch: Callable[..., Fleet]) -> None:
    """A node that finds 120,000 events due runs each once and grows by no more than 100 MiB."""
    fleet = launch()
    count = scaled(120_000)
    payload = {"text": "x" * 300}
    fleet.scheduler.schedule_many({"kind": "batch", "payload": payload} for _ in range(count))
    fleet.log.write("stored")
    (node,) = fleet.start_ready(1, without=["note"])
    before = node.memory
    most = before

    def drained() -> bool:
        nonlocal most
        most = max(most, node.memory)
        return fleet.empty()

    took = wait_until(drained, 60 * max(1, SCALE), "the backlog is drained")
    wait_until(lambda: fleet.oracle.count("ended") >= count, 20, "all are written down")
    fleet.stop_all()
    runs = fleet.oracle.runs()
    print(
        f"\n{count} events due: drained in {took:.1f} s, memory {before >> 20} MiB before, "
        f"{most >> 20} MiB at most"
    )
    assert len(runs) == count
    assert not repeated(runs)
    assert most - before <= GROWTH


def test_hanging_handlers_hold_up_no_other_kind(launch: Callable[..., Fleet]) -> None:
    """Where all handlers of one kind hang, a node gives back what waits, and fires the others."""
    most = 300
    fleet = launch(max_held=most, claim_batch=100, grace=0.2)
    fleet.schedule([{"kind": "note", "payload": {"nap": 3600}} for _ in range(20_000)])
    fleet.start_ready(1)
    wait_until(lambda: held(fleet) > 10 or held(fleet) == most, 10, "handlers hang")
    due = fleet.schedule([{"kind": kind} for kind in ("async", "batch") for _ in range(200)])
    held_most = 0

    def done() -> bool:
        nonlocal held_most
        held_most = max(held_most, held(fleet))
        return fleet.oracle.ids("ended") >= due.keys()

    took = wait_until(done, 20, "the others are run")
    print(f"\nbeside 20,000 hanging events 400 others ran in {took:.2f} s; {held_most} were held")
    assert held_most <= 2 * most  # what is on its way back is still claimed
    fleet.stop_all()
    assert not fleet.counts().claimed


def held(fleet: Fleet) -> int:
    """Count the events that are claimed."""
    return int(fleet.execute("SELECT count(*) FROM events WHERE claim <> 0")[0])


def test_a_node_without_files_recovers(launch: Callable[..., Fleet]) -> None:
    """A node whose process may open no further file loses nothing, and goes on once it may."""
    fleet = launch(lease=2.0, beat=0.3, margin=0.5, beater=False)
    fleet.scheduler.store.migrate()
    (node,) = fleet.start_ready(1, "hoard", files=64)
    due = fleet.schedule([{"kind": "note", "after": i / 500} for i in range(1_000)])
    wait_until(lambda: fleet.oracle.count("exhausted") > 20, 20, "no file can be opened")
    (fleet.folder / "calm").touch()
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), 20, "all are run")
    wait_until(fleet.empty, 10, "all are settled")
    assert node.alive
    fleet.stop_all()
    assert not repeated(fleet.oracle.runs())
    assert not fleet.oracle.lines("error")


def corrupt(fleet: Fleet, columns: dict[str, Any]) -> str:
    """Write one row as no program of ours would; return its id."""
    row = {**EVENT, **COUNTS, "due_at": 1_000_000, "tail": random.getrandbits(59), **columns}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection = apsw.Connection(fleet.place.url.removeprefix("sqlite:///"))
    connection.set_busy_timeout(10_000)
    connection.execute(f"INSERT INTO duetime_events({names}) VALUES ({marks})", tuple(row.values()))
    if row["name"]:
        place = (row["name"], row["shard"], row["due_at"], row["tail"])
        connection.execute("INSERT INTO duetime_names VALUES (?, ?, ?, ?)", place)
    connection.close()
    return Event((*row.values(),)).id


def overdue(events: list[Event]) -> list[Event]:
    """Return the events that were due before now."""
    return [event for event in events if event.row[0] < micros()]


UNREADABLE: list[dict[str, Any]] = [
    {"payload": os.urandom(64)},
    {"payload": b""},
    {"payload": b"{"},
    {"payload": b"\xff\xfe"},
    {"payload": b'{"a": 1} trailing'},
    {"payload": b"[" * 100_000},
    {"payload": os.urandom(64), "name": "given"},
    {"payload": b"nul", "kind": "async"},
]
STRANGE: list[dict[str, Any]] = [
    {"history": os.urandom(64)},
    {"history": b'{"not": "a list"}'},
    {"history": b"[1, 2, null]"},
    {"attempt": -5, "failures": -7},
    {"attempt": 2**62, "failures": 2**62},
    {"crashes": 2**40},
    {"crashes": -1},
    {"due_at": -62_135_596_800_000_001},
    {"due_at": -1},
    {"created_at": -(2**62)},
    {"created_at": 2**62},
    {"claim": 5 << 32 | 1},
    {"claim": -1},
    {"name": "", "kind": "note"},
    {"kind": ""},
    {"kind": "\x1b[31m\x00\u202e"},
    {"due_at": 2**62},
    {"due_at": 253_402_300_800_000_000, "shard": 3},
    {"tail": -1},
    {"tail": 2**62},
    {"shard": -1},
]


def test_corrupt_rows_harm_nobody(launch: Callable[..., Fleet]) -> None:
    """Rows of nonsense stop neither the others nor the listing; unreadable payloads are dead."""
    fleet = launch(lease=1.0, beat=0.15, margin=0.3, beater=False)
    fleet.scheduler.store.migrate()
    batch = [{"kind": "batch", "after": 2} for _ in range(50)]
    due = fleet.schedule(batch)  # one of them is corrupt, and the others are in its batch
    spoilt = min(due)
    place = place_of(spoilt)
    assert place
    fleet.execute("UPDATE events SET payload = x'7b' WHERE tail = ?", place.tail)
    del due[spoilt]
    unreadable = {spoilt, *(corrupt(fleet, columns) for columns in UNREADABLE)}
    strange = [corrupt(fleet, columns) for columns in STRANGE]
    (node,) = fleet.start_ready(1)
    kinds = ("note", "async", "batch")
    due |= fleet.schedule([{"kind": kinds[i % 3], "after": i / 500} for i in range(900)])
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), 20, "all others are run")
    wait_until(lambda: {event.id for event in fleet.dead()} >= unreadable, 10, "they are dead")
    more = fleet.schedule([{"kind": "note"}] * 100)
    wait_until(lambda: fleet.oracle.ids("ended") >= more.keys(), 20, "the node goes on")
    listed: list[Event] = []
    while page := fleet.scheduler.find(limit=3, after=listed[-1] if listed else None):
        listed += page
        assert len(listed) < 100
    for event in [*listed, *fleet.dead()]:
        assert repr(event)
        assert event.history is not None
    assert node.alive
    for event in fleet.dead():
        if event.id in unreadable:
            assert event.reason
            assert event.attempt <= 1
    runs = fleet.oracle.runs()
    assert not unreadable & fleet.oracle.ids("ended")
    assert all(len(runs[event_id]) == 1 for event_id in [*due, *more])
    shown = {event.id for event in [*listed, *fleet.dead()]}
    assert set(strange) - runs.keys() <= shown, "neither run nor shown"
    assert fleet.counts().overdue == sum(
        event.state is State.SCHEDULED for event in overdue(listed)
    )
    fleet.stop_all()
    assert not fleet.integrity()

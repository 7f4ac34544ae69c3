"""Two releases on one database: a migration under load that is killed, and both side by side."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from duetime import DuetimeError
from duetime.errors import SchemaError
from duetime.stores import open_store
from tests.faults.judge import judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Child, Fleet, crowd, wait_until
from tests.processes.oracle import micros
from tests.processes.places import ServerPlace

pytestmark = [pytest.mark.processes, pytest.mark.faults, pytest.mark.timeout(300)]

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2, "beater": False}
ADD = "ALTER TABLE {prefix}events ADD COLUMN note INTEGER"
INDEX = "CREATE INDEX {prefix}events_by_kind ON {prefix}events(kind)"
# What the next release adds: a column and an index, which this one does not notice.
NEXT = {"sql": f"{ADD};\n{INDEX}", "name": "0002_note.since0001"}
# A statement that can be cut off after each part is written so that it can be taken again.
NEXT_AGAIN = {
    "sql": ADD.replace("COLUMN", "COLUMN IF NOT EXISTS")
    + ";\n"
    + INDEX.replace("INDEX", "INDEX IF NOT EXISTS", 1),
    "name": "0002_note.since0001",
}


def step_for(place: ServerPlace) -> dict[str, str]:
    """Return the step; where DDL commits by itself, one that can be taken again."""
    return NEXT if place.kind == "postgresql" else NEXT_AGAIN


@pytest.mark.fault(35, "migration under load, killed")
def test_a_migration_under_load_can_be_killed(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Beside 500 events/s a migration that is killed and run again harms nothing.

    A reader that holds the table open makes it wait, and nobody waits long behind it.
    """
    fleet = launch(place, **USUAL)
    nodes = fleet.start_ready(2)
    seconds = size(15, 30)
    fleet.scheduler.schedule_many(
        {"kind": "note", "after": 3600} for _ in range(size(5_000, 50_000))
    )
    count = seconds * 500
    due = fleet.schedule([{"kind": "note", "after": 2 + i / 500} for i in range(count)])
    reader = place.connect()
    cursor = reader.cursor()
    cursor.execute("BEGIN" if place.kind == "postgresql" else "START TRANSACTION")
    cursor.execute("SELECT count(*) FROM duetime_version")
    cursor.execute("SELECT due_at FROM duetime_events LIMIT 1")
    cursor.fetchall()
    wait_until(lambda: fleet.oracle.count("began") > 500, 30, "the load runs")
    kills = 0
    for _ in range(size(3, 6)):
        migrator = fleet.start("migrate", step=step_for(place))
        wait_a_little(migrator, 0.3 + random.uniform(0, 1.5))
        kills += migrator.alive
        migrator.process.send_signal(signal.SIGKILL)
        migrator.process.wait()
        fault.seen += 1
    assert not fleet.oracle.count("migrated"), "the reader did not hold it up"
    cursor.execute("ROLLBACK")
    reader.close()
    for _ in range(10):
        last = fleet.start("migrate", step=step_for(place))
        last.process.wait(60)
        if last.process.returncode == 0:
            break
    assert last.process.returncode == 0, last.errors.read_text("utf-8")[-2000:]
    after = micros()
    newer = fleet.start_ready(1, step=step_for(place))
    wait_until(lambda: fleet.oracle.ids("ended") >= due.keys(), seconds + 60, "all are run")
    runs = fleet.oracle.runs()
    late = max(runs[event_id][0].at - moment for event_id, moment in due.items()) / 1e6
    place.rows("DELETE FROM events WHERE claim = 0")  # what only made the table large
    settled(fleet)
    children = [*nodes, *newer]
    ran = {line.pid for lines in runs.values() for line in lines if line.at > after}
    errors = [line for line in fleet.oracle.lines("error") if line.pid in {c.pid for c in children}]
    fleet.stop(*fleet.running())
    verdict = judge_but_for_migrators(fleet, fault)
    fault.take_over = late
    fault.note = (
        f"{kills} migrations killed, the next one succeeded; take-over is the most that an event "
        "was late meanwhile"
    )
    assert not errors
    assert not verdict
    assert {child.pid for child in children} <= ran, "not both versions ran events"
    assert late <= 3 * crowd()


def wait_a_little(migrator: Child, seconds: float) -> None:
    """Let a migration run for so long, or to its end."""
    until = micros() + seconds * 1e6
    wait_until(lambda: micros() > until or not migrator.alive, seconds + 5, "a little later")


def judge_but_for_migrators(fleet: Fleet, fault: Record) -> list[str]:
    """Judge; a migration that gave up in time has written an error down. Return the doubled."""
    gave_up = fleet.oracle.lines("error")
    fleet.oracle.leave_out(lambda line: line in gave_up)
    return list(judge(fleet, fault).doubled)


@pytest.mark.fault(36, "two schema versions at once")
def test_two_versions_share_the_tables(
    launch: Launch, place: ServerPlace, fault: Record, size: Size
) -> None:
    """Nodes of this release and the next share the tables; what only the next knows waits for it.

    The tables of a release that shut this one out are refused.
    """
    fleet = launch(place, **USUAL)
    old = fleet.start_ready(2, without=["async"])
    count = size(1_000, 5_000)
    fleet.schedule([{"kind": "note", "after": i / 250} for i in range(count)])
    fresh = fleet.schedule([{"kind": "async", "after": i / 250} for i in range(count // 2)])
    wait_until(
        lambda: fleet.counts().parked.get("async", 0) > 10, 30, "what nobody knows is parked"
    )
    assert not fleet.oracle.ids("began") & fresh.keys()
    last = fleet.start("migrate", step=step_for(place))
    last.process.wait(60)
    assert last.process.returncode == 0, last.errors.read_text("utf-8")[-2000:]
    new = fleet.start_ready(2, step=step_for(place))
    again = fleet.start_ready(1, without=["async"])  # of this release, on the tables of the next
    later = fleet.schedule([{"kind": "note", "after": i / 500} for i in range(count)])
    settled(fleet, count / 250 + 60)
    verdict = judge(fleet, fault)
    runs = verdict.runs
    fault.seen = len(fresh)
    by = {line.pid for event_id in fresh for line in runs[event_id]}
    ran = {line.pid for event_id in later for line in runs[event_id]}
    fault.note = f"{len(fresh)} events of a kind that only the next release knows were parked"
    assert by <= {child.pid for child in new}
    assert ran >= {child.pid for child in [*old, *new, *again]}
    assert not verdict.doubled
    place.rows("UPDATE version SET name = '0002_note' WHERE number = 2")
    store = open_store(fleet.scheduler.settings)
    with pytest.raises(SchemaError) as caught:
        store.counts(0)
    with suppress(DuetimeError):
        store.close()
    assert caught.value.code == "schema_newer"
    fault.refused = 1

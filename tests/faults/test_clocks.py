"""Clocks that are set while nodes run: one node's own, and the server's, by libfaketime."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.judge import judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Fleet, crowd, wait_until
from tests.processes.oracle import EPOCH, micros
from tests.processes.places import ServerPlace, place_on
from tests.servers.local import LocalServer

pytestmark = [pytest.mark.processes, pytest.mark.faults, pytest.mark.timeout(300)]

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2, "beater": False}
PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


class Fake:
    """A clock that is told by a file how far it is off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set("+0")
        path.chmod(0o644)
        found = [
            each
            for place in PLACES
            for each in Path("/").glob(f"{place.lstrip('/')}/libfaketimeMT.so.1")
        ]
        assert found, "libfaketime is not installed: run scripts/faketime"
        self.environ = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, how: str) -> None:
        """Set the clock: "+0", "-3600", "+0 x1.01"."""
        draft = self._path.with_suffix(".part")
        draft.write_text(how + "\n")
        draft.chmod(0o644)
        draft.replace(self._path)


def pass_by(seconds: float) -> None:
    """Let time pass: how long a clock stays so."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, seconds + 10, "time passes")


STEPS = ("+3600", "-3600", "+30", "-30", "+0 x1.01", "+0")


@pytest.mark.fault(27, "a node's clock is set, ±1 h")
def test_a_nodes_clock_decides_nothing(
    launch: Launch,
    place: ServerPlace,
    fault: Record,
    size: Size,
    tmp_path: Path,
) -> None:
    """A node whose own clock is set by an hour, or drifts, fires as if nothing had been."""
    fake = Fake(tmp_path / "clock")
    # On a crowded machine a node may get no processor for seconds; an hour is far more.
    fleet = launch(place, **USUAL | {"lease": 10.0})
    epoch = time.time_ns() // 1000 - time.monotonic_ns() // 1000
    far = fleet.start(environ={**fake.environ, EPOCH: str(epoch)})
    near = fleet.start()
    fleet.ready(far, near)
    pace = size(2, 8)
    count = pace * len(STEPS) * 100
    due = fleet.schedule([{"kind": "clock", "after": 1 + i / 100} for i in range(count)])
    for step in STEPS:
        fake.set(step)
        pass_by(pace)
    settled(fleet, 60)
    seen = {
        round((int(line.note) - line.at) / 1e7) * 10
        for line in fleet.oracle.lines("clock")
        if line.pid == far.pid
    }
    runs = judge(fleet, fault, exact=True, early=50_000).runs
    late = [runs[event_id][0].at - moment for event_id, moment in due.items()]
    shares = [sum(1 for (line,) in runs.values() if line.pid == c.pid) for c in (far, near)]
    fault.seen = len(seen - {0})
    fault.note = (
        f"its clock was seen {', '.join(f'{s:+d} s' for s in sorted(seen))} off; late by "
        f"{max(late) / 1e6:.2f} s at most, early by {max(0, -min(late)) / 1e6:.4f}; shares {shares}"
    )
    assert {3600, -3600, 30, -30} <= seen, "the clock was not set: this test was blind"
    assert max(late) < 2_000_000 * crowd()


def all_ended(fleet: Fleet, due: dict[str, int]) -> bool:
    return fleet.oracle.ids("ended") >= due.keys()


def has_begun(fleet: Fleet, count: int) -> bool:
    return fleet.oracle.count("began") >= count


@pytest.mark.fault(27, "the server's clock is set, ±1 h")
def test_the_servers_clock_is_followed_and_kills_nobody(
    launch: Launch,
    serve: Callable[..., LocalServer],
    own_servers: Path,
    fault: Record,
    size: Size,
) -> None:
    """A server's clock that is set expires no lease, loses and doubles nothing.

    What becomes due by it is fired; what is not due any more waits, as long as the step at most.
    """
    fake = Fake(own_servers / "clock")
    place = place_on(serve(environ=fake.environ).address)
    fleet = launch(place, **USUAL)
    fleet.start_ready(2)
    count = size(500, 2_500)
    for step in ("+3600", "-3600", "+30", "-30"):
        due = fleet.schedule([{"kind": "note", "after": 0.2 + i / 250} for i in range(count)])
        more = fleet.oracle.count("began") + 50
        wait_until(partial(has_begun, fleet, more), 60, "some are fired")
        fake.set(step)
        off = fleet.scheduler.store.time() - micros()
        assert abs(off - int(step) * 1_000_000) < 5_000_000, "it was not set: this test was blind"
        known = micros() + 1_500_000  # by then every node has measured it
        pass_by(6.0)  # two leases, in which nobody may be held for dead
        began = [line.at for line in fleet.oracle.lines("began") if line.id in due]
        if step.startswith("-"):
            assert not [at for at in began if at > known], "fired though it is not due"
        else:
            assert len(began) == count, "not fired though it is due"
        fake.set("+0")
        fault.seen += 2
        wait_until(partial(all_ended, fleet, due), 60, "all are run")
    settled(fleet)
    verdict = judge(fleet, fault, exact=True, early=3_700_000_000)
    fault.note = f"{len(verdict.runs)} events, {verdict.total['rescued']} claims taken over"

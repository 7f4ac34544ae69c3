"""Members die, come back, lose their disks and each other: nothing is lost, and nodes move on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.galera.conftest import Shared
from tests.processes.fleet import Child, Fleet, wait_until
from tests.processes.oracle import micros, repeated
from tests.servers.galera import MEMBERS, Galera

pytestmark = [pytest.mark.processes, pytest.mark.faults, pytest.mark.timeout(180)]

SUSPECT = 5.0  # s, evs.suspect_timeout: until then the others wait for a member that is silent
FEED = {"feed": 60, "kind": "note", "nap": 0.01, "spread": 1.5}
HELD = 200  # more than a node holds at any moment at this rate


def events(fleet: Fleet) -> int:
    return len(fleet.oracle.ids("ended"))


def goes_on(fleet: Fleet, seconds: float, what: str, count: int = 100) -> float:
    """Wait until so many more events have ended."""
    before = events(fleet)
    return wait_until(lambda: events(fleet) >= before + count, seconds, what)


def stall(fleet: Fleet, since: int) -> float:
    """Return the longest time (s) from then on in which no event was scheduled on any member."""
    moments = sorted(line.at for line in fleet.oracle.lines("asked") if line.at >= since)
    return max(b - a for a, b in zip([since, *moments], moments, strict=False)) / 1e6


def settle_all(fleet: Fleet, *, doubled: int) -> None:
    """See what was acknowledged so far fired, and the rest kept; little may have run twice."""
    asked = fleet.oracle.ids("asked")
    wait_until(lambda: asked <= fleet.oracle.ids("ended"), 40, "all of it was fired")
    total = fleet.stop_all()
    waiting = fleet.oracle.ids("asked") - fleet.oracle.ids("ended")
    kept = {event.id for event in fleet.scheduler.find(limit=1_000)}
    assert waiting <= kept
    twice = repeated(fleet.oracle.runs())
    rescued, stale = total["rescued"], total["stale"]
    print(f"{len(asked)} events, {len(twice)} started twice, {rescued} rescued, {stale} stale")
    assert len(twice) <= doubled
    assert fleet.early() == []
    assert fleet.dead() == []
    by_claim = {(line.id, line.claim) for line in fleet.oracle.lines("began")}
    assert len(by_claim) == fleet.oracle.count("began"), "one claim started an event twice"


def fires_after(fleet: Fleet, child: Child, at: int) -> bool:
    """Tell whether a node has ended an event after a moment."""
    return any(line.at > at for line in fleet.oracle.lines("ended") if line.pid == child.pid)


def test_a_member_dies_and_comes_back(
    cluster: Galera, fleet: Fleet, spread: Callable[..., list[Child]]
) -> None:
    """A member is killed and rejoins by what it missed, and once more with an empty disk."""
    until = {"until": micros() + 3600 * 10**6}
    children = spread(**FEED, **until)
    goes_on(fleet, 20, "events are fired")
    for number, how in ((1, "rsync IST completed on joiner"), (2, "rsync SST completed on joiner")):
        logged = cluster.ask("log", number).count(how)
        at = micros()
        cluster.kill(number)
        assert cluster.status(number) == {}
        orphan = children[number]
        moved = wait_until(
            partial(fires_after, fleet, orphan, at + int(SUSPECT * 1e6)),
            20,
            "the node of the dead member fires events by way of another",
        )
        goes_on(fleet, 20, "events are fired without the member")
        waited = stall(fleet, at)
        if "SST" in how:
            cluster.ask("wipe", number)
        cluster.ask("launch", number)
        wait_until(partial(cluster.synced, number), 60, "the member is synced")
        assert cluster.ask("log", number).count(how) > logged
        print(f"{how} {number}, stall {waited:.1f} s, node moved in {moved:.1f} s")
        assert waited > SUSPECT / 2, "no stall: was the member part of the group at all?"
        assert waited <= SUSPECT + 3
        assert moved <= 10
        goes_on(fleet, 20, "events are fired with the member")
    for child in children:
        assert child.alive
    settle_all(fleet, doubled=2 * MEMBERS * HELD)


def test_without_a_quorum_nothing_is_started(
    cluster: Galera, fleet: Fleet, spread: Callable[..., list[Child]]
) -> None:
    """Members that are cut off from each other start nothing, and all goes on when they meet."""
    spread(**FEED, until=micros() + 3600 * 10**6)
    goes_on(fleet, 20, "events are fired")
    cluster.isolate(*range(MEMBERS))
    wait_until(
        lambda: all(
            cluster.status(n).get("wsrep_cluster_status") == "non-Primary" for n in range(MEMBERS)
        ),
        30,
        "no member has a quorum",
    )
    # What was claimed before may still be started, until the fence closes.
    time.sleep(3)
    quiet = micros()
    refused = fleet.oracle.count("refused")
    time.sleep(4)
    assert [line for line in fleet.oracle.lines("began") if line.at > quiet] == []
    assert fleet.oracle.count("refused") > refused
    cluster.heal()
    healed = goes_on(fleet, 30, "events are fired again", count=20)
    print(f"fired again {healed:.1f} s after the members met")
    settle_all(fleet, doubled=MEMBERS * HELD)


def test_a_member_that_is_cut_off_is_left(
    cluster: Galera, fleet: Fleet, spread: Callable[..., list[Child]]
) -> None:
    """The node of a member that no longer hears the others goes to one that does."""
    children = spread(**FEED, until=micros() + 3600 * 10**6)
    goes_on(fleet, 20, "events are fired")
    at = micros()
    cluster.isolate(0)
    moved = wait_until(
        partial(fires_after, fleet, children[0], at + int(SUSPECT * 1e6)),
        20,
        "the node fires events by way of another member",
    )
    assert cluster.status(0)["wsrep_cluster_status"] == "non-Primary"
    print(f"moved in {moved:.1f} s, stall {stall(fleet, at):.1f} s")
    assert moved <= 10
    cluster.heal()
    settle_all(fleet, doubled=MEMBERS * HELD)


def test_all_members_die_at_once(
    cluster: Galera, shared: Shared, fleet: Fleet, spread: Callable[..., list[Child]]
) -> None:
    """After all members were killed in one moment, everything that was acknowledged is there."""
    for number in range(MEMBERS):
        flush = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit"
        assert cluster.query(number, flush)[0][0] == 1
    spread(**FEED, until=micros() + 3600 * 10**6)
    goes_on(fleet, 20, "events are fired")
    cluster.kill(*range(MEMBERS))
    wait_until(lambda: fleet.oracle.count("refused") > 0, 20, "callers are refused")
    asked = fleet.oracle.ids("asked")
    cluster.heal()
    goes_on(fleet, 30, "events are fired again", count=20)
    assert len(asked) > 100
    settle_all(fleet, doubled=MEMBERS * HELD)

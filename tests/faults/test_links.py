"""What the network does: answers and requests that are lost, silence, slowness, partitions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from duetime import AnswerLost, Scheduler, Settings, StoreUnavailable
from tests.faults.judge import finish, judge, settled
from tests.faults.table import Record
from tests.processes.fleet import Child, Fleet, crowd, wait_until
from tests.processes.oracle import micros
from tests.processes.places import FarPlace, ServerPlace
from tests.servers.network import Network
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.processes

Size = Callable[[int, int], int]
Launch = Callable[..., Fleet]
USUAL: dict[str, Any] = {"lease": 3.0, "beat": 0.5, "margin": 1.0, "poll": 0.2, "beater": False}
LOAD: dict[str, Any] = {"feed": 60, "kind": "mark", "nap": 0.05, "spread": 0.4}
CALL = 16.0  # s that any call may take: 5 to connect, 10 for the statement, and a little


class Write(NamedTuple):
    """How a change is known by its statement, and what commits it where a transaction does."""

    parts: tuple[bytes, ...]
    commit: bytes | None = None

    def is_in(self, data: bytes) -> bool:
        return all(part in data for part in self.parts)


MYSQL = {
    "schedule": Write((b"INSERT INTO duetime_events", b"NOT EXISTS")),
    "cancel": Write((b"DELETE FROM duetime_events", b"claim = 0 AND name IS NULL")),
    "reschedule": Write((b"UPDATE duetime_events", b"SET shard = "), b"COMMIT"),
    "claim": Write((b"UPDATE duetime_events", b"SET claim = "), b"COMMIT"),
    "settle": Write((b"DELETE e FROM duetime_events", b"claim <> 0 AND name IS NULL")),
}
POSTGRES = {
    "schedule": Write((b"INSERT INTO duetime_events", b"NOT EXISTS")),
    "cancel": Write((b"DELETE FROM duetime_events", b"e.claim = 0 AND e.name IS NULL")),
    "reschedule": Write((b"SET shard = w.to_shard", b"e.claim = 0")),
    "claim": Write((b"UPDATE duetime_events", b"SET claim = ")),
    "settle": Write((b"DELETE FROM duetime_events", b"claim <> 0 AND name IS NULL")),
}


@pytest.fixture
def writes(server_kind: str) -> dict[str, Write]:
    return POSTGRES if server_kind == "postgresql" else MYSQL


@pytest.fixture
def door(place: ServerPlace, proxy: Proxy) -> Iterator[Scheduler]:
    """Return a scheduler that is no node, behind a proxy."""
    settings = Settings(store=place.at(proxy.port), stats_every=0.0)
    with Scheduler(settings=settings) as scheduler:
        yield scheduler


def has_lost(proxy: Proxy, count: int) -> bool:
    return proxy.lost >= count


def lost_at(proxy: Proxy, write: Write, call: Callable[[], object]) -> object:
    """Call while the answer to a commit gets lost; return what the caller is told."""
    before = proxy.lost
    proxy.lose(write.is_in, write.commit)
    try:
        told = call()
    except AnswerLost:
        told = AnswerLost
    assert proxy.lost == before + 1, "no answer was lost"
    return told


@pytest.mark.timeout(300)
@pytest.mark.fault(5, "answer to a commit lost")
def test_lost_answers_change_nothing(
    launch: Launch,
    place: ServerPlace,
    proxy: Proxy,
    door: Scheduler,
    writes: dict[str, Write],
    fault: Record,
    size: Size,
) -> None:
    """Whichever commit's answer is lost, each event is there once, runs once or not at all."""
    with Proxy(place.address.host, place.address.port) as before_node:
        fleet = launch(place, **USUAL)
        times = size(4, 20)
        for _ in range(times):
            make = partial(door.schedule, "note", after=0.5)
            event: Any = lost_at(proxy, writes["schedule"], make)
            assert event is not AnswerLost, "a lost insert was not sent again"
            fleet.log.write("asked", event.id)
            assert fleet.execute("SELECT count(*) FROM events WHERE tail = %s", event.row[1]) == [1]
            move = partial(door.reschedule, event.id, after=2.0)
            moved = lost_at(proxy, writes["reschedule"], move)
            assert moved in ("rescheduled", AnswerLost)
            spare = door.schedule("note", after=60)
            answer = lost_at(proxy, writes["cancel"], partial(door.cancel, spare.id))
            assert answer in ("cancelled", AnswerLost)
            assert door.get(spare.id) is None
            fleet.log.write("answer", spare.id, "cancelled")
        fleet.start_ready(1, settings={"store": place.at(before_node.port)})
        for kind in ("claim", "settle") * times:
            goal = before_node.lost + 1
            before_node.lose(writes[kind].is_in, writes[kind].commit)
            fleet.schedule([{"kind": "note", "after": 0.1}])
            wait_until(partial(has_lost, before_node, goal), 20, f"the answer to a {kind} is lost")
        settled(fleet)
        fault.seen = proxy.lost + before_node.lost
        verdict = judge(fleet, fault)
        fault.note = f"{times} of each: {', '.join(writes)}"
        assert fault.seen == 5 * times
        assert not verdict.doubled
        assert all(event.crashes == 0 for event in fleet.dead())


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(6, "request lost on its way")
def test_lost_requests_are_sent_again_or_told(
    launch: Launch,
    place: ServerPlace,
    proxy: Proxy,
    door: Scheduler,
    writes: dict[str, Write],
    fault: Record,
    size: Size,
) -> None:
    """A request that never arrives is sent again; where none arrives, the caller hears in time."""
    fleet = launch(place, **USUAL)
    for _ in range(size(5, 20)):
        proxy.swallow(writes["schedule"].is_in)
        event = door.schedule("note", after=1)
        fleet.log.write("asked", event.id)
        assert fleet.execute("SELECT count(*) FROM events WHERE tail = %s", event.row[1]) == [1]
    fault.seen = proxy.dropped
    proxy.stall()
    fault.refused = 0
    for number in range(2):
        began = time.monotonic()
        with pytest.raises((AnswerLost, StoreUnavailable)):
            door.schedule("note", after=1, id=f"stalled-{number}")
        fault.refused += 1
        fault.take_over = max(fault.take_over or 0, time.monotonic() - began)
    proxy.cut()
    proxy.go_on()
    for number in range(2):
        event = door.schedule("note", after=1, id=f"stalled-{number}")
        fleet.log.write("asked", event.id)
    counted = "SELECT count(*) FROM events WHERE name LIKE 'stalled%%' AND name <> %s"
    assert fleet.execute(counted, "-") == [2]
    finish(fleet)
    judge(fleet, fault)
    fault.note = "take-over is the longest that a caller waited to hear of silence"
    assert fault.take_over is not None
    assert fault.take_over <= 2 * CALL


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(7, "connections go silent, half-open")
def test_half_open_connections_are_left(
    launch: Launch, place: ServerPlace, proxy: Proxy, fault: Record, size: Size
) -> None:
    """Nodes whose connections go silent make new ones in time, and go on after a silence of all."""
    fleet = launch(place, **USUAL, max_crashes=1000)
    nodes = fleet.start_ready(2, settings={"store": place.at(proxy.port)}, **LOAD)
    slowest = 0.0
    for _ in range(size(1, 3)):
        more(fleet, 60)
        silent = micros()
        proxy.stall_all()
        fault.seen += 1
        wait_until(partial(fired_by_all, fleet, nodes, silent + 2_000_000), 60, "all go on")
        slowest = max(slowest, gap(fleet, nodes, silent))
    more(fleet, 60)
    proxy.stall()
    fault.seen += 1
    pass_by(size(5, 20))
    proxy.cut()
    proxy.go_on()
    healed = micros()
    wait_until(lambda: fired_by_all(fleet, nodes, healed), 60, "all go on")
    finish(fleet)
    judge(fleet, fault)
    fault.take_over = slowest
    fault.note = "take-over is the longest a node stood still when its connections went silent"
    assert slowest <= CALL * crowd()


def pass_by(seconds: float) -> None:
    """Let time pass: how long a fault lasts."""
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, seconds + 10, "time passes")


def more(fleet: Fleet, starts: int) -> None:
    """Wait until so many more handlers were started."""
    goal = fleet.oracle.count("began") + starts
    wait_until(lambda: fleet.oracle.count("began") >= goal, 60, "events go on being fired")


def fired_by_all(fleet: Fleet, nodes: list[Child], since: int) -> bool:
    """Tell whether each of these has started a handler since then."""
    started = {line.pid for line in fleet.oracle.lines("began") if line.at > since}
    return started >= {node.pid for node in nodes}


def gap(fleet: Fleet, nodes: list[Child], since: int) -> float:
    """Return the longest (s) that any of these fired nothing, from a moment on."""
    longest = 0
    for node in nodes:
        times = [
            since,
            *(line.at for line in fleet.oracle.lines("began") if line.pid == node.pid),
        ]
        times = sorted(at for at in times if at >= since)
        gaps = [b - a for a, b in pairwise(times)]
        longest = max(longest, *gaps, 0)
    return longest / 1e6


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.fault(9, "slow database, 200 ms ± 50")
def test_a_slow_database_kills_nobody(
    launch: Launch, place: ServerPlace, proxy: Proxy, fault: Record, size: Size
) -> None:
    """With 200 ms to each answer nobody is held for dead, and every event runs once."""
    fleet = launch(place, **USUAL)
    fleet.start_ready(2, settings={"store": place.at(proxy.port)})
    delayed = 0

    def delay() -> float:
        nonlocal delayed
        delayed += 1
        return random.uniform(0.075, 0.125)  # there and back

    proxy.delay = delay
    count = size(500, 5_000)
    due = fleet.schedule([{"kind": "note", "after": 3 + i / 250} for i in range(count)])
    wait_until(lambda: fleet.oracle.count("ended") >= count, count / 250 + 60, "all are run")
    settled(fleet)
    total = judge(fleet, fault, early=100_000).total
    runs = fleet.oracle.runs()
    late = sorted(runs[event_id][0].at - moment for event_id, moment in due.items())
    fault.seen = delayed
    fault.note = (
        f"late by {late[count // 2] / 1e3:.0f} ms at the median, {late[-1] / 1e3:.0f} at most, "
        f"early by {max(0, -late[0]) / 1e3:.0f} at most"
    )
    assert total["rescued"] == total["stale"] == total["dropped"] == 0
    assert max(map(len, runs.values())) == 1


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "one_way",
    [
        pytest.param(False, marks=pytest.mark.fault(10, "a node cut off from the server")),
        pytest.param(True, marks=pytest.mark.fault(11, "a node's answers cut off")),
    ],
)
def test_a_node_cut_off_is_replaced(
    launch: Launch,
    place: ServerPlace,
    fault: Record,
    size: Size,
    one_way: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A node that is cut off stops in time and is replaced, and what it says later is refused."""
    with ExitStack() as stack:
        network = stack.enter_context(Network()) if Network.possible() else None
        listen = network.host if network else "127.0.0.1"
        link = stack.enter_context(Proxy(place.address.host, place.address.port, listen))
        fleet = launch(place, **USUAL, max_crashes=1000, grace=20.0)
        stack.callback(fleet.close)
        load = {**LOAD, "nap": 0.4, "payload": {"nap_again": 3.0}}
        far = fleet.start(
            settings={"store": FarPlace(place, link.port, listen).url},
            within=network.within if network else (),
            **load,
        )
        others = [fleet.start(**LOAD) for _ in range(2)]
        fleet.ready(far, *others)
        overtime = 0.0
        for _ in range(size(1, 4)):
            more(fleet, 100)
            wait_until(partial(fired_by_all, fleet, [far], micros()), 30, "it takes part")
            cut_at = micros()
            network.cut(answers_only=one_way) if network else link.stall_all()
            held = fleet.held_by(far)
            fault.seen += 1
            pass_by(9.0)
            heal_at = micros()
            network.heal() if network else link.cut()
            starts = [
                line.at
                for line in fleet.oracle.lines("began")
                if line.pid == far.pid and cut_at < line.at < heal_at
            ]
            overtime = max(overtime, (max(starts, default=cut_at) - cut_at) / 1e6)
            taken = [
                line.at - max(cut_at, held[line.id])
                for line in fleet.oracle.lines("began")
                if line.id in held and line.pid != far.pid and line.at > cut_at
            ]
            fault.take_over = max(fault.take_over or 0.0, max(taken, default=0) / 1e6)
            wait_until(partial(fired_by_all, fleet, [far], heal_at), 60, "it comes back")
        finish(fleet)
        judge(fleet, fault)
        how = "by a network of its own" if network else "by the proxy: no network could be made"
        fault.note = f"{how}; it started nothing later than {overtime:.2f} s after the cut"
        assert overtime <= USUAL["lease"]
        assert fault.take_over
        assert fault.take_over <= (USUAL["lease"] + 2.5) * crowd()

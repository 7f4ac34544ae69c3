"""A lane says how many more events of its kind a node may claim, and how many go to a worker."""

from __future__ import annotations

import threading

from duetime.handlers import Handlers
from duetime.node.lanes import STALLED, Lane, Lanes
from duetime.retry import Backoff
from tests.unit.node.stand import MS, NOW, row, rows

LEAD = 50 * MS


def lane_of(*, cap: int = 4, batch: bool | int = False, pull: bool = False) -> Lane:
    handlers = Handlers(Backoff(), 100)
    if pull:
        return Lane(handlers.pull("k"), cap)
    return Lane(handlers.add("k", lambda _event: None, batch=batch), cap)


def lanes_of(*kinds: str, workers: int = 8) -> Lanes:
    handlers = Handlers(Backoff(), 100)
    for kind in kinds:
        handlers.add(kind, lambda _event: None)
    return Lanes(handlers, workers, 100)


def test_an_unmeasured_kind_has_all_the_room() -> None:
    """A kind of which nothing is known yet is claimed as if it were fast."""
    assert lane_of().room(NOW, LEAD) > 100_000


def test_room_is_what_can_start_within_the_lead() -> None:
    """A slow kind is claimed only as far as its workers can start within the lead."""
    lane = lane_of(cap=4)
    lane.measure(1, 25 * MS)
    assert lane.room(NOW, LEAD) == 4 * (2 + 2)
    lane.held = 10
    assert lane.room(NOW, LEAD) == 6
    lane.held = 100
    assert lane.room(NOW, LEAD) == 0


def test_a_fast_kind_has_room_for_a_whole_batch() -> None:
    """A handler of microseconds leaves room for thousands."""
    lane = lane_of(cap=4)
    lane.measure(100, 1_000)
    assert lane.room(NOW, LEAD) >= 4 * 5_000


def test_a_stalled_kind_has_no_room() -> None:
    """While its queue does not move, a kind gets nothing more, however fast it was."""
    lane = lane_of()
    lane.measure(100, 100)
    lane.rows.append(row())
    lane.moved_at = NOW
    assert lane.room(NOW + STALLED, LEAD) > 0
    assert lane.room(NOW + STALLED + 1, LEAD) == 0


def test_a_pulled_kind_has_room_for_those_who_wait() -> None:
    """A pulled kind is claimed for waiting consumers only; what runs is not in their way."""
    lane = lane_of(pull=True)
    assert lane.room(NOW, LEAD) == 0
    lane.demand = 5
    assert lane.room(NOW, LEAD) == 5
    lane.held, lane.running = 4, 1
    assert lane.room(NOW, LEAD) == 2


def test_a_chunk_takes_a_worker_about_a_millisecond() -> None:
    """One at a time while unmeasured or slow; many at once when they are fast, within limits."""
    lane = lane_of()
    assert lane.chunk() == 1
    lane.measure(1, 10 * MS)
    assert lane.chunk() == 1
    lane.pace = 10.0
    assert lane.chunk() == 100
    lane.pace = 0.001
    assert lane.chunk() == 2_000


def test_a_chunk_of_a_batch_handler_is_its_batch() -> None:
    """A batch handler never gets more events than it asked for, even if it asked for one."""
    for size in (1, 7):
        lane = lane_of(batch=size)
        lane.measure(1_000, 1_000)
        assert lane.chunk() == size


def test_the_pace_follows_slowly() -> None:
    """One odd measurement moves the pace by a part only."""
    lane = lane_of()
    lane.measure(10, 1_000)
    assert lane.pace == 100
    lane.measure(1, 1_100)
    assert 100 < lane.pace < 600
    lane.measure(1, 0)
    assert lane.pace > 0


def test_lanes_count_by_kind() -> None:
    """What is held is counted per kind, and let go again; an unknown kind is nobody's."""
    lanes = lanes_of("a", "b")
    held = [*rows(3, kind="a"), *rows(2, kind="b"), *rows(4, kind="unknown")]
    lanes.hold(held)
    assert lanes.held() == 5
    a = lanes.get("a")
    assert a is not None
    assert a.held == 3
    lanes.let_go(held)
    assert lanes.held() == 0


def test_a_kind_cannot_take_every_worker() -> None:
    """Some threads are left for other kinds, but one kind always gets one."""
    for workers, cap in ((1, 1), (2, 1), (8, 6), (16, 12)):
        lane = lanes_of("a", workers=workers).get("a")
        assert lane is not None
        assert lane.cap == cap


def test_async_kinds_have_the_limit_of_the_settings() -> None:
    """Async handlers run as many at once as `async_workers` says."""
    handlers = Handlers(Backoff(), 100)

    async def one(_event: object) -> None:
        """Do nothing."""

    handlers.add("a", one)
    handlers.add("b", one, batch=True)
    lanes = Lanes(handlers, 4, 77)
    assert [lane.cap for lane in lanes.all()] == [77, 77]


def test_a_handler_registered_later_gets_a_lane() -> None:
    """Kinds may come at any time."""
    handlers = Handlers(Backoff(), 100)
    lanes = Lanes(handlers, 4, 10)
    assert lanes.all() == []
    assert lanes.get("late") is None
    handlers.add("late", lambda _event: None)
    assert [lane.kind for lane in lanes.all()] == ["late"]
    assert lanes.get("late") is lanes.all()[0]


def test_counting_is_safe_while_kinds_come() -> None:
    """Counting what all lanes hold never fails because a kind is registered meanwhile."""
    handlers = Handlers(Backoff(), 100)
    lanes = Lanes(handlers, 4, 10)
    faults: list[BaseException] = []
    done = threading.Event()

    def count() -> None:
        try:
            while not done.is_set():
                lanes.held()
                lanes.queued()
                lanes.running()
        except RuntimeError as error:
            faults.append(error)

    counters = [threading.Thread(target=count) for _ in range(2)]
    for counter in counters:
        counter.start()
    for index in range(3_000):
        handlers.add(f"k{index}", lambda _event: None)
        lanes.get(f"k{index}")
    done.set()
    for counter in counters:
        counter.join()
    assert not faults

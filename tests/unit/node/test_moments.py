"""Threads read the clock one after another: what another noted may lie a moment ahead."""

from __future__ import annotations

from duetime.clock import MICROS
from duetime.event import CLAIM
from duetime.stores.contract import Settled, Settlement
from tests.unit.node.stand import MS, Stand, replace, rows


def test_a_worker_that_read_the_clock_later_hoards_nothing() -> None:
    """A queue that moved after the firer had read the clock keeps its rows."""
    stand = Stand(workers=2).join()
    stand.answer("k", lambda _event: None)
    stand.insert(rows(40))
    stand.claim()
    stand.fire()
    (lane,) = stand.node.lanes.all()
    waiting = len(lane.rows)
    assert waiting > 2
    lane.moved_at = stand.now + MS
    stand.node.runner.tend(stand.now)
    assert len(lane.rows) == waiting
    lane.moved_at = stand.now + 3600 * MICROS  # but a clock that was put back means nothing
    stand.node.runner.tend(stand.now)
    assert len(lane.rows) < waiting


def test_a_clock_that_is_corrected_cuts_up_no_range() -> None:
    """A claim whose first rows are done is settled by one range, though the clock steps by 1 ms."""
    stand = Stand().join()
    sent: list[Settlement] = []
    inner = stand.memory.settle

    def settle(settlement: Settlement) -> Settled:
        sent.append(settlement)
        return inner(settlement)

    replace(stand.memory, settle=settle)
    settler = stand.node.settler
    stand.insert(rows(3, shards=1))
    held = stand.memory.claim(stand.number << 32 | 77, range(4), 0, stand.now, 10)
    settler.expect(held[0][CLAIM], held)
    for one in held:
        settler.report([one], [])
        settler._next = 0
        stand.settle()
        stand.clock.offset -= MS
    assert [(len(each.ranges), len(each.done)) for each in sent] == [(1, 0)]
    assert stand.kept() == []

"""The firer hands over what is due, never early, and never while the fence is closed."""

from __future__ import annotations

from duetime.clock import MICROS
from duetime.node.fence import Fence
from tests.unit.node.stand import MS, NOW, Stand, row, rows


def loaded(due_at: int = NOW + 10 * MS) -> Stand:
    """Return a node that holds three events due in ten milliseconds."""
    stand = Stand()
    stand.answer("k", lambda _event: None)
    stand.join()
    stand.insert(rows(3, due_at))
    stand.claim()
    assert len(stand.held()) == 3
    return stand


def test_nothing_is_fired_early() -> None:
    """A microsecond before its due time an event is held, at its due time it is fired."""
    stand = loaded()
    assert stand.fire() == NOW + 10 * MS
    stand.ticker.go_on(10 * MS - 1)
    assert stand.fire() == NOW + 10 * MS
    assert stand.node.lanes.queued() == 0
    stand.ticker.go_on(1)
    stand.fire()
    assert stand.node.lanes.queued() == 3


def test_the_first_of_many_do_not_wait_for_the_last() -> None:
    """Of many events at one instant some are handed over, then more, without a pause."""
    stand = Stand()
    stand.answer("k", lambda _event: None)
    stand.join()
    stand.node.claimer.hold(stand.node.claimer.next_number(), rows(10_000, NOW))
    handed = []
    while stand.held():
        assert stand.fire() == NOW or not stand.held()
        handed.append(stand.node.lanes.queued())
    assert handed == [4_096, 8_192, 10_000]


def test_nothing_held_means_sleep() -> None:
    """With nothing held and nothing running, it waits to be woken."""
    stand = Stand().join()
    assert stand.fire() is None


def test_a_sooner_event_wakes_it() -> None:
    """When an event is claimed that is due before all others, the firer is woken."""
    stand = loaded()
    woken: list[int] = []
    stand.node.firer.wake = lambda: woken.append(1)
    number = stand.node.claimer.next_number()
    stand.node.claimer.hold(number, [row(NOW + 50 * MS, 70, claim=number)])
    assert not woken
    stand.node.claimer.hold(number, [row(NOW + 5 * MS, 71, claim=number)])
    assert woken


def test_a_closed_fence_fires_nothing() -> None:
    """A node that could not beat for lease - margin starts nothing; later it goes on."""
    stand = loaded()
    stand.ticker.go_on(2 * MICROS)
    again = stand.fire()
    assert again is not None
    assert again > stand.now
    assert stand.node.lanes.queued() == 0
    assert len(stand.held()) == 3
    stand.beat()
    stand.fire()
    assert stand.node.lanes.queued() == 3


def test_the_fence_closes_to_the_microsecond() -> None:
    """The fence is open before its moment and closed from then on."""
    fence = Fence()
    assert not fence.is_open(0)
    fence.until = 100
    assert fence.is_open(99)
    assert not fence.is_open(100)


def test_entering_the_roll_ends_the_claims_of_an_earlier_life() -> None:
    """Every claim number of a new life is higher than all of the lives before."""
    fence = Fence()
    fence.enter(5)
    assert 5 << 32 | 1 > fence.oldest > 4 << 32 | 0xFFFFFFFF


def test_a_stopped_firer_fires_nothing() -> None:
    """After a stop was asked for, nothing is started any more."""
    stand = loaded(NOW)
    stand.node.firer.stopped = True
    assert stand.fire() is None
    assert stand.node.lanes.queued() == 0

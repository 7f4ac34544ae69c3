"""Kinds that are slow, stalled, pulled, unknown, or may have killed a node, are claimed aside."""

from __future__ import annotations

from typing import Any

from duetime.clock import MICROS
from duetime.event import PARKING
from duetime.stores.contract import Kinds
from tests.unit.node.stand import MS, NOW, Stand, claims_until, ready, replace, row, rows, slow

TICK = 25 * MS


def test_many_slow_kinds_share_the_limit() -> None:
    """However many kinds are claimed on their own, together they hold no more than `max_held`."""
    kinds = [f"k{index}" for index in range(20)]
    stand = ready(*kinds, claim_batch=50, max_held=60)
    for index, kind in enumerate(kinds):
        slow(stand, kind, MICROS)
        stand.insert(rows(30, first=1 + 30 * index, kind=kind))
    for _ in range(4):
        stand.claim()
        stand.ticker.go_on(TICK)
    assert stand.node.lanes.held() == 60


def test_a_slow_kind_is_claimed_as_far_as_it_can_start() -> None:
    """A slow handler does not hoard events that another node could run."""
    stand = ready("slow", "fast", workers=4)
    slow(stand, "slow", MICROS)
    stand.insert([*rows(50, NOW - 9, kind="slow"), *rows(50, NOW, first=100, kind="fast")])
    stand.claim()
    held = [one[4] for one in stand.held()]
    assert held.count("fast") == 50
    assert held.count("slow") == 3 * 2  # three of four workers, with one more each behind it


def test_a_stalled_kind_gets_no_more() -> None:
    """While a kind's queue does not move, none of its events are claimed; the others are."""
    stand = ready("stuck", "fine")
    lane = stand.node.lanes.get("stuck")
    assert lane is not None
    lane.rows.append(row(kind="stuck", tail=900))
    lane.held, lane.moved_at = 1, NOW - MICROS
    stand.insert([*rows(5, kind="stuck"), *rows(5, first=100, kind="fine")])
    stand.claim()
    assert {one[4] for one in stand.held()} == {"fine"}
    lane.rows.clear()
    lane.held = 0
    claims_until(stand, lambda: len(stand.held()) == 10, 4)


def test_a_kind_that_recovers_is_claimed_with_the_others_again() -> None:
    """A kind that became fast again loses nothing that was passed over meanwhile."""
    stand = ready("k", "other")
    slow(stand, "k", 10**9)
    stand.insert([*rows(40, NOW - MICROS), *rows(3, first=100, kind="other")])
    for _ in range(5):
        stand.claim()
        stand.ticker.go_on(TICK)
    slow(stand, "k", 10)
    claims_until(stand, lambda: len(stand.held()) == 43, 9)
    stand.ticker.go_on(TICK)
    stand.claim()
    lane = stand.node.lanes.get("k")
    assert lane is not None
    assert lane.low is None


def test_every_shard_of_a_slow_kind_gets_its_turn() -> None:
    """A slow kind is not claimed from one shard for ever while another waits."""
    stand = ready(workers=2)
    slow(stand, "k", MICROS)
    stand.insert([row(NOW - 9, i, i % 4) for i in range(1, 81)])
    seen: set[int] = set()
    for _ in range(8):
        stand.ticker.go_on(TICK)
        stand.node.fence.until = 1 << 60
        stand.claim()
        stand.fire()
        for one in (lane := stand.node.lanes.all()[0]).rows:
            seen.add(one[2])
        stand.node.runner.return_rows(stand.node.runner.unqueue())
        slow(stand, "k", MICROS)
        lane.moved_at = stand.now
    assert seen == {0, 1, 2, 3}


def test_a_pulled_kind_is_claimed_on_demand() -> None:
    """A pulled kind is claimed for consumers that wait, and for no others."""
    stand = Stand()
    stand.handlers.pull("k")
    stand.join()
    stand.insert(rows(9))
    stand.claim()
    assert stand.held() == []
    stand.node.lanes.all()[0].demand = 3
    stand.node.claimer.want()
    stand.ticker.go_on(2 * MS)
    stand.claim()
    assert len(stand.held()) == 3


def test_an_unknown_kind_is_claimed_and_parked() -> None:
    """What nobody here knows is claimed once, parked by the runner, and not claimed again."""
    stand = ready("known")
    [name] = stand.insert([row(kind="unknown")])
    stand.live(200 * MS)
    [kept] = stand.kept()
    assert (kept[2], kept[3], kept[9], kept[6]) == (PARKING, name, 0, 0)
    before = stand.tally.claimed
    stand.live(MICROS)
    assert stand.tally.claimed == before
    assert stand.tally.parked == 1
    assert [error.text for error in stand.watch.errors if "'unknown'" in error.text]


def test_a_parked_event_is_claimed_when_its_kind_is_known() -> None:
    """As soon as a handler is registered, parked events of its kind run."""
    stand = ready("known")
    stand.insert([row(kind="late"), row(tail=2, kind="later")])
    stand.live(200 * MS)
    ran: list[str] = []
    stand.answer("late", lambda event: ran.append(event.kind))
    stand.live(MICROS)
    assert ran == ["late"]
    assert [one[4] for one in stand.kept()] == ["later"]


def test_parked_events_of_a_slow_kind_are_not_hoarded() -> None:
    """Of parked events no more are claimed than their kind has room for, whatever the others do."""
    stand = ready("known")
    stand.insert(
        [*rows(40, NOW - 1, kind="slow"), *rows(40, NOW, first=100, kind="fast", shards=4)]
    )
    stand.live(200 * MS)
    assert stand.tally.parked == 80
    stand.answer("slow", lambda _event: None)
    stand.answer("fast", lambda _event: None)
    slow(stand, "slow", 10**9)
    cap = stand.node.lanes.all()[0].cap
    for _ in range(40):
        stand.ticker.go_on(TICK)
        stand.node.fence.until = 1 << 60
        stand.claim()
    held = [one[4] for one in stand.held()]
    assert held.count("fast") == 40
    assert held.count("slow") == 2 * cap


def test_suspects_are_tried_aside_from_the_others() -> None:
    """Events that were running when a node died are claimed by themselves, many at a time."""
    stand = ready()
    stand.insert([*rows(3), *(row(NOW, 50 + i, crashes=1) for i in range(40))])
    stand.claim()
    assert {one[8] for one in stand.held()} == {0, 1}
    assert len(stand.held()) == 43
    assert stand.node.runner.suspects == 40
    numbers = {one[9] for one in stand.held() if one[8]}
    assert numbers.isdisjoint({one[9] for one in stand.held() if not one[8]})


def test_not_too_many_suspects_at_once() -> None:
    """A limited number of suspects is held at a time, and more follow as these are through."""
    stand = ready()
    stand.insert([row(NOW, i, crashes=1) for i in range(1, 301)])
    stand.claim()
    assert stand.node.runner.suspects == 64
    for _ in range(60):
        stand.live(50 * MS)
    assert stand.tally.done == 300
    assert stand.node.runner.suspects == 0


def test_a_second_death_makes_it_single() -> None:
    """What was running at two deaths is tried alone, one after the other."""
    stand = ready()
    stand.insert([row(NOW, i, crashes=2) for i in range(1, 5)])
    stand.claim()
    assert len(stand.held()) == 1
    for _ in range(4):
        stand.ticker.go_on(TICK)
        stand.node.fence.until = 1 << 60
        stand.claim()
        assert stand.node.lanes.held() == 1
    stand.live(3 * MICROS)
    assert stand.tally.done == 4


def test_singles_wait_for_other_suspects() -> None:
    """As long as any suspect is held, none that saw two deaths is begun beside it."""
    stand = ready()
    stand.insert([row(NOW, 1, crashes=1), row(NOW, 2, crashes=2)])
    stand.claim()
    stand.ticker.go_on(600 * MS)
    stand.claim()
    assert [one[1] for one in stand.held()] == [1]


def test_poison_dies_unheard() -> None:
    """What was running when its node died too often is given up without another attempt."""
    stand = ready()
    ran: list[str] = []
    stand.answer("poison", lambda event: ran.append(event.id))
    [name] = stand.insert([row(NOW, 1, kind="poison", crashes=3, attempt=3)])
    stand.insert(rows(5, first=10))
    stand.live(MICROS)
    assert ran == []
    [dead] = stand.memory._dead.values()
    assert dead.id == name
    assert "3 attempts" in (dead.reason or "")
    assert stand.tally.done == 5


def test_kinds_claimed_alone_are_left_out_of_the_wide_claim() -> None:
    """The wide claim never takes events of a kind that has no room."""
    stand = ready("slow", "fast")
    slow(stand, "slow", 10**9)
    stand.node.lanes.all()[0].held = 100
    asked: list[Kinds] = []
    claim = stand.memory.claim

    def spy(
        number: int, shards: Any, low: int, high: int, limit: int, kinds: Kinds, *r: Any
    ) -> Any:
        asked.append(kinds)
        return claim(number, shards, low, high, limit, kinds, *r)

    replace(stand.memory, claim=spy)  # to see what is asked
    stand.insert([*rows(3, kind="slow"), *rows(3, first=9, kind="fast")])
    stand.claim()
    assert Kinds(None, ("slow",)) in asked
    assert {one[4] for one in stand.held()} == {"fast"}


def test_a_crashed_event_of_a_narrow_kind_is_not_claimed_with_it() -> None:
    """Suspects are left to the search that takes them singly, in narrow kinds as well."""
    stand = ready("slow")
    slow(stand, "slow", 10**9)
    stand.insert([row(NOW, 1, kind="slow", crashes=2), row(NOW, 2, kind="slow", crashes=2)])
    stand.claim()
    assert len(stand.held()) == 1


def test_a_slow_kind_is_served_during_a_long_backlog() -> None:
    """While a backlog of fast events is claimed, slow kinds get their turn every tick."""
    stand = ready("slow", "fast", claim_batch=50, max_held=5_000)
    slow(stand, "slow", MICROS)
    stand.insert(rows(2_000, NOW - MICROS, first=100, kind="fast"))
    stand.claim()
    stand.insert(rows(3, NOW - MICROS, kind="slow"))
    steps = 0
    while not any(one[4] == "slow" for one in stand.held()):
        stand.claim()
        stand.ticker.go_on(5 * MS)
        steps += 1
        assert steps < 12
    assert stand.node.lanes.held() < 2_000


def test_when_the_next_death_is_the_last_suspects_are_tried_alone() -> None:
    """With `max_crashes=2` one death is enough to be tried alone: no innocent dies with it."""
    stand = ready(max_crashes=2)
    stand.insert([row(NOW, i, crashes=1) for i in range(1, 6)])
    stand.claim()
    assert len(stand.held()) == 1
